/** Works that do not run yet: they wait for their turn, are prepared a few ahead of the engine, and stand ready. */

import { limits } from "../defaults.js";
import { Queue, type Entry } from "./queue.js";

export interface WaitingEvents {
  /** One more is ready. */
  ready(): void;
  /** A preparation has failed; the entry stands nowhere any more. */
  failed(entry: Entry, cause: unknown): void;
}

export class Waiting {
  readonly #events: WaitingEvents;
  readonly #queue = new Queue();
  readonly #preparing = new Set<Entry>();
  readonly #ready = new Queue();

  constructor(events: WaitingEvents) {
    this.#events = events;
  }

  get ready(): Iterable<Entry> {
    return this.#ready;
  }

  get counts(): { waiting: number; preparing: number; ready: number } {
    return { waiting: this.#queue.size, preparing: this.#preparing.size, ready: this.#ready.size };
  }

  add(entry: Entry): void {
    this.#queue.add(entry);
    this.#prepareSome();
  }

  /** It runs, or has ended: its preparation is of no use any more. */
  remove(entry: Entry): void {
    this.#queue.delete(entry);
    this.#ready.delete(entry);
    if (this.#preparing.delete(entry)) entry.controller.abort();
    this.#prepareSome();
  }

  /** All of them, those first whose removal makes no room for others. */
  all(): Entry[] {
    return [...this.#queue, ...this.#preparing, ...this.#ready];
  }

  #prepareSome(): void {
    while (this.#preparing.size + this.#ready.size < limits.preparedAhead) {
      const entry = this.#queue.shift();
      if (!entry) return;
      void this.#prepare(entry);
    }
  }

  async #prepare(entry: Entry): Promise<void> {
    this.#preparing.add(entry);
    try {
      await entry.work.prepare(entry.controller.signal);
    } catch (cause) {
      // Otherwise it has been removed meanwhile, and its outcome is nobody's.
      if (!this.#preparing.delete(entry)) return;
      this.#events.failed(entry, cause);
      this.#prepareSome();
      return;
    }
    if (!this.#preparing.delete(entry)) return;
    this.#ready.add(entry);
    this.#events.ready();
  }
}
