/** Encoding: the published vectors on the real vocabulary, two oracles, and the promise that text stays text. */

import { readFileSync } from "node:fs";
import { Tokenizer as Oracle } from "@huggingface/tokenizers";
import { test } from "uvu";
import * as assert from "uvu/assert";

import { parseTokenizerJson, parseTokenizerModel, VocabularyTokenizer } from "../../lib/tokenizer/index.js";
import { Random } from "../helpers/random.js";
import { jsonBytes, jsonForm, llamaPieces, mergesOf, modelFile, smallPieces, type ModelPiece } from "../helpers/vocabulary.js";

const pieces = llamaPieces();
const fromModel = new VocabularyTokenizer(parseTokenizerModel(modelFile(pieces), "tokenizer.model"));
const fromJson = new VocabularyTokenizer(parseTokenizerJson(jsonBytes(jsonForm(pieces, "prepend")), "tokenizer.json"));
const fromPairs = new VocabularyTokenizer(parseTokenizerJson(jsonBytes(jsonForm(pieces, "first", "pairs")), "tokenizer.json"));
const forms = { "tokenizer.model": fromModel, "tokenizer.json": fromJson };

const vectors = readFileSync(new URL("../golden/llama-tokenizer-vectors.jsonl", import.meta.url), "utf8")
  .trim().split("\n").map((line) => JSON.parse(line) as { text: string; ids: number[] });

for (const [name, tokenizer] of Object.entries(forms)) {
  test(`${name}: the ids of all published vectors, and their texts back`, () => {
    assert.is(vectors.length, 501);
    for (const { text, ids } of vectors) {
      assert.equal(tokenizer.encode(text), ids, JSON.stringify(text));
      assert.is(tokenizer.decode(ids), text.replaceAll("▁", " "), JSON.stringify(text));
    }
  });

  test(`${name}: sizes and special tokens`, () => {
    const { bos, eos, unk } = tokenizer;
    assert.equal({ bos, eos, unk }, { bos: 1, eos: 2, unk: 0 });
    assert.is(tokenizer.specialId("</s>"), 2);
    assert.is(tokenizer.specialId("the"), undefined);
    assert.is(tokenizer.piece(29871), "▁");
    assert.is(tokenizer.piece(13), "<0x0A>");
    for (const id of [-1, 32_002, 1.5, Number.NaN, 1e12]) assert.is(tokenizer.piece(id), "");
  });
}

test("the forms differ in what they know of images", () => {
  assert.is(fromModel.size, 32_000);
  assert.is(fromJson.size, 32_002);
  assert.is(fromModel.specialId("<image>"), undefined);
  assert.is(fromJson.specialId("<image>"), 32_000);
});

test("the vectors of the prompt", () => {
  const system = "A chat between a curious user and an artificial intelligence assistant. "
    + "The assistant gives helpful, detailed, and polite answers to the user's questions. USER: ";
  const expected = "319 13563 1546 263 12758 1404 322 385 23116 21082 20255 29889 450 20255 4076 8444 29892 13173 29892 322 1248 568 6089 "
    + "304 278 1404 29915 29879 5155 29889 3148 1001 29901 29871";
  for (const tokenizer of Object.values(forms)) {
    assert.is(tokenizer.encode(system).join(" "), expected);
    assert.equal(tokenizer.encode("USER: "), [3148, 1001, 29901, 29871]);
    assert.equal(tokenizer.encode("\nWhat is in this picture? ASSISTANT:", "later"), [
      29871, 13, 5618, 338, 297, 445, 7623, 29973, 319, 1799, 9047, 13566, 29901,
    ]);
  }
});

test("a Metaspace vocabulary marks the first segment only, and not before a space", () => {
  assert.equal(fromPairs.encode("Hello"), [15043]);
  assert.equal(fromPairs.encode(" Hello"), [15043]);
  assert.equal(fromPairs.encode("▁Hello"), [15043]);
  assert.equal(fromPairs.encode("\nWhat", "later"), [13, 5618]);
  assert.equal(fromPairs.encode("USER:", "later"), [11889, 29901]);
  assert.equal(fromPairs.encode(""), []);
  for (const { text, ids } of vectors) {
    if (!/^[ ▁]/.test(text)) assert.equal(fromPairs.encode(text), ids, JSON.stringify(text));
  }
});

const scraps = [
  " ", "  ", "      ", "\n", "\t", "▁", "a", "the", "The", "ing", " USER", "ASSISTANT:", "123", "0", ".", ",", "...", "'s", "<", ">", "é", "ß", "ÿ",
  "漢", "字", "日本語", "Привет", "שלום", "مرحبا", "한국어", "ไทย", "😀", "👩‍👩‍👧", "\u0000", "\u200b", "\ufeff", "\u0301", "𝔘", "function(x) { return x; }",
  "http://", "==", "====", "aaaaaaa", "ab", "ba", "aba", "\r\n", "¼", "\u00a0", "$\\frac{a}{b}$",
];

function randomText(random: Random, most: number): string {
  return Array.from({ length: random.below(most) }, () => random.pick(scraps)).join("");
}

for (const [name, form, tokenizer] of [["Prepend", "prepend", fromJson], ["Metaspace", "first", fromPairs]] as const) {
  test(`${name}: the ids of another implementation on random strings`, () => {
    const oracle = new Oracle(jsonForm(pieces, form), {});
    const random = new Random(5);
    for (let i = 0; i < 1500; i++) {
      const text = randomText(random, 14);
      const ids = oracle.encode(text, { add_special_tokens: false }).ids;
      assert.equal(tokenizer.encode(text), ids, JSON.stringify(text));
      if (form === "prepend") assert.equal(fromModel.encode(text), ids, JSON.stringify(text));
    }
  });
}

