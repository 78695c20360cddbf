/** Tokenizer files that are damaged, at odds with themselves, or another model's: each a typed error that says what came. */

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";

import { HimapError, type ErrorCode } from "../../lib/errors.cjs";
import { checkAgreement, loadTokenizer, parseTokenizerJson, parseTokenizerModel, VocabularyTokenizer } from "../../lib/tokenizer/index.js";
import { PairTable } from "../../lib/tokenizer/pair-table.js";
import { kLimits } from "../../lib/tokenizer/vocabulary.js";
import { assertAsQuick, chosenNumbers, chosenPairs } from "../helpers/chosen-keys.js";
import { Random } from "../helpers/random.js";
import {
  firstMetaspace, float, jsonBytes, jsonForm, llamaNormalizer, llamaTrainer, message, modelFile, modelPiece, number, prependNormalizer, smallPieces,
} from "../helpers/vocabulary.js";

type Json = ReturnType<typeof jsonForm>;

function fails(run: () => unknown, code: ErrorCode, says: string, name: string): void {
  try {
    run();
  } catch (error) {
    assert.instance(error, HimapError, `${name}: ${String(error)}`);
    const { message: text } = error as HimapError;
    assert.is((error as HimapError).code, code, `${name}: ${text}`);
    assert.match(text, /expected .+ for .+ but received .+/s, name);
    assert.ok(text.includes(says), `${name}: ${JSON.stringify(says)} in ${text}`);
    return;
  }
  assert.unreachable(`${name}: no error`);
}

const bad = "ERR_BAD_CHECKPOINT";
const unsupported = "ERR_UNSUPPORTED_MODEL";
const strangers = smallPieces([..."▁abcdefgh"]);

