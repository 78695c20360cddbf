/** Works that do not run yet: they wait for their turn, are prepared a few ahead of the engine, and stand ready. */

import { limits } from "../defaults.js";
import { Queue, type Entry } from "./queue.js";

export interface WaitingEvents {
  /** One more is ready. */
  ready(): void;
  /** A preparation has failed; the entry stands nowhere any more. */
  failed(entry: Entry, cause: unknown): void;
}

/** Works of one kind, whose preparation has places of its own. */
class Lane {
  readonly queue = new Queue();
  /** Pictures of those that are being prepared or stand ready; a work without any counts as one. */
  taken = 0;

  /** The next whose pictures find a place; one with more than there are places goes alone. */
  shift(): Entry | undefined {
    const [next] = this.queue;
    if (!next || (this.taken > 0 && this.taken + placesOf(next) > limits.preparedAhead)) return undefined;
    this.taken += placesOf(next);
    return this.queue.shift();
  }
}

const placesOf = ({ demand }: Entry): number => Math.max(1, demand.images);

export class Waiting {
  readonly #events: WaitingEvents;
  /** Text has its own lane, so that pictures that are slow to come, such as a stalled stream, never hold it up. */
  readonly #lanes = { text: new Lane(), pictures: new Lane() };
  readonly #preparing = new Set<Entry>();
  readonly #ready = new Queue();

  constructor(events: WaitingEvents) {
    this.#events = events;
  }

  get ready(): Iterable<Entry> {
    return this.#ready;
  }

  get counts(): { waiting: number; preparing: number; ready: number } {
    const { text, pictures } = this.#lanes;
    return { waiting: text.queue.size + pictures.queue.size, preparing: this.#preparing.size, ready: this.#ready.size };
  }

  add(entry: Entry): void {
    const lane = this.#laneOf(entry);
    lane.queue.add(entry);
    this.#prepareSome(lane);
  }

  /** It runs, or has ended: its preparation is of no use any more. */
  remove(entry: Entry): void {
    const lane = this.#laneOf(entry);
    if (!lane.queue.delete(entry)) {
      if (this.#preparing.delete(entry)) entry.controller.abort();
      else if (!this.#ready.delete(entry)) return;
      lane.taken -= placesOf(entry);
    }
    this.#prepareSome(lane);
  }

  /** All of them, those first whose removal makes no room for others. */
  all(): Entry[] {
    const { text, pictures } = this.#lanes;
    return [...text.queue, ...pictures.queue, ...this.#preparing, ...this.#ready];
  }

  #laneOf({ demand }: Entry): Lane {
    return demand.images > 0 ? this.#lanes.pictures : this.#lanes.text;
  }

  #prepareSome(lane: Lane): void {
    for (let entry = lane.shift(); entry; entry = lane.shift()) void this.#prepare(entry, lane);
  }

  async #prepare(entry: Entry, lane: Lane): Promise<void> {
    this.#preparing.add(entry);
    try {
      await entry.work.prepare(entry.controller.signal);
    } catch (cause) {
      // Otherwise it has been removed meanwhile, and its outcome is nobody's.
      if (!this.#preparing.delete(entry)) return;
      lane.taken -= placesOf(entry);
      this.#events.failed(entry, cause);
      this.#prepareSome(lane);
      return;
    }
    if (!this.#preparing.delete(entry)) return;
    this.#ready.add(entry);
    this.#events.ready();
  }
}
