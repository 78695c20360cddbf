/** Counts values by size, as Prometheus wants them. */
export class Histogram {
  /** Upper bounds, ascending; a last bucket takes what is beyond. */
  readonly bounds: readonly number[];
  readonly #counts: number[];
  #sum = 0;

  constructor(bounds: readonly number[]) {
    this.bounds = bounds;
    this.#counts = new Array<number>(bounds.length + 1).fill(0);
  }

  add(value: number): void {
    const at = this.bounds.findIndex((bound) => value <= bound);
    this.#counts[at < 0 ? this.bounds.length : at]! += 1;
    this.#sum += value;
  }

  get sum(): number {
    return this.#sum;
  }

  /** Values up to each bound, and last all of them, [bounds + 1]. */
  get cumulative(): number[] {
    let sum = 0;
    return this.#counts.map((count) => (sum += count));
  }
}