const jsonCases: [name: string, code: ErrorCode, says: string, change: (json: Json) => unknown][] = [
  ["a Unigram model", unsupported, '"Unigram"', (json) => (json.model.type = "Unigram")],
  ["no model type", unsupported, "model.type", (json) => (json.model.type = undefined)],
  ["no model", bad, "model", (json) => delete (json as Partial<Json>).model],
  ["no byte fallback", unsupported, "model.byte_fallback", (json) => (json.model.byte_fallback = false)],
  ["dropout", unsupported, "model.dropout", (json) => (json.model.dropout = 0.1)],
  ["a subword prefix", unsupported, "##", (json) => (json.model.continuing_subword_prefix = "##")],
  ["a word suffix", unsupported, "</w>", (json) => (json.model.end_of_word_suffix = "</w>")],
  ["ignore_merges", unsupported, "model.ignore_merges", (json) => Object.assign(json.model, { ignore_merges: true })],
  ["no vocabulary", bad, "model.vocab", (json) => delete (json.model as Partial<Json["model"]>).vocab],
  ["an id beyond the vocabulary", bad, "\"ab\"", (json) => (json.model.vocab["ab"] = 999_999)],
  ["a negative id", bad, "-1", (json) => (json.model.vocab["ab"] = -1)],
  ["a fractional id", bad, "260.5", (json) => (json.model.vocab["ab"] = 260.5)],
  ["an id as text", bad, "\"260\"", (json) => (json.model.vocab["ab"] = "260")],
  ["two pieces of one id", bad, "which \"▁a\" has", (json) => (json.model.vocab["ab"] = 259)],
  ["an empty piece", bad, "piece 260", (json) => Object.assign(json.model.vocab, { "": 260, ab: 264 })],
  ["a piece of 300 characters", bad, "300", (json) => Object.assign(json.model.vocab, { ["x".repeat(300)]: 264 })],
  ["half a surrogate pair", bad, "surrogate", (json) => Object.assign(json.model.vocab, { "\ud83d": 264 })],
  ["no space mark", unsupported, "▁", (json) => rename(json, "▁", "_")],
  ["a missing byte piece", unsupported, "<0x41>", (json) => rename(json, "<0x41>", "<0x4l>")],
  ["no unknown token", bad, "model.unk_token", (json) => (json.model.unk_token = null)],
  ["an unknown token that is none", unsupported, "<huh>", (json) => (json.model.unk_token = "<huh>")],
  ["no end token", unsupported, "</s>", (json) => (rename(json, "</s>", "<end>"), (json.added_tokens[2]!["content"] = "<end>"))],
  ["no merges", bad, "model.merges", (json) => delete (json.model as Partial<Json["model"]>).merges],
  ["a merge of one piece", bad, "model.merges[0]", (json) => (json.model.merges[0] = "ab")],
  ["a merge of three pieces", bad, "model.merges[0]", (json) => (json.model.merges[0] = ["a", "b", "a"])],
  ["a merge of numbers", bad, "model.merges[1]", (json) => (json.model.merges[1] = [1, 2])],
  ["a merge of a stranger", bad, "\"z\"", (json) => (json.model.merges[0] = "z a")],
  ["a merge into a stranger", bad, "\"ba\"", (json) => (json.model.merges[0] = "b a")],
  ["a merge that stands twice", bad, "stands once", (json) => (json.model.merges[1] = json.model.merges[0])],
  ["a merge that makes a control token", bad, "</s>", (json) => (addPiece(json, "</"), addPiece(json, "s>"), json.model.merges.push("</ s>"))],
  ["a merge that makes a byte", bad, "<0x41>", (json) => (addPiece(json, "<0x4"), addPiece(json, "1>"), json.model.merges.push("<0x4 1>"))],
  ["added tokens that are no list", bad, "added_tokens", (json) => Object.assign(json, { added_tokens: {} })],
  ["an added token without text", bad, "added_tokens[3].content", (json) => delete json.added_tokens[3]!["content"]],
  ["an added token with a huge id", bad, "added_tokens[3].id", (json) => (json.added_tokens[3]!["id"] = 2 ** 40)],
  ["an added token over another piece", bad, "<image>", (json) => (json.added_tokens[3]!["id"] = 260)],
  ["two added tokens of one id", bad, "<pad>", (json) => (json.added_tokens[4]!["id"] = json.added_tokens[3]!["id"])],
  ["two added tokens of one text", bad, "<image>", (json) => (json.added_tokens[4]!["content"] = "<image>")],
  ["an unknown normalizer", unsupported, "NFKC", (json) => (json.normalizer = { type: "NFKC" })],
  ["an unknown normalizer in a sequence", unsupported, "Lowercase", (json) => (json.normalizer = { ...prependNormalizer, normalizers: [{ type: "Lowercase" }] })],
  ["another prefix", unsupported, "normalizer", (json) => (json.normalizer = { ...prependNormalizer, normalizers: [{ type: "Prepend", prepend: "_" }, prependNormalizer.normalizers[1]] })],
  ["no prefix rule", unsupported, "neither", (json) => (json.normalizer = null)],
  ["two prefix rules", unsupported, "both", (json) => (json.pre_tokenizer = firstMetaspace)],
  ["an unknown pre-tokenizer", unsupported, "ByteLevel", (json) => Object.assign(json, { normalizer: null, pre_tokenizer: { type: "ByteLevel" } })],
  ["a Metaspace that splits", unsupported, "Metaspace", (json) => Object.assign(json, { normalizer: null, pre_tokenizer: { ...firstMetaspace, split: true } })],
  ["a Metaspace that marks every segment", unsupported, "first", (json) => Object.assign(json, { normalizer: null, pre_tokenizer: { ...firstMetaspace, prepend_scheme: "always" } })],
  ["a BOS that is no special token", unsupported, "ab", (json) => (json.post_processor = { type: "TemplateProcessing", single: [{ SpecialToken: { id: "ab" } }] })],
];

function rename(json: Json, from: string, to: string): void {
  json.model.vocab[to] = json.model.vocab[from];
  delete json.model.vocab[from];
  json.model.merges = [];
}

/** Adds a piece, moving the added tokens behind it. */
function addPiece(json: Json, text: string): void {
  json.model.vocab[text] = Object.keys(json.model.vocab).length;
  for (const token of json.added_tokens.slice(3)) (token["id"] as number)++;
}

test(`tokenizer.json: ${jsonCases.length} faults, each named`, () => {
  for (const [name, code, says, change] of jsonCases) {
    const json = jsonForm(smallPieces(), "prepend");
    change(json);
    fails(() => parseTokenizerJson(jsonBytes(json), "tokenizer.json"), code, says, name);
  }
});

