/** Inputs out of inputs: bytes changed, moved, cut, repeated, joined with another's, and words put in. */

import type { Random } from "../../helpers/random.js";

const maxBytes = 1 << 16;
const numbers = [
  0, 1, 2, 7, 8, 9, 127, 128, 255, 256, 32_767, 65_535, 65_536, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1, 2 ** 32, 2 ** 53 - 1,
  2 ** 53, -1, -2,
];
const texts = [
  "-0", "1e999", "1e-400", "0.5", "NaN", "null", "true", "[]", "{}", '""', "[[[[", '{"a":', "\\u0000", "\ud800", "▁",
  "<0x41>", "..", "/",
];

type Mutation = (bytes: Buffer, random: Random, other: Uint8Array, words: readonly string[]) => Buffer;

/** A place, and a length from there, mostly short. */
function range(bytes: Buffer, random: Random): [start: number, end: number] {
  const start = random.below(bytes.length + 1);
  const most = random.below(4) === 0 ? bytes.length : 16;
  return [start, Math.min(bytes.length, start + 1 + random.below(most + 1))];
}

const replaced = (bytes: Buffer, start: number, end: number, by: Uint8Array): Buffer =>
  Buffer.concat([bytes.subarray(0, start), by, bytes.subarray(end)]);

const mutations: Mutation[] = [
  (bytes, random) => {
    if (bytes.length > 0) bytes[random.below(bytes.length)]! ^= 1 << random.below(8);
    return bytes;
  },
  (bytes, random) => {
    if (bytes.length > 0) bytes[random.below(bytes.length)] = random.below(256);
    return bytes;
  },
  // A number in bytes, of 1 to 8.
  (bytes, random) => {
    const size = random.pick([1, 2, 4, 8]);
    if (bytes.length < size) return bytes;
    const number = Buffer.alloc(8);
    number.writeBigInt64LE(BigInt(random.pick(numbers)));
    bytes.set(number.subarray(0, size), random.below(bytes.length - size + 1));
    return bytes;
  },
  // A number in digits.
  (bytes, random) => {
    const found = [...bytes.toString("latin1").matchAll(/-?\d+/g)];
    if (found.length === 0) return bytes;
    const match = random.pick(found);
    const text =
      random.below(3) === 0
        ? random.pick(texts)
        : String(random.below(3) === 0 ? Number(match[0]) + random.pick([-1, 1, 8]) : random.pick(numbers));
    return replaced(bytes, match.index, match.index + match[0].length, Buffer.from(text));
  },
  // A word of the format, or one that any format may stumble over.
  (bytes, random, _, words) => {
    const [start, end] = range(bytes, random);
    const word = Buffer.from(random.pick(random.below(2) === 0 || words.length === 0 ? texts : words), "latin1");
    return replaced(bytes, start, random.below(2) === 0 ? start : end, word);
  },
  // A string in quotes becomes another word.
  (bytes, random, _, words) => {
    const found = [...bytes.toString("latin1").matchAll(/"[^"\\]{0,80}"/g)];
    if (found.length === 0 || words.length === 0) return bytes;
    const match = random.pick(found);
    return replaced(bytes, match.index + 1, match.index + match[0].length - 1, Buffer.from(random.pick(words), "latin1"));
  },
  (bytes, random) => replaced(bytes, ...range(bytes, random), new Uint8Array(0)),
  (bytes, random) => {
    const [start, end] = range(bytes, random);
    return replaced(bytes, end, end, bytes.subarray(start, end));
  },
  (bytes, random) => {
    const [start, end] = range(bytes, random);
    const at = random.below(bytes.length + 1);
    return replaced(bytes, at, at, bytes.subarray(start, end));
  },
  (bytes, random) => bytes.subarray(0, random.below(bytes.length + 1)),
  (bytes, random, other) => {
    const [start, end] = range(Buffer.from(other), random);
    return replaced(bytes, ...range(bytes, random), other.subarray(start, end));
  },
  (bytes, random, other) =>
    Buffer.concat([bytes.subarray(0, random.below(bytes.length + 1)), other.subarray(random.below(other.length + 1))]),
];

type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

function leaf(random: Random, words: readonly string[]): Json {
  const kinds: (() => Json)[] = [
    () => random.pick(numbers),
    () => random.pick(numbers) / 2,
    () => random.pick(texts),
    () => (words.length > 0 ? random.pick(words) : ""),
    () => null,
    () => random.below(2) === 0,
    () => [],
    () => ({}),
  ];
  return random.pick(kinds)();
}

/** A JSON value with one place changed: taken out, put in, replaced, wrapped, counted on. */
function changeJson(value: Json, random: Random, words: readonly string[]): Json {
  const inner = typeof value === "object" && value !== null;
  const keys = inner ? Object.keys(value) : [];
  if (keys.length > 0 && random.below(5) > 0) {
    const key = random.pick(keys);
    const child = (value as Record<string, Json>)[key]!;
    const action = random.below(8);
    if (Array.isArray(value)) {
      const at = Number(key);
      if (action === 0) return value.toSpliced(at, 1);
      if (action === 1) return value.toSpliced(at, 0, child);
      return value.with(at, changeJson(child, random, words));
    }
    const { [key]: _, ...others } = value as Record<string, Json>;
    if (action === 0) return others;
    if (action === 1 && words.length > 0) return { ...(value as Record<string, Json>), [random.pick(words)]: child };
    return { ...(value as Record<string, Json>), [key]: changeJson(child, random, words) };
  }
  if (typeof value === "number" && random.below(2) === 0) return value + random.pick([-1, 1, 2, 8, -8, 64]);
  if (random.below(12) === 0) return [value];
  if (random.below(12) === 0) return { [words.length > 0 ? random.pick(words) : "a"]: value };
  return leaf(random, words);
}

function mutateJson(bytes: Uint8Array, words: readonly string[], random: Random): Buffer | undefined {
  try {
    return Buffer.from(JSON.stringify(changeJson(JSON.parse(Buffer.from(bytes).toString()) as Json, random, words)));
  } catch {
    return undefined;
  }
}

/** One input made of `base`, with parts of `other`. What is JSON mostly stays so. */
export function mutate(base: Uint8Array, other: Uint8Array, words: readonly string[], random: Random): Uint8Array {
  let bytes = Buffer.from(base);
  // Most parsers stop at the first fault, so that one change at a time goes furthest.
  for (let times = random.pick([1, 1, 1, 2, 3]); times > 0; times--) {
    const changed = bytes[0] === 0x7b && random.below(4) > 0 ? mutateJson(bytes, words, random) : undefined;
    bytes = Buffer.from((changed ?? random.pick(mutations)(bytes, random, other, words)).subarray(0, maxBytes));
  }
  return bytes;
}