/** SentencePiece's rule, word for word: join the neighbours that make the piece of the best score, leftmost first. */
function joinByScore(text: string, model: readonly ModelPiece[]): number[] {
  const scores = new Map(model.flatMap((piece) => (piece.type === 1 ? [[piece.text, piece.score] as const] : [])));
  const symbols = [...`▁${text.replaceAll(" ", "▁")}`];
  for (;;) {
    let best = -1;
    let bestScore = -Infinity;
    for (let i = 0; i + 1 < symbols.length; i++) {
      const score = scores.get(symbols[i]! + symbols[i + 1]!);
      if (score !== undefined && score > bestScore) [best, bestScore] = [i, score];
    }
    if (best < 0) break;
    symbols.splice(best, 2, symbols[best]! + symbols[best + 1]!);
  }
  const ids = new Map(model.flatMap(({ text: piece, type }, id) => (type === 1 ? [[piece, id] as const] : [])));
  return symbols.flatMap((symbol) => (ids.has(symbol) ? [ids.get(symbol)!] : [...Buffer.from(symbol)].map((byte) => byte + 3)));
}

/** The rule of merge lists: join the neighbours whose pair stands first in the list, leftmost first. */
function joinByMerges(text: string, model: readonly ModelPiece[]): number[] {
  const ranks = new Map(mergesOf(model).map((pair, rank) => [pair.join(" "), rank]));
  const ids = new Map(model.flatMap(({ text: piece, type }, id) => (type === 1 ? [[piece, id] as const] : [])));
  const symbols = [...`▁${text.replaceAll(" ", "▁")}`];
  for (;;) {
    let best = -1;
    let bestRank = Infinity;
    for (let i = 0; i + 1 < symbols.length; i++) {
      const rank = ranks.get(`${symbols[i]} ${symbols[i + 1]}`);
      if (rank !== undefined && rank < bestRank) [best, bestRank] = [i, rank];
    }
    if (best < 0) break;
    symbols.splice(best, 2, symbols[best]! + symbols[best + 1]!);
  }
  return symbols.flatMap((symbol) => (ids.has(symbol) ? [ids.get(symbol)!] : [...Buffer.from(symbol)].map((byte) => byte + 3)));
}

test("random vocabularies: equal scores, space marks inside pieces, characters that are no pieces", () => {
  const random = new Random(11);
  const letters = ["a", "b", "c", "▁", "é", "😀"];
  for (let round = 0; round < 150; round++) {
    const texts = new Set(["▁", ...letters.filter(() => random.below(4) > 0)]);
    for (let i = 0; i < 40; i++) texts.add(Array.from({ length: 2 + random.below(4) }, () => random.pick(letters)).join(""));
    const model = smallPieces([...texts].sort(() => random.below(3) - 1)).map((piece) =>
      piece.type === 1 ? { ...piece, score: -random.below(20) } : piece);
    const byScore = new VocabularyTokenizer(parseTokenizerModel(modelFile(model), "tokenizer.model"));
    const byMerges = new VocabularyTokenizer(parseTokenizerJson(jsonBytes(jsonForm(model, "prepend")), "tokenizer.json"));
    for (let i = 0; i < 20; i++) {
      const text = Array.from({ length: 1 + random.below(30) }, () => random.pick([...letters, " ", "z"])).join("");
      assert.equal(byScore.encode(text), joinByScore(text, model), `score, round ${round}: ${JSON.stringify(text)}`);
      assert.equal(byMerges.encode(text), joinByMerges(text, model), `merges, round ${round}: ${JSON.stringify(text)}`);
    }
  }
});

test("text never becomes a special token", () => {
  const hostile = ["<s>", "</s>", "<unk>", "<image>", "<pad>", "<0x0A>", "<|im_end|>", "[INST]"];
  const random = new Random(3);
  for (const tokenizer of [fromModel, fromJson, fromPairs]) {
    for (let i = 0; i < 500; i++) {
      const text = Array.from({ length: 1 + random.below(6) }, () => random.pick([...hostile, ...scraps])).join(random.pick(["", " ", "\n"]));
      for (const position of ["first", "later"] as const) {
        const ids = tokenizer.encode(text, position);
        assert.ok(ids.every((id) => id > 2 && id < 32_000), JSON.stringify(text));
        if (tokenizer !== fromPairs) assert.is(tokenizer.decode(ids), text.replaceAll("▁", " "));
      }
    }
  }
  assert.equal(fromModel.encode("<s>"), [529, 29879, 29958]);
});

test("half surrogate pairs are read as U+FFFD", () => {
  assert.equal(fromModel.encode("a\ud800b"), fromModel.encode("a\ufffdb"));
  assert.equal(fromModel.encode("\udc00\ud83d"), fromModel.encode("\ufffd\ufffd"));
});

test("long text without a place to cut it", () => {
  for (const text of ["a".repeat(50_000), "ab".repeat(20_000), " ".repeat(30_000)]) {
    const ids = fromModel.encode(text);
    assert.is(fromModel.decode(ids), text);
    assert.equal(fromJson.encode(text), ids);
  }
});

test("speed", () => {
  const english = vectors.map(({ text }) => text).join(" ").replace(/[^\x20-\x7e]+/g, " ");
  const fill = (text: string) => text.repeat(Math.ceil(2e6 / text.length)).slice(0, 2e6);
  const texts = { prose: fill(english), "one letter": fill("a"), "no spaces": fill(english.replaceAll(" ", "")) };
  for (const [name, text] of Object.entries(texts)) {
    const started = performance.now();
    fromJson.encode(text);
    const minutes = (performance.now() - started) / 60_000;
    console.log(`NOTE: tokenizer, ${name}: ${Math.round(text.length / 1e6 / minutes)} MB/min`);
  }
});

test.run();
