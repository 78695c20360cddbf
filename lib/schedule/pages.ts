/** The pages of the KV pool: which are free, and how many use the others. Their bytes belong to native code. */

/** Hands out page ids 0 to `size` - 1, the one freed last first, so that a lightly used pool touches little memory. */
export class PagePool {
  readonly size: number;
  readonly #free: Int32Array;
  /** By page; 0 where it is free. */
  readonly #users: Uint8Array;
  #freeCount: number;

  constructor(size: number) {
    this.size = size;
    this.#free = Int32Array.from({ length: size }, (_, i) => size - 1 - i);
    this.#users = new Uint8Array(size);
    this.#freeCount = size;
  }

  get free(): number {
    return this.#freeCount;
  }

  get inUse(): number {
    return this.size - this.#freeCount;
  }

  /** All of `count` pages with one user each, or `undefined` where fewer are free. */
  take(count: number): Int32Array | undefined {
    if (count > this.#freeCount) return undefined;
    this.#freeCount -= count;
    const pages = this.#free.slice(this.#freeCount, this.#freeCount + count).reverse();
    for (const page of pages) this.#users[page] = 1;
    return pages;
  }

  /** One user more for each of these pages, all of them in use; at most 255 each. */
  share(pages: Int32Array): void {
    for (const page of pages) {
      if (!(this.#users[page]! > 0)) throw new RangeError(`[pages] expected a page in use to be shared but received ${page}`);
      this.#users[page]! += 1;
    }
  }

  /** One user less for each; a page without users is free. */
  give(pages: Int32Array): void {
    for (let i = pages.length - 1; i >= 0; i--) {
      const page = pages[i]!;
      if (!(this.#users[page]! > 0)) throw new RangeError(`[pages] expected a page in use to be given back but received ${page}`);
      this.#users[page]! -= 1;
      if (this.#users[page] === 0) this.#free[this.#freeCount++] = page;
    }
  }
}

/** The pages of one work, as tables that are given back one by one. A page in several tables is free after the last of them. */
export class Lease {
  readonly #pool: PagePool;
  readonly pages: Int32Array;
  readonly #tables: Set<Int32Array>;

  /** @param pages taken from the pool; the lease's one table until it is split */
  constructor(pool: PagePool, pages: Int32Array) {
    this.#pool = pool;
    this.pages = pages;
    this.#tables = new Set([pages]);
  }

  /** Replaces the one table by several, which name all of its pages. */
  split(tables: readonly Int32Array[]): void {
    for (const table of tables) {
      this.#pool.share(table);
      this.#tables.add(table);
    }
    this.give(this.pages);
  }

  /** Gives a table back; nothing happens to one that has been given. */
  give(table: Int32Array): void {
    if (this.#tables.delete(table)) this.#pool.give(table);
  }

  /** Gives back what is left. */
  end(): void {
    for (const table of this.#tables) this.give(table);
  }
}
