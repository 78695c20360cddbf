/**
 * A map from two small integers to one, filled once: open addressing in typed arrays. The tokenizer asks it twice per
 * character, and a JavaScript Map would make a key of its own for each question.
 */
export class PairTable {
  private readonly lefts: Int32Array; // [capacity], -1 where a slot is free
  private readonly rights: Int32Array; // [capacity]
  private readonly values: Int32Array; // [capacity]
  private readonly mask: number;

  /** `entries`: the most pairs that will be added. */
  constructor(entries: number) {
    let capacity = 16;
    while (capacity < entries * 2) capacity *= 2;
    this.lefts = new Int32Array(capacity).fill(-1);
    this.rights = new Int32Array(capacity);
    this.values = new Int32Array(capacity);
    this.mask = capacity - 1;
  }

  /** The value of a pair, or -1. */
  get(left: number, right: number): number {
    const slot = this.slotOf(left, right);
    return this.lefts[slot] === -1 ? -1 : this.values[slot]!;
  }

  /** Adds a pair; false, and nothing changed, where it is there already. Both are at least 0. */
  add(left: number, right: number, value: number): boolean {
    const slot = this.slotOf(left, right);
    if (this.lefts[slot] !== -1) return false;
    this.lefts[slot] = left;
    this.rights[slot] = right;
    this.values[slot] = value;
    return true;
  }

  private slotOf(left: number, right: number): number {
    const hash = Math.imul(left, 0x9e3779b1) ^ Math.imul(right, 0x85ebca6b);
    let slot = (hash ^ (hash >>> 15)) & this.mask;
    while (this.lefts[slot] !== -1 && (this.lefts[slot] !== left || this.rights[slot] !== right)) slot = (slot + 1) & this.mask;
    return slot;
  }
}
