/** A clock that stands still until a test moves it. */

import type { Clock } from "../../lib/clock.js";

export class FakeClock implements Clock {
  #now = 0;
  #last = 0;
  /** By the order of their making, with the moment at which they fall due. */
  readonly #timers = new Map<number, { due: number; call: () => void }>();

  now(): number {
    return this.#now;
  }

  after(ms: number, call: () => void): () => void {
    const timer = ++this.#last;
    this.#timers.set(timer, { due: this.#now + ms, call });
    return () => void this.#timers.delete(timer);
  }

  /** Timers that have not fallen due. */
  get pending(): number {
    return this.#timers.size;
  }

  advance(ms: number): void {
    this.#now += ms;
    for (const [timer, { due, call }] of [...this.#timers]) {
      if (due <= this.#now && this.#timers.delete(timer)) call();
    }
  }
}
