/** Values that no caller should pass, and valid arguments with something strange in them. */

import { types } from "node:util";

import type { Random } from "../helpers/random.js";

/** What a getter or a trap of ours throws: the caller's own error, which goes through native code unchanged. */
export class OwnError extends Error {}

const own = (): never => {
  throw new OwnError("thrown on purpose");
};

const numbers = [
  0, -0, 1, -1, 2, 3, 4, 0.5, -0.5, 7, 8, 31, 32, 33, 64, 255, 1e-320, 1e308, -1e308, NaN, Infinity, -Infinity,
  2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1, 2 ** 32, 2 ** 53 - 1, 2 ** 53, 2 ** 63, -(2 ** 31), -(2 ** 53),
];
const words = ["", "cpu", "map", "copy", "f32", "f16", "pad", "crop", "prefill", "decode", "all", "last", "mean", "max", "\0", "\ud800", "9".repeat(400)];
const arrays = [
  Uint8Array, Int8Array, Uint8ClampedArray, Int16Array, Uint16Array, Int32Array, Uint32Array, Float32Array, Float64Array,
  BigInt64Array, BigUint64Array,
] as const;

function detached(): Int32Array {
  const array = new Int32Array(8);
  structuredClone(array.buffer, { transfer: [array.buffer] });
  return array;
}

/** ES2024, which the compiler's library does not know yet. */
const resizable = (Buffer: typeof ArrayBuffer | typeof SharedArrayBuffer, bytes: number, most: number): ArrayBuffer & { resize(bytes: number): void } =>
  new (Buffer as unknown as new (bytes: number, options: { maxByteLength: number }) => ArrayBuffer & { resize(bytes: number): void })(bytes, { maxByteLength: most });

const objects: ((random: Random) => unknown)[] = [
  () => ({}),
  () => Object.create(null),
  () => [],
  () => Object.assign([], { length: 2 ** 32 - 1 }),
  () => [{}, {}],
  () => [[]],
  () => new Date(NaN),
  () => new Map(),
  () => Promise.resolve(1),
  () => own,
  () => class {},
  () => Symbol("strange"),
  () => 10n ** 30n,
  () => new DataView(new ArrayBuffer(8)),
  () => new ArrayBuffer(16),
  () => new SharedArrayBuffer(16),
  () => new Int32Array(new SharedArrayBuffer(64)),
  detached,
  () => new Int32Array(resizable(ArrayBuffer, 64, 256)),
  () => {
    const buffer = resizable(ArrayBuffer, 64, 256);
    const array = new Int32Array(buffer, 16, 8);
    buffer.resize(20); // the array now ends beyond its buffer
    return array;
  },
  () => new Float32Array(resizable(SharedArrayBuffer, 64, 256)),
  () => new Proxy([], {}),
  () => new Proxy({}, { get: own, has: own, getPrototypeOf: own, ownKeys: own }),
  () => {
    const { proxy, revoke } = Proxy.revocable({}, {});
    revoke();
    return proxy;
  },
  () => ({ get length() { return own(); }, get 0() { return own(); } }),
  () => ({ valueOf: own, toString: own, [Symbol.toPrimitive]: own }),
  (random) => new (random.pick(arrays))(random.below(40)),
];

/** Anything at all. */
export function strange(random: Random): unknown {
  switch (random.below(5)) {
    case 0:
      return random.pick([undefined, null, true, false]);
    case 1:
    case 2:
      return random.pick(numbers);
    case 3:
      return random.pick(words);
    default:
      return random.pick(objects)(random);
  }
}

type Fields = Record<string, unknown>;

/** Every object and array within `value`, itself included: where something can be spoiled. */
function places(value: unknown, found: Fields[] = []): Fields[] {
  if (typeof value !== "object" || value === null || ArrayBuffer.isView(value)) return found;
  found.push(value as Fields);
  for (const child of Object.values(value)) places(child, found);
  return found;
}

type Numbers = Int32Array | Float32Array | Uint32Array | Uint8Array;

/** Not a proxy of one. */
const isArray = (value: unknown): value is Numbers =>
  types.isInt32Array(value) || types.isFloat32Array(value) || types.isUint32Array(value) || types.isUint8Array(value);

/** A typed array one element longer or shorter, with other values, or taken away before it is read. */
function spoilArray(random: Random, array: Numbers): Numbers {
  if (array.length === 0) return new (array.constructor as typeof Int32Array)(random.below(5)); // or already taken away
  const copy = array.slice();
  switch (random.below(4)) {
    case 0:
      return copy.subarray(random.below(copy.length));
    case 1:
      copy[random.below(copy.length)] = random.pick(numbers);
      return copy;
    case 2:
      return new (copy.constructor as typeof Int32Array)(copy.length + 1 + random.below(40));
    default:
      structuredClone(copy.buffer, { transfer: [copy.buffer] });
      return copy;
  }
}

/** Changes one or a few fields, anywhere in `value`, which is changed itself. */
export function spoil<T extends object>(random: Random, value: T): T | unknown {
  const whole = places(value);
  for (let left = 1 + random.below(3); left > 0; left--) {
    const place = random.pick(whole);
    const keys = Object.keys(place);
    if (keys.length === 0) continue;
    const key = random.pick(keys);
    const before = Object.getOwnPropertyDescriptor(place, key)!.value as unknown; // none where it became a getter
    const put = (descriptor: PropertyDescriptor): void => {
      Object.defineProperty(place, key, { configurable: true, enumerable: true, ...descriptor });
    };
    switch (random.below(8)) {
      case 0:
        delete place[key];
        break;
      case 1:
        put({ get: own });
        break;
      case 2: // another answer every time
        put({ get: () => (random.below(2) ? before : strange(random)) });
        break;
      case 3: {
        // Reading this field takes its neighbours' memory away.
        const neighbours = Object.values(Object.getOwnPropertyDescriptors(place)).map((one) => one.value as unknown).filter((one) => types.isTypedArray(one));
        put({
          get: () => {
            for (const { buffer, byteLength } of neighbours) {
              if (buffer instanceof ArrayBuffer && byteLength > 0) structuredClone(buffer, { transfer: [buffer] });
            }
            return before;
          },
        });
        break;
      }
      case 4:
        put({ value: new Proxy(Object(before), random.below(2) ? {} : { get: own }), writable: true });
        break;
      case 5:
      case 6:
        put({ value: isArray(before) ? spoilArray(random, before) : strange(random), writable: true });
        break;
      default:
        put({ value: strange(random), writable: true });
    }
  }
  return random.below(16) === 0 ? new Proxy(value, {}) : value;
}
