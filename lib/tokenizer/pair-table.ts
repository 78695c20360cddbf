import { randomInt } from "node:crypto";

/**
 * Odd, and drawn anew in every process: which pairs a vocabulary merges is its maker's choice, who could choose a hundred
 * thousand that a known hash puts in one place. Multiplied by numbers that nobody knows, few of any choice meet.
 */
const [kLeft, kRight, kSum] = [oddNumber(), oddNumber(), oddNumber()];

function oddNumber(): number {
  return randomInt(2 ** 32) | 1;
}

/**
 * A map from two small integers to one, filled once: open addressing in typed arrays. The tokenizer asks it twice per
 * character, and a JavaScript Map would make a key of its own for each question.
 */
export class PairTable {
  private readonly lefts: Int32Array; // [capacity], -1 where a slot is free
  private readonly rights: Int32Array; // [capacity]
  private readonly values: Int32Array; // [capacity]
  private readonly mask: number;
  /** From 32 bits to the upper ones, as many as a slot's number has: the lower ones of a product know little. */
  private readonly shift: number;

  /** `entries`: the most pairs that will be added. */
  constructor(entries: number) {
    let capacity = 16;
    while (capacity < entries * 2) capacity *= 2;
    this.lefts = new Int32Array(capacity).fill(-1);
    this.rights = new Int32Array(capacity);
    this.values = new Int32Array(capacity);
    this.mask = capacity - 1;
    this.shift = Math.clz32(this.mask);
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
    const sum = (Math.imul(left, kLeft) + Math.imul(right, kRight)) | 0;
    let slot = Math.imul(sum ^ (sum >>> 15), kSum) >>> this.shift;
    while (this.lefts[slot] !== -1 && (this.lefts[slot] !== left || this.rights[slot] !== right)) slot = (slot + 1) & this.mask;
    return slot;
  }
}
