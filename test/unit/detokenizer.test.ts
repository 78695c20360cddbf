/** Decoding: whole sequences, and the same sequences as a stream. */

import { test } from "uvu";
import * as assert from "uvu/assert";

import { parseTokenizerJson, VocabularyTokenizer } from "../../lib/tokenizer/index.js";
import { Random } from "../helpers/random.js";
import { jsonBytes, jsonForm, llamaPieces } from "../helpers/vocabulary.js";

const tokenizer = new VocabularyTokenizer(parseTokenizerJson(jsonBytes(jsonForm(llamaPieces(), "prepend")), "tokenizer.json"));
const bytes = (...values: number[]) => values.map((value) => value + 3);
const bad = "\uFFFD";

function streamed(ids: readonly number[]): string[] {
  const stream = tokenizer.stream();
  return [...ids.map((id) => stream.push(id)), stream.end()];
}

test("a character of four bytes comes when it is whole", () => {
  const ids = [15043, 29871, 243, 162, 155, 131, 3186];
  assert.is(tokenizer.decode(ids), "Hello 😀 world");
  assert.equal(streamed(ids), ["Hello", " ", "", "", "", "😀", " world", ""]);
});

test("special, unknown and absent ids say nothing, and do not part a character", () => {
  assert.is(tokenizer.decode([1, 15043, 2, 32_000, 32_001, 3186, 0]), "Hello world");
  assert.is(tokenizer.decode([15043, 32_063, -1, 1e9, Number.NaN, 0.5, 3186]), "Hello world");
  assert.is(tokenizer.decode([...bytes(0xf0, 0x9f), 2, ...bytes(0x98, 0x80)]), "😀");
});

test("one leading space goes, from the first text only", () => {
  assert.is(tokenizer.decode([29871, 15043]), " Hello");
  assert.is(tokenizer.decode([29871, 29871, 13]), " \n");
  assert.equal(streamed([1, 29871, 15043]), ["", "", " Hello", ""]);
  assert.is(tokenizer.decode(bytes(0x20, 0x20)), " ");
  assert.is(tokenizer.decode([]), "");
  assert.is(tokenizer.decode([29871]), "");
});

test("one U+FFFD for each byte that belongs to no character", () => {
  const cases: [number[], string][] = [
    [[0x80], bad],
    [[0xff, 0x41], `${bad}A`],
    [[0xf0, 0x9f, 0x41], `${bad}${bad}A`],
    [[0xf0, 0x9f, 0xf0, 0x9f, 0x98, 0x80], `${bad}${bad}😀`],
    [[0xc0, 0xaf], bad.repeat(2)],
    [[0xe0, 0x80, 0x80], bad.repeat(3)],
    [[0xed, 0xa0, 0x80], bad.repeat(3)],
    [[0xf4, 0x90, 0x80, 0x80], bad.repeat(4)],
    [[0xf5, 0x80], bad.repeat(2)],
    [[0xe6, 0xbc], bad.repeat(2)],
    [[0xc3, 0xa9, 0xe6, 0xbc, 0xa2, 0x0a], "é漢\n"],
    [[0xf4, 0x8f, 0xbf, 0xbf], "\u{10ffff}"],
  ];
  for (const [values, expected] of cases) {
    assert.is(tokenizer.decode([15043, ...bytes(...values)]), `Hello${expected}`, values.join(" "));
    assert.is(streamed([15043, ...bytes(...values)]).join(""), `Hello${expected}`, values.join(" "));
  }
  assert.is(tokenizer.decode([...bytes(0xf0, 0x9f), 15043]), `${bad}${bad} Hello`);
});

test("a stream says what the whole says, and no half character on the way", () => {
  const random = new Random(29);
  const emoji = bytes(...Buffer.from("😀é漢👩‍👧"));
  for (let round = 0; round < 2000; round++) {
    const ids = Array.from({ length: random.below(24) }, () => {
      const kind = random.below(4);
      return kind === 0 ? random.below(32_010) : kind === 1 ? 3 + random.below(256) : kind === 2 ? random.pick(emoji) : 259 + random.below(500);
    });
    const parts = streamed(ids);
    assert.is(parts.join(""), tokenizer.decode(ids), ids.join(" "));
    for (const part of parts) assert.is(/\p{Surrogate}/u.test(part), false, ids.join(" "));
  }
});

test("valid UTF-8 comes without any replacement, however the bytes are spread", () => {
  const random = new Random(31);
  for (let round = 0; round < 300; round++) {
    const text = Array.from({ length: 1 + random.below(12) }, () => {
      const code = random.pick([0x80, 0x800, 0x10000, 0x110000]) - 1 - random.below(60);
      return String.fromCodePoint(code >= 0xd800 && code < 0xe000 ? 0x3042 : code);
    }).join("");
    const parts = streamed(bytes(...Buffer.from(`x${text}`)));
    assert.is(parts.join(""), `x${text}`);
    assert.is(parts.at(-1), "");
  }
});

test.run();
