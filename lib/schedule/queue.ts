/** Works in the order in which their turn comes. */

import type { Lease } from "./pages.js";
import type { Work, WorkDemand } from "./work.js";

/** Where a work stands. `leaving`: it has ended, but the step under way may still write to its pages. */
export type WorkState = "waiting" | "running" | "leaving";

/** A work, and what the runner knows of it. */
export interface Entry {
  readonly work: Work;
  readonly demand: WorkDemand;
  /** Milliseconds on the runner's clock. */
  readonly submitted: number;
  /** The smallest goes first. */
  readonly rank: number;
  state: WorkState;
  /** Ends its preparation. */
  readonly controller: AbortController;
  /** Its pages while it runs. */
  lease: Lease | undefined;
  /** Works of a later turn that went past it because it did not fit. */
  overtaken: number;
  /** Its first token has come. */
  answered: boolean;
}

/**
 * The rank of a work: a level of priority is worth `ageingMs` of waiting. All that wait age alike, so ranks never change,
 * and what has waited long enough stands before every newcomer.
 */
export function rankOf(submitted: number, priority: number, ageingMs: number): number {
  return submitted - priority * ageingMs;
}

/** Entries by rank; those of one rank in the order in which they came. */
export class Queue implements Iterable<Entry> {
  readonly #entries: Entry[] = [];

  get size(): number {
    return this.#entries.length;
  }

  add(entry: Entry): void {
    let [low, high] = [0, this.#entries.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#entries[middle]!.rank <= entry.rank) low = middle + 1;
      else high = middle;
    }
    this.#entries.splice(low, 0, entry);
  }

  /** True where it was there. */
  delete(entry: Entry): boolean {
    const at = this.#entries.indexOf(entry);
    return at >= 0 && this.#entries.splice(at, 1).length > 0;
  }

  shift(): Entry | undefined {
    return this.#entries.shift();
  }

  [Symbol.iterator](): Iterator<Entry> {
    return this.#entries[Symbol.iterator]();
  }
}