test("tokenizer.json: text that is no JSON", () => {
  const text = Buffer.from(jsonBytes(jsonForm(smallPieces(), "prepend")));
  const cases: [string, Uint8Array][] = [
    ["empty", Buffer.alloc(0)],
    ["cut short", text.subarray(0, text.length - 40)],
    ["not UTF-8", Buffer.concat([text.subarray(0, 20), Buffer.of(0xff), text.subarray(21)])],
    ["a list", Buffer.from("[]")],
    ["nested without end", Buffer.from('{"a":'.repeat(200_000))],
    ["a key that stands twice", Buffer.from(text.toString().replace('"ab":260', '"ab":260,"ab":260'))],
  ];
  for (const [name, bytes] of cases) fails(() => parseTokenizerJson(bytes, "tokenizer.json"), bad, "tokenizer.json", name);
});

test("tokenizer.json: more values or objects than any vocabulary has", () => {
  const refused = (items: string, says: string) => fails(() => parseTokenizerJson(Buffer.from(`{"a":[${items}]}`), "t"), bad, says, says);
  refused("{},".repeat(100_000) + "{}", "at most 100000 objects");
  refused("0,".repeat(2_000_000) + "0", "at most 2000000 values");
});

test("tokenizer.json: a vocabulary of LLaMA 3's size, its merges as pairs", () => {
  const letters = [..."abcdefghij"];
  let longest = letters;
  const texts = [...letters];
  for (let length = 2; length <= 5; length++) {
    longest = longest.flatMap((text) => letters.map((letter) => text + letter));
    texts.push(...longest);
  }
  const json = jsonForm(smallPieces(["▁", ...texts]), "prepend", "pairs");
  const { pieces, merges } = parseTokenizerJson(jsonBytes(json), "tokenizer.json");
  assert.ok(pieces.length > 111_110 && merges.rank.length > 400_000, `${pieces.length} pieces, ${merges.rank.length} merges`);
});

test("tokenizer.json: what is allowed to differ", () => {
  const json = jsonForm(smallPieces(), "prepend", "pairs");
  json.post_processor = null;
  json.decoder = null;
  json.added_tokens.push({ id: 270, content: "<later>", special: false });
  const tokenizer = new VocabularyTokenizer(parseTokenizerJson(jsonBytes(json), "tokenizer.json"));
  assert.is(tokenizer.size, 271);
  assert.is(tokenizer.bos, 1);
  assert.is(tokenizer.specialId("<later>"), undefined);
  assert.is(tokenizer.decode([260, 270, 269, 266]), "ab<later>");
  assert.equal(tokenizer.encode("<later>").includes(270), false);
});

const pieces = smallPieces();
const extra = (text: string, type: number, score = -9) => modelFile([...pieces, { text, type, score }]);
const without = (index: number) => llamaTrainer.filter((_, i) => i !== index);
const normalizer = (index: number, field: Buffer) => modelFile(pieces, llamaTrainer, llamaNormalizer.map((old, i) => (i === index ? field : old)));

