const slotMs = 1000;
const slots = 10;

/** How fast a count has risen over the last ten seconds, or since the beginning where that is less. */
export class Rate {
  readonly #began: number;
  readonly #counts = new Float64Array(slots);
  /** The slot that is being filled, counted from the beginning. */
  #slot = 0;

  /** @param now milliseconds, as in every call */
  constructor(now: number) {
    this.#began = now;
  }

  add(count: number, now: number): void {
    this.#advance(now);
    this.#counts[this.#slot % slots]! += count;
  }

  perSecond(now: number): number {
    this.#advance(now);
    const first = Math.max(0, this.#slot - slots + 1);
    const ms = now - (this.#began + first * slotMs);
    return ms > 0 ? (1000 * this.#counts.reduce((sum, count) => sum + count, 0)) / ms : 0;
  }

  #advance(now: number): void {
    const slot = Math.floor((now - this.#began) / slotMs);
    if (slot - this.#slot >= slots) this.#counts.fill(0);
    else for (let passed = this.#slot + 1; passed <= slot; passed++) this.#counts[passed % slots] = 0;
    this.#slot = Math.max(this.#slot, slot);
  }
}
