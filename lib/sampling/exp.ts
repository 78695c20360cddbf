/**
 * e^x for x <= 0, from additions and multiplications alone: the C library's and JavaScript's own differ in the last
 * bit, and one bit may choose another token. native/engine/sampler.cc computes the same, operation by operation.
 */

const log2e = 1.4426950408889634;
/** ln 2 in two parts; the high one has few bits, so that its multiples are exact. */
const ln2High = 0.6931471803691238;
const ln2Low = 1.9082149292705877e-10;
/** Terms of the series; the next one is below half a unit in the last place for |rest| <= ln 2 / 2. */
const terms = 14;

const scale = new Float64Array(1);
const scaleWords = new Uint32Array(scale.buffer);
const highWord = new Uint8Array(Uint32Array.of(1).buffer)[0] === 1 ? 1 : 0;

/** Relative error below 1e-15; 0 below -708. */
export function expNonPositive(x: number): number {
  if (!(x > -708)) return 0;
  const exponent = Math.floor(x * log2e + 0.5);
  const rest = x - exponent * ln2High - exponent * ln2Low;
  let sum = 1;
  for (let n = terms; n >= 1; n--) sum = 1 + (sum * rest) / n;
  // 2 ** exponent by its bits: Math.pow is not bound to be exact.
  scaleWords[highWord] = (exponent + 1023) << 20;
  return sum * scale[0]!;
}
