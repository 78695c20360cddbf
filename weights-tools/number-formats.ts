/** Numbers as weights are stored; rounding is to nearest, ties to even. */

import type { WeightType } from "../lib/checkpoint/types.js";

/** Bytes of one element. */
export const typeBytes: Record<WeightType, number> = { F32: 4, F16: 2, BF16: 2 };

const scratch = new Float32Array(1);
const scratchBits = new Uint32Array(scratch.buffer);

function toBf16(value: number): number {
  scratch[0] = value;
  const bits = scratchBits[0]!;
  return ((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16) & 0xffff;
}

/** Finite values up to 65504; smaller ones than 2^-24 become zero. */
function toF16(value: number): number {
  const sign = value < 0 ? 0x8000 : 0;
  const size = Math.abs(value);
  if (size < 2 ** -14) return sign | roundHalfEven(size * 2 ** 24);
  const exponent = Math.floor(Math.log2(size));
  // A mantissa that rounds up to 2048 carries into the exponent by itself.
  return sign | (((exponent + 14) << 10) + roundHalfEven(size * 2 ** (10 - exponent)));
}

function roundHalfEven(value: number): number {
  const floor = Math.floor(value);
  const rest = value - floor;
  return rest > 0.5 || (rest === 0.5 && floor % 2 === 1) ? floor + 1 : floor;
}

/** The bytes of finite values in a weight type, little-endian. */
export function encodeWeights(values: Float32Array, type: WeightType): Uint8Array {
  if (type === "F32") return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  const encode = type === "F16" ? toF16 : toBf16;
  const bits = new Uint16Array(values.length);
  for (let i = 0; i < bits.length; i++) bits[i] = encode(values[i]!);
  return new Uint8Array(bits.buffer);
}

function fromF16(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >>> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 0x1f) return fraction ? NaN : sign * Infinity;
  return sign * (exponent === 0 ? fraction * 2 ** -24 : (1024 + fraction) * 2 ** (exponent - 25));
}

function fromBf16(bits: number): number {
  scratchBits[0] = bits << 16;
  return scratch[0]!;
}

/** The values that little-endian bytes of a weight type hold. */
export function decodeWeights(bytes: Uint8Array, type: WeightType): Float32Array {
  const copy = Uint8Array.from(bytes);
  if (type === "F32") return new Float32Array(copy.buffer);
  return Float32Array.from(new Uint16Array(copy.buffer), type === "F16" ? fromF16 : fromBf16);
}
