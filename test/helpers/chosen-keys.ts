/** What an attacker would choose: keys that a hash without a seed puts in one place. And what that costs, in processor time. */

import * as assert from "uvu/assert";

/** V8's hash of a small whole number as a key of a Map or Set (ComputeUnseededHash). */
function hashOf(key: number): number {
  let hash = ~key + (key << 15);
  hash ^= hash >>> 12;
  hash = (hash + (hash << 2)) | 0;
  hash ^= hash >>> 4;
  hash = Math.imul(hash, 2057);
  return hash ^ (hash >>> 16);
}

/** Whole numbers between -2^31 and 2^31 that float32 holds too, all in one of the 8192 buckets of a Map of up to 16,384. */
export function chosenNumbers(count: number): number[] {
  const chosen: number[] = [];
  for (let step = 1, size = 1; chosen.length < count; size += step) {
    if (size >= step * 2 ** 24) step *= 2;
    for (const key of [size, -size]) if ((hashOf(key) & 8191) === 0) chosen.push(key);
  }
  return chosen;
}

/** Pairs of ids from `first` on in the first tenth of a table of `2 ** bits` slots, by a hash of known multipliers. */
export function chosenPairs(count: number, first: number, bits: number): [number, number][] {
  const pairs: [number, number][] = [];
  for (let sum = 0; pairs.length < count; sum++) {
    for (let i = 0; i <= sum; i++) {
      const [left, right] = [first + i, first + sum - i];
      const hash = Math.imul(left, 0x9e3779b1) ^ Math.imul(right, 0x85ebca6b);
      if (((hash ^ (hash >>> 15)) & (2 ** bits - 1)) < count / 10) pairs.push([left, right]);
    }
  }
  return pairs.slice(0, count);
}

function processorTime(work: () => unknown): number {
  const before = process.cpuUsage();
  work();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1000;
}

/** Both take the same time but for a generous factor; keys that collide cost tens of times as much. */
export function assertAsQuick(chosen: () => unknown, ordinary: () => unknown, name: string): void {
  ordinary(); // compiled by now
  const [plain, hostile] = [processorTime(ordinary), processorTime(chosen)];
  assert.ok(hostile < 8 * Math.max(plain, 10), `${name}: ${hostile} ms, with ordinary keys ${plain} ms`);
}
