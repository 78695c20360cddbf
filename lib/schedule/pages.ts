/** The pages of the KV pool: which are free. Their bytes belong to native code. */

/** Hands out page ids 0 to `size` - 1, the one freed last first, so that a lightly used pool touches little memory. */
export class PagePool {
  readonly size: number;
  readonly #free: Int32Array;
  /** 1 where a page is taken. */
  readonly #taken: Uint8Array;
  #freeCount: number;

  constructor(size: number) {
    this.size = size;
    this.#free = Int32Array.from({ length: size }, (_, i) => size - 1 - i);
    this.#taken = new Uint8Array(size);
    this.#freeCount = size;
  }

  get inUse(): number {
    return this.size - this.#freeCount;
  }

  /** All of `count` pages, or `undefined` where fewer are free. */
  take(count: number): Int32Array | undefined {
    if (count > this.#freeCount) return undefined;
    this.#freeCount -= count;
    const pages = this.#free.slice(this.#freeCount, this.#freeCount + count).reverse();
    for (const page of pages) this.#taken[page] = 1;
    return pages;
  }

  give(pages: Int32Array): void {
    for (const page of pages) {
      if (this.#taken[page] !== 1) throw new RangeError(`[pages] expected a page in use to be given back but received ${page}`);
      this.#taken[page] = 0;
    }
    this.#free.set(pages.slice().reverse(), this.#freeCount);
    this.#freeCount += pages.length;
  }
}
