import { test } from "uvu";
import * as assert from "uvu/assert";

import { parseJson, type JsonValue } from "../../lib/checkpoint/json.js";
import { parseSafetensorsHeader } from "../../lib/checkpoint/safetensors.js";
import { HimapError } from "../../lib/errors.cjs";
import { encodeWeights } from "../../weights-tools/number-formats.js";
import { safetensorsHeader } from "../../weights-tools/safetensors-writer.js";
import { weight } from "../helpers/tiny-checkpoint.js";

const limits = { depth: 64, values: 1_000_000, objects: 1_000_000 };
const parse = (text: string): JsonValue => parseJson(Buffer.from(text), "test.json", limits);

/** A small generator; the same numbers on every machine. */
function randomNumbers(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

/** As JSON.parse would have it. */
function plain(value: JsonValue): unknown {
  if (value instanceof Map) {
    const object = Object.create(null) as Record<string, unknown>;
    for (const [key, entry] of value) object[key] = plain(entry);
    return { ...object };
  }
  return Array.isArray(value) ? value.map(plain) : value;
}

test("JSON: what is valid is read as JSON.parse reads it", () => {
  const texts = [
    "0", "-0", "1.5e3", "1E-2", "1e999", "12345678901234567890", '""', '"\\u0041\\n\\"\\\\\\/"', '"\\ud83d\\ude00"', '"\u{1f600}"', "[]", "[ 1 , 2 ]", "{}",
    ' { "a" : [ true , false , null ] , "b" : { "" : 0 } } ', '"\\ud800"', "\t\r\n 7 \n", '{"__proto__":{"constructor":1}}',
  ];
  for (const text of texts) assert.equal(plain(parse(text)), { ...{ value: JSON.parse(text) as unknown } }.value, text);
});

test("JSON: what JSON.parse refuses is refused", () => {
  const texts = [
    "", " ", "01", "+1", ".5", "1.", "1e", "--1", "0x1", "NaN", "Infinity", "-Infinity", "tru", "nul", "undefined", "'a'", '"', '"a', '"\\"', '"\\u12"', '"\\x"',
    '"\n"', "[", "[1", "[1,", "[1,]", "[,1]", "{", '{"a"', '{"a":', '{"a":1', '{"a":1,', '{"a":1,}', "{a:1}", "{1:1}", "1 2", "[] []", "\ufeff1", "\u00a01", "//", "1,",
  ];
  for (const text of texts) {
    assert.throws(() => JSON.parse(text), undefined, text);
    assert.throws(() => parse(text), (error: unknown) => error instanceof HimapError && error.code === "ERR_BAD_CHECKPOINT", text);
  }
});

test("JSON: a doubled key is refused at any depth and in any spelling", () => {
  for (const text of ['{"a":1,"a":1}', '[{"b":{"a":1,"c":2,"a":3}}]', '{"a":1,"\\u0061":2}', '{"":1,"":1}', '{"__proto__":1,"__proto__":2}']) {
    assert.throws(() => parse(text), /a key that stands once/, text);
  }
});

test("JSON: 20,000 mutated texts are judged as JSON.parse judges them", () => {
  const source = '{"config":{"hidden_size":4096,"rms_norm_eps":1e-05,"list":[-2,0.5,true,false,null,"\\u00e9\\n"],"deep":[[[[{}]]]]},"b":""}';
  const alphabet = '{}[]",:\\u0123456789eE+-. truefalsn\n\u0000\u00e9';
  const random = randomNumbers(7);
  let valid = 0;
  for (let round = 0; round < 20_000; round++) {
    let text = source;
    for (let edits = random(3) + 1; edits > 0; edits--) {
      const at = random(text.length);
      const removed = random(3);
      text = text.slice(0, at) + (random(2) === 0 ? "" : alphabet[random(alphabet.length)]!) + text.slice(at + removed);
    }
    let wanted: unknown = undefined;
    let refused = false;
    try {
      wanted = JSON.parse(text);
    } catch {
      refused = true;
    }
    try {
      const value = plain(parse(text));
      assert.not(refused, text);
      assert.equal(value, wanted, text);
      valid++;
    } catch (error) {
      if (!(error instanceof HimapError)) throw error;
      // The one thing that JSON.parse lets pass.
      assert.ok(refused || /stands once/.test(error.message), `${text}: ${error.message}`);
    }
  }
  assert.ok(valid > 100, String(valid));
});

test("JSON: a hundred megabytes of one character end in an error, not in an overflow", () => {
  for (const character of ["[", '{"a":', "1", " ", '"', "\\"]) {
    const bytes = Buffer.alloc(20_000_000, character);
    assert.throws(() => parseJson(bytes, "test.json", limits), (error: unknown) => error instanceof HimapError);
    bytes[0] = 0x22;
    assert.throws(() => parseJson(bytes, "test.json", limits), (error: unknown) => error instanceof HimapError);
  }
});

const tensors = [
  weight("a", [3, 5], "F32"), weight("empty", [4, 0]), weight("scalar", []), weight("b", [2, 2, 2]), weight("\u00e9\n", [1], "U8"), weight("c", [7], "I64"),
];
const dataBytes = tensors.reduce((sum, { bytes }) => sum + bytes, 0);

test("safetensors: every kind of tensor is found where it lies", () => {
  const header = safetensorsHeader(tensors);
  assert.is(header.length % 8, 0);
  const found = parseSafetensorsHeader(header, header.length + dataBytes, "x");
  let offset = header.length;
  for (const { name, type, shape, bytes } of tensors) {
    assert.equal(found.find((tensor) => tensor.name === name), { name, type, shape, offset, bytes });
    offset += bytes;
  }
});

test("safetensors: a file without tensors, and tensors in any order of the header", () => {
  assert.equal(parseSafetensorsHeader(safetensorsHeader([]), safetensorsHeader([]).length, "x"), []);
  const text = '{"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]},"a":{"data_offsets":[0,1],"shape":[1],"dtype":"BOOL"}}';
  const bytes = Buffer.concat([Buffer.from(BigUint64Array.of(BigInt(text.length)).buffer), Buffer.from(text)]);
  assert.equal(parseSafetensorsHeader(bytes, bytes.length + 3, "x").map(({ name }) => name), ["a", "b"]);
});

test("safetensors: 20,000 mutated headers give tensors inside the file or a typed error", () => {
  const header = safetensorsHeader(tensors);
  const fileBytes = header.length + dataBytes;
  const random = randomNumbers(11);
  const interesting = [0x22, 0x2c, 0x30, 0x39, 0x5b, 0x7b, 0x7d, 0x20, 0xff, 0x00, 0x2d];
  let valid = 0;
  for (let round = 0; round < 20_000; round++) {
    const bytes = Uint8Array.from(header);
    for (let edits = random(3) + 1; edits > 0; edits--) bytes[random(bytes.length)] = random(2) === 0 ? random(256) : interesting[random(interesting.length)]!;
    const cut = random(10) === 0 ? bytes.subarray(0, random(bytes.length)) : bytes;
    try {
      const found = parseSafetensorsHeader(cut, fileBytes - random(2), "x");
      let end = found[0]?.offset ?? fileBytes;
      for (const { offset, bytes: size } of found) {
        assert.is(offset, end);
        end += size;
      }
      assert.is(end, fileBytes);
      valid++;
    } catch (error) {
      if (!(error instanceof HimapError)) throw error;
      assert.ok(error.code === "ERR_BAD_CHECKPOINT" || error.code === "ERR_TOO_LARGE", error.code);
    }
  }
  assert.ok(valid > 100, String(valid));
});

test("safetensors: a header of 100,000 tensors is read", () => {
  const many = Array.from({ length: 100_000 }, (_, i) => weight(`language_model.model.layers.${i}.self_attn.q_proj.weight`, [2, 2]));
  const header = safetensorsHeader(many);
  const started = performance.now();
  assert.is(parseSafetensorsHeader(header, header.length + 800_000, "x").length, 100_000);
  console.log(`NOTE: a header of 100,000 tensors (${(header.length / 1e6).toFixed(1)} MB) in ${(performance.now() - started).toFixed(0)} ms`);
});

test("numbers as weights are stored", () => {
  const bits = (value: number, type: "F16" | "BF16"): number => new Uint16Array(encodeWeights(Float32Array.of(value), type).buffer)[0]!;
  const halves: [number, number][] = [
    [0, 0], [1, 0x3c00], [-2, 0xc000], [65504, 0x7bff], [2 ** -14, 0x0400], [2 ** -24, 1], [2 ** -25, 0], [1.5 * 2 ** -24, 2], [2 ** -14 - 2 ** -25, 0x0400],
    [1 + 2 ** -11, 0x3c00], [1 + 3 * 2 ** -11, 0x3c02], [2 - 2 ** -11, 0x4000], [1 / 3, 0x3555],
  ];
  for (const [value, wanted] of halves) assert.is(bits(value, "F16"), wanted, String(value));
  const brains: [number, number][] = [[0, 0], [1, 0x3f80], [-1, 0xbf80], [1 + 2 ** -8, 0x3f80], [1 + 3 * 2 ** -8, 0x3f82], [3.0e38, 0x7f62]];
  for (const [value, wanted] of brains) assert.is(bits(value, "BF16"), wanted, String(value));
});

test.run();
