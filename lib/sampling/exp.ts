/**
 * exp(x) for x <= 0 in 64-bit floats, from additions and multiplications alone: Math.exp and the C library's exp differ
 * in the last bit, and native/engine/sampler.cc must choose the same tokens. Relative error below 3e-16.
 */

const log2e = 1.4426950408889634;
// ln 2 in two parts; the first has trailing zeros, so that its product with an exponent is exact.
const ln2High = 0.6931471803691238;
const ln2Low = 1.9082149292705877e-10;
const terms = 14;

const scale = new Float64Array(1);
const scaleWords = new Uint32Array(scale.buffer);
const highWord = new Uint8Array(new Uint32Array([1]).buffer)[0] === 1 ? 1 : 0;

export function expNonPositive(x: number): number {
  if (!(x > -708)) return 0; // below the smallest normal number
  const exponent = Math.floor(x * log2e + 0.5);
  const rest = x - exponent * ln2High - exponent * ln2Low;
  let sum = 1;
  for (let n = terms; n >= 1; n--) sum = 1 + (sum * rest) / n; // Taylor, |rest| <= ln 2 / 2
  scaleWords[1 - highWord] = 0;
  scaleWords[highWord] = ((exponent + 1023) << 20) >>> 0;
  return sum * scale[0]!;
}