const modelCases: [name: string, code: ErrorCode, says: string, file: Uint8Array][] = [
  ["empty", bad, "pieces", Buffer.alloc(0)],
  ["cut short", bad, "field 3", modelFile(pieces).subarray(0, -3)],
  ["a Unigram model", unsupported, "1 (Unigram)", modelFile(pieces, without(0))],
  ["a model of words", unsupported, "3 (words)", modelFile(pieces, [...llamaTrainer, number(3, 3)])],
  ["no byte fallback", unsupported, "byte_fallback", modelFile(pieces, without(1))],
  ["whitespace as suffix", unsupported, "treat_whitespace_as_suffix", modelFile(pieces, [...llamaTrainer, number(24, 1)])],
  ["a character map", unsupported, "precompiled_charsmap", normalizer(1, message(2, "abc"))],
  ["no dummy prefix", unsupported, "add_dummy_prefix", normalizer(2, number(3, 0))],
  ["spaces removed", unsupported, "remove_extra_whitespaces", normalizer(3, number(4, 1))],
  ["spaces not escaped", unsupported, "escape_whitespaces", normalizer(4, number(5, 0))],
  ["no normalizer", unsupported, "remove_extra_whitespaces", modelFile(pieces, llamaTrainer, [])],
  ["a user-defined piece", unsupported, "user-defined", extra("<image>", 4)],
  ["an unused piece", unsupported, "unused", extra("x", 5)],
  ["a kind of 9", bad, "9", extra("x", 9)],
  ["a piece that stands twice", bad, "piece 260", extra("ab", 1)],
  ["an empty piece", bad, "piece 264", extra("", 1)],
  ["a piece of 300 characters", bad, "300", extra("x".repeat(300), 1)],
  ["a byte piece of another form", bad, "<0xzz>", extra("<0xzz>", 6)],
  ["a missing byte piece", unsupported, "<0xFF>", modelFile(pieces.filter(({ text }) => text !== "<0xFF>"))],
  ["no space mark", unsupported, "▁", modelFile(pieces.filter(({ text }) => text !== "▁"))],
  ["a score that is no number", bad, "NaN", extra("x", 1, Number.NaN)],
  ["an infinite score", bad, "Infinity", extra("x", 1, Infinity)],
  ["a score of another type", bad, "32-bit float", Buffer.concat([modelFile(pieces), message(1, Buffer.concat([message(1, "x"), number(2, 5)]))])],
  ["a piece that is no UTF-8", bad, "UTF-8", Buffer.concat([modelFile(pieces), message(1, message(1, Buffer.of(0xff, 0xfe)))])],
  ["a BOS that is text", bad, "bos_id", modelFile(pieces, [...llamaTrainer, number(41, 260)])],
  ["an EOS outside the vocabulary", bad, "eos_id", modelFile(pieces, [...llamaTrainer, number(42, 999_999)])],
  ["no BOS", bad, "-1", modelFile(pieces, [...llamaTrainer, number(41, -1)])],
  ["a group", bad, "wire type", Buffer.concat([modelFile(pieces), Buffer.of(0x0b)])],
  ["field 0", bad, "wire type", Buffer.concat([modelFile(pieces), Buffer.of(0x02, 0x00)])],
  ["a length beyond the file", bad, "that follow", Buffer.concat([modelFile(pieces), Buffer.of(0x0a, 0xff, 0xff, 0xff, 0x7f)])],
  ["a negative length", bad, "that follow", Buffer.concat([modelFile(pieces), Buffer.of(0x0a, ...Array<number>(9).fill(0xff), 0x01)])],
  ["a number without end", bad, "10 bytes", Buffer.concat([modelFile(pieces), Buffer.alloc(12, 0xff)])],
  ["a piece as a number", bad, "a varint", Buffer.concat([modelFile(pieces), number(1, 5)])],
  ["a list of base64 ranks", "ERR_UNSUPPORTED_FILE", "tiktoken", Buffer.from("IQ== 0\nIg== 1\n")],
];

test(`tokenizer.model: ${modelCases.length} faults, each named`, () => {
  for (const [name, code, says, file] of modelCases) fails(() => parseTokenizerModel(file, "tokenizer.model"), code, says, name);
});

test("tokenizer.model: fields of later versions are passed over", () => {
  const later = Buffer.concat([modelFile(pieces), number(99, 7), message(77, "x"), float(78, 1), modelPiece({ text: "c", score: -9, type: 1 })]);
  assert.is(new VocabularyTokenizer(parseTokenizerModel(later, "tokenizer.model")).size, 265);
});

test("pairs of ids that a vocabulary chose cost no more than others", () => {
  const count = 30_000;
  const fill = (pairs: readonly (readonly [number, number])[]) => () => {
    const table = new PairTable(count);
    assert.ok(pairs.every(([left, right], i) => table.add(left, right, i)));
    assert.ok(pairs.every(([left, right], i) => table.get(left, right) === i));
  };
  const grid = (step: number) => Array.from({ length: count }, (_, i) => [(i % 200) * step, Math.floor(i / 200) * step] as const);
  assertAsQuick(fill(chosenPairs(count, 260, 16)), fill(grid(1)), "chosen for fixed multipliers");
  for (const step of [2, 256, 4096]) assertAsQuick(fill(grid(step)), fill(grid(1)), `multiples of ${step}`);
});

test("tokenizer.model: scores that a vocabulary chose cost no more than others, and rank as they should", () => {
  const texts = Array.from({ length: 16_000 }, (_, i) => `x${String.fromCodePoint(0x4e00 + i)}`);
  const file = (scores: readonly number[]) => modelFile([...pieces, ...texts.map((text, i) => ({ text, type: 1, score: scores[i]! }))]);
  const [chosen, ordinary] = [file(chosenNumbers(texts.length)), file(texts.map((_, i) => i))];
  assertAsQuick(() => parseTokenizerModel(chosen, "t"), () => parseTokenizerModel(ordinary, "t"), "scores");
  const few = modelFile([...pieces, ...["xa", "xb", "ya", "yb"].map((text, i) => ({ text, type: 1, score: [3, 7, 7, 5][i]! }))]);
  const { merges } = parseTokenizerModel(few, "t");
  assert.equal([...merges.rank.slice(-4)], [2, 0, 0, 1]);
});

