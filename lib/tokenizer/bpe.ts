/**
 * Byte-pair merging of one run of symbols, O(n log n): a linked list of symbols and a heap of the merges that are possible,
 * ordered by rank and then by place, leftmost first.
 */

import { PairTable } from "./pair-table.js";

/** Merges by index; those of equal rank are done from left to right. */
export interface MergeList {
  /** Symbols joined and symbol made, [merges]. */
  left: Int32Array;
  right: Int32Array;
  made: Int32Array;
  /** Lower goes first, [merges]; below 2^21, so that a rank and a place fit one float64. */
  rank: Int32Array;
}

const kPlaces = 2 ** 32;
/** Runs up to this long share their scratch memory; a longer one takes its own and gives it back. */
const kSharedLength = 4096;

export class PairMerger {
  private readonly pairs: PairTable;
  private readonly shared = new Scratch(kSharedLength);

  /** Throws nothing: that no pair occurs twice is the reader's to check. */
  constructor(private readonly merges: MergeList) {
    this.pairs = new PairTable(merges.left.length);
    for (let i = 0; i < merges.left.length; i++) this.pairs.add(merges.left[i]!, merges.right[i]!, i);
  }

  /** Merges `symbols[0..count)` in place and returns how many are left. */
  merge(symbols: Int32Array, count: number): number {
    if (count < 2) return count;
    const { rank, made } = this.merges;
    const scratch = count <= kSharedLength ? this.shared : new Scratch(count);
    const { next, previous, candidate, heap } = scratch;
    heap.clear();
    for (let i = 0; i < count; i++) {
      next[i] = i + 1;
      previous[i] = i - 1;
      candidate[i] = i + 1 < count ? this.pairs.get(symbols[i]!, symbols[i + 1]!) : -1;
      if (candidate[i]! >= 0) heap.push(rank[candidate[i]!]! * kPlaces + i);
    }
    while (heap.size > 0) {
      const top = heap.pop();
      const place = top % kPlaces;
      const merge = candidate[place]!;
      // An entry outlives what it spoke of when one of the two symbols went into another merge.
      if (merge < 0 || rank[merge] !== (top - place) / kPlaces) continue;
      const gone = next[place]!;
      symbols[place] = made[merge]!;
      candidate[gone] = -1;
      const after = next[gone]!;
      next[place] = after;
      if (after < count) previous[after] = place;
      candidate[place] = after < count ? this.pairs.get(symbols[place]!, symbols[after]!) : -1;
      if (candidate[place]! >= 0) heap.push(rank[candidate[place]!]! * kPlaces + place);
      const before = previous[place]!;
      if (before < 0) continue;
      candidate[before] = this.pairs.get(symbols[before]!, symbols[place]!);
      if (candidate[before]! >= 0) heap.push(rank[candidate[before]!]! * kPlaces + before);
    }
    let left = 0;
    for (let i = 0; i < count; i = next[i]!) symbols[left++] = symbols[i]!;
    return left;
  }
}

/** Working memory for runs of up to `length` symbols. */
class Scratch {
  readonly next: Int32Array; // [length], the symbol to the right
  readonly previous: Int32Array; // [length], the symbol to the left, -1 at the start
  readonly candidate: Int32Array; // [length], merge possible with the symbol to the right, -1 for none
  readonly heap: Heap;

  constructor(length: number) {
    this.next = new Int32Array(length);
    this.previous = new Int32Array(length);
    this.candidate = new Int32Array(length);
    // One entry per neighbouring pair at first; each merge takes one out and puts at most two in.
    this.heap = new Heap(2 * length);
  }
}

/** A binary heap of numbers, smallest first. */
class Heap {
  size = 0;
  private readonly items: Float64Array;

  constructor(capacity: number) {
    this.items = new Float64Array(capacity);
  }

  clear(): void {
    this.size = 0;
  }

  push(item: number): void {
    const items = this.items;
    let place = this.size++;
    while (place > 0) {
      const parent = (place - 1) >> 1;
      if (items[parent]! <= item) break;
      items[place] = items[parent]!;
      place = parent;
    }
    items[place] = item;
  }

  /** Takes out the smallest; only while `size` is above 0. */
  pop(): number {
    const items = this.items;
    const top = items[0]!;
    const size = --this.size;
    const last = items[size]!;
    let place = 0;
    for (;;) {
      let child = 2 * place + 1;
      if (child >= size) break;
      if (child + 1 < size && items[child + 1]! < items[child]!) child++;
      if (items[child]! >= last) break;
      items[place] = items[child]!;
      place = child;
    }
    items[place] = last;
    return top;
  }
}
