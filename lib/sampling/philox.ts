/**
 * Philox4x32-10: random numbers as a pure function of (key, counter), so that a draw does not depend on what was drawn
 * before it, nor on who shares a batch. native/engine/sampler.cc computes the same.
 *
 * Keys and counters of this package: the key is the 64-bit seed, low word first. Sampling draws with the counter
 * (position, sample, 0, 0), where position is the place that the new token takes in the sequence and sample its index
 * among the samples of one request; pruning at random draws with (draw, cut, 0, 1).
 */

export type Words = readonly [number, number, number, number];

const multiplier0 = 0xd2511f53n;
const multiplier1 = 0xcd9e8d57n;
const weyl0 = 0x9e3779b9;
const weyl1 = 0xbb67ae85;

/** Ten rounds. Every word is an unsigned 32-bit integer. */
export function philox(key: readonly [low: number, high: number], counter: Words): Words {
  let [c0, c1, c2, c3] = counter;
  let [k0, k1] = key;
  for (let round = 0; round < 10; round++) {
    const product0 = multiplier0 * BigInt(c0);
    const product1 = multiplier1 * BigInt(c2);
    const [high0, low0] = [Number(product0 >> 32n), Number(product0 & 0xffffffffn)];
    const [high1, low1] = [Number(product1 >> 32n), Number(product1 & 0xffffffffn)];
    [c0, c1, c2, c3] = [(high1 ^ c1 ^ k0) >>> 0, low1, (high0 ^ c3 ^ k1) >>> 0, low0];
    k0 = (k0 + weyl0) >>> 0;
    k1 = (k1 + weyl1) >>> 0;
  }
  return [c0, c1, c2, c3];
}

/** The first two words as a number in [0, 1), 53 bits. */
export function uniform(words: Words): number {
  return ((words[0] >>> 5) * 67108864 + (words[1] >>> 6)) / 9007199254740992;
}

/** A seed of up to 53 bits as the key. */
export function keyOf(seed: number): readonly [low: number, high: number] {
  return [seed % 4294967296, Math.floor(seed / 4294967296)];
}