test("tokenizer.model: long pieces by the thousand are refused before they are cut", () => {
  const random = new Random(5);
  const long = Array.from({ length: kLimits.cutting / 256 ** 2 + 1 }, () => ({
    text: Array.from({ length: 256 }, () => "ab"[random.below(2)]).join(""), type: 1, score: -9,
  }));
  parseTokenizerModel(modelFile([...pieces, ...long.slice(2)]), "tokenizer.model");
  fails(() => parseTokenizerModel(modelFile([...pieces, ...long]), "tokenizer.model"), "ERR_TOO_LARGE", "the squares of", "long pieces");
});

test("ten thousand mutated files: a tokenizer or a typed error", () => {
  const random = new Random(17);
  const files = [
    { bytes: modelFile(strangers), parse: parseTokenizerModel },
    { bytes: Buffer.from(jsonBytes(jsonForm(strangers, "first"))), parse: parseTokenizerJson },
  ];
  for (let i = 0; i < 10_000; i++) {
    const { bytes, parse } = files[i % 2]!;
    const mutant = Buffer.from(bytes.subarray(0, random.below(4) === 0 ? random.below(bytes.length) : bytes.length));
    for (let n = random.below(6); n >= 0; n--) mutant[random.below(mutant.length)] = random.below(256);
    try {
      const tokenizer = new VocabularyTokenizer(parse(mutant, "file"));
      assert.is(tokenizer.encode("abc </s>").some((id) => id === tokenizer.eos), false);
    } catch (error) {
      assert.instance(error, HimapError, `case ${i}: ${(error as Error).stack}`);
    }
  }
});

test("a tokenizer that another model's config contradicts", () => {
  const tokenizer = new VocabularyTokenizer(parseTokenizerJson(jsonBytes(jsonForm(strangers, "first")), "tokenizer.json"));
  const model = (change: object = {}, vocabulary = 320) => ({ vocabulary, tokens: { bos: 1, eos: 2, image: 268, ...change } });
  checkAgreement(tokenizer, model(), "<image>");
  checkAgreement(new VocabularyTokenizer(parseTokenizerModel(modelFile(strangers), "tokenizer.model")), model({ image: 300 }), "<image>");
  fails(() => checkAgreement(tokenizer, model({}, 269), "<image>"), bad, "270", "a small embedding");
  fails(() => checkAgreement(tokenizer, model({ bos: 5 }), "<image>"), bad, "BOS", "another BOS");
  fails(() => checkAgreement(tokenizer, model({ eos: 5 }), "<image>"), bad, "EOS", "another EOS");
  fails(() => checkAgreement(tokenizer, model({ image: 5 }), "<image>"), bad, "<image>", "another image token");
});

test("folders", async () => {
  const folder = mkdtempSync(path.join(tmpdir(), "himap-tokenizer-"));
  const write = (name: string, bytes: Uint8Array | string) => writeFileSync(path.join(folder, name), bytes);
  const failing = async (code: ErrorCode, says: string) => {
    const error = await loadTokenizer(folder).then(() => undefined, (reason: unknown) => reason);
    fails(() => { throw error; }, code, says, says);
  };
  try {
    await failing(bad, "neither file");
    write("qwen.tiktoken", "IQ== 0\n");
    await failing("ERR_UNSUPPORTED_FILE", "qwen.tiktoken");
    write("tokenizer.model", modelFile(strangers));
    assert.is((await loadTokenizer(folder)).specialId("<image>"), undefined);
    write("tokenizer.json", jsonBytes(jsonForm(strangers, "first")));
    assert.is((await loadTokenizer(folder)).specialId("<image>"), 268);
    write("tokenizer.json", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n");
    await failing(bad, "Git LFS");
    write("tokenizer.json", Buffer.alloc(64_000_001, 0x20));
    await failing("ERR_TOO_LARGE", "64000000");
    rmSync(path.join(folder, "tokenizer.json"));
    mkdirSync(path.join(folder, "tokenizer.json"));
    await failing(bad, "a directory");
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test.run();
