/**
 * Reads `tokenizer.json`: vocabulary, merges, added tokens, the prefix rule, the BOS that its post-processor names. Its
 * decoder is not read: LLaMA vocabularies have one.
 */

import { fault } from "../checkpoint/fault.js";
import { describe, parseJsonObject, type JsonObject, type JsonValue } from "../checkpoint/json.js";
import type { MergeList } from "./bpe.js";
import { PairTable } from "./pair-table.js";
import {
  byteIdsOf, byteOf, charactersOf, checkPiece, kLimits, kSpaceMark, PieceKind, type Piece, type PrefixRule, type Vocabulary,
} from "./vocabulary.js";

/** 128,000 pieces and 280,000 merges as pairs, which LLaMA 3 has, take a million values; objects are the added tokens. */
const jsonLimits = { depth: 64, values: 2_000_000, objects: 100_000 };
const beginText = "<s>";
const endText = "</s>";

/**
 * @param bytes The whole file.
 * @param where Its name, for messages.
 * @throws HimapError ERR_BAD_CHECKPOINT: damaged or at odds with itself; ERR_UNSUPPORTED_MODEL: not a LLaMA-like BPE.
 */
export function parseTokenizerJson(bytes: Uint8Array, where: string): Vocabulary {
  const root = parseJsonObject(bytes, where, jsonLimits);
  const model = objectOf(root.get("model"), where, "model");
  checkModel(model, where);
  const vocabulary = objectOf(model.get("vocab"), where, "model.vocab");
  const pieces = readPieces(vocabulary, where);
  const unkText = stringOf(model.get("unk_token"), where, "model.unk_token");
  for (const text of [unkText, beginText, endText]) {
    const id = vocabulary.get(text);
    if (typeof id === "number") pieces[id] = { text, kind: PieceKind.Special };
  }
  readAddedTokens(root.get("added_tokens"), pieces, vocabulary, where);
  const prefix = readPrefix(root, where);
  const byteIds = byteIdsOf(pieces, where);
  const characters = charactersOf(pieces);
  if (!characters.has(kSpaceMark)) fault("ERR_UNSUPPORTED_MODEL", where, `the piece ${kSpaceMark}`, "spaces", "none");
  const merges = readMerges(model.get("merges"), pieces, vocabulary, where);
  const specials = new Map(pieces.flatMap(({ text, kind }, id) => (kind === PieceKind.Special ? [[text, id] as const] : [])));
  const special = (text: string) =>
    specials.get(text) ?? fault("ERR_UNSUPPORTED_MODEL", where, "a special token", text, "no token of that text");
  const bos = special(readBegin(root) ?? beginText);
  return { pieces, characters, merges, byteIds, prefix, bos, eos: special(endText), unk: special(unkText) };
}

/** The settings of a BPE model that change what it produces, and the values under which it does what LLaMA's does. */
function checkModel(model: JsonObject, where: string): void {
  const type = model.get("type");
  if (type !== "BPE") fault("ERR_UNSUPPORTED_MODEL", where, '"BPE"', "model.type", describe(type));
  if (model.get("byte_fallback") !== true) {
    fault("ERR_UNSUPPORTED_MODEL", where, "true", "model.byte_fallback", describe(model.get("byte_fallback")));
  }
  for (const name of ["dropout", "continuing_subword_prefix", "end_of_word_suffix", "ignore_merges"]) {
    const value = model.get(name) ?? null;
    if (value !== null && value !== false && value !== "" && value !== 0) {
      fault("ERR_UNSUPPORTED_MODEL", where, "nothing", `model.${name}`, describe(value));
    }
  }
}

/** Ids must run from 0 without a hole, so that a piece that stands twice shows as a missing id. */
function readPieces(vocabulary: JsonObject, where: string): Piece[] {
  const count = vocabulary.size;
  if (count > kLimits.pieces) fault("ERR_TOO_LARGE", where, `at most ${kLimits.pieces} pieces`, "model.vocab", String(count));
  const pieces: Piece[] = new Array<Piece>(count);
  for (const [text, id] of vocabulary) {
    const subject = `the id of ${describe(text)} in model.vocab`;
    if (!isId(id, count)) fault("ERR_BAD_CHECKPOINT", where, `an integer from 0 to ${count - 1}`, subject, describe(id));
    if (pieces[id] !== undefined) {
      fault("ERR_BAD_CHECKPOINT", where, "an id of its own", subject, `${id}, which ${describe(pieces[id].text)} has`);
    }
    checkPiece(text, where, `piece ${id} of model.vocab`);
    pieces[id] = { text, kind: byteOf(text) === undefined ? PieceKind.Text : PieceKind.Byte };
  }
  return pieces;
}

/** Added tokens stand behind the vocabulary or repeat an entry of it; ids between that nobody names stay empty. */
function readAddedTokens(value: JsonValue | undefined, pieces: Piece[], vocabulary: JsonObject, where: string): void {
  const texts = new Map<string, number>();
  const known = pieces.length;
  arrayOf(value ?? [], where, "added_tokens").forEach((entry, index) => {
    const subject = `added_tokens[${index}]`;
    const token = objectOf(entry, where, subject);
    const text = stringOf(token.get("content"), where, `${subject}.content`);
    const id = token.get("id");
    if (!isId(id, kLimits.pieces)) {
      fault("ERR_BAD_CHECKPOINT", where, `an integer from 0 to ${kLimits.pieces - 1}`, `${subject}.id`, describe(id));
    }
    checkPiece(text, where, `${subject}.content`);
    const inVocabulary = vocabulary.get(text);
    const twin = id < known ? pieces[id]!.text : text;
    if (twin !== text || (inVocabulary !== undefined && inVocabulary !== id)) {
      fault("ERR_BAD_CHECKPOINT", where, "the id that model.vocab gives", `${subject} ${describe(text)}`, String(id));
    }
    if (texts.has(text) || (id >= known && pieces[id] !== undefined)) {
      fault("ERR_BAD_CHECKPOINT", where, "a text and an id that no other has", `${subject} ${describe(text)}`, String(id));
    }
    texts.set(text, id);
    while (pieces.length < id) pieces.push(undefined!);
    const special = token.get("special") === true || pieces[id]?.kind === PieceKind.Special;
    pieces[id] = { text, kind: special ? PieceKind.Special : PieceKind.Added };
  });
  for (let id = known; id < pieces.length; id++) pieces[id] ??= { text: "", kind: PieceKind.Added };
}

function readMerges(value: JsonValue | undefined, pieces: Piece[], vocabulary: JsonObject, where: string): MergeList {
  const items = arrayOf(value, where, "model.merges");
  const count = items.length;
  if (count >= kLimits.merges) fault("ERR_TOO_LARGE", where, `less than ${kLimits.merges} merges`, "model.merges", String(count));
  const [left, right, made] = [new Int32Array(count), new Int32Array(count), new Int32Array(count)];
  const rank = Int32Array.from({ length: count }, (_, index) => index);
  const seen = new PairTable(count);
  // Only text makes text: a merge that ends in `</s>` would let a user write the control token.
  const idOf = (text: string, index: number) => {
    const id = vocabulary.get(text);
    if (typeof id === "number" && pieces[id]!.kind === PieceKind.Text) return id;
    return fault("ERR_BAD_CHECKPOINT", where, "text pieces of the vocabulary", `model.merges[${index}]`, describe(text));
  };
  items.forEach((item, index) => {
    const parts = typeof item === "string" ? item.split(" ") : item;
    const [a, b] = Array.isArray(parts) && parts.length === 2 ? parts : [];
    if (typeof a !== "string" || typeof b !== "string") {
      return fault("ERR_BAD_CHECKPOINT", where, 'a pair, "a b" or ["a", "b"]', `model.merges[${index}]`, describe(item));
    }
    left[index] = idOf(a, index);
    right[index] = idOf(b, index);
    made[index] = idOf(a + b, index);
    if (!seen.add(left[index]!, right[index]!, index)) {
      fault("ERR_BAD_CHECKPOINT", where, "a pair that stands once", `model.merges[${index}]`, describe(`${a} ${b}`));
    }
  });
  return { left, right, made, rank };
}

/** Where space marks go in front: a normalizer (as LLaMA's converters wrote it first) or a pre-tokenizer (as they do now). */
function readPrefix(root: JsonObject, where: string): PrefixRule {
  const normalizer = root.get("normalizer") ?? null;
  const preTokenizer = root.get("pre_tokenizer") ?? null;
  if (normalizer !== null && preTokenizer === null) {
    if (isPrependNormalizer(normalizer)) return "prepend";
    fault("ERR_UNSUPPORTED_MODEL", where, "Prepend and Replace of spaces", "normalizer", summary(normalizer));
  }
  if (normalizer !== null || preTokenizer === null) {
    const received = normalizer === null ? "neither" : "both";
    fault("ERR_UNSUPPORTED_MODEL", where, "one of normalizer and pre_tokenizer", "the prefix rule", received);
  }
  if (isFirstMetaspace(preTokenizer)) return "first";
  const expected = 'Metaspace with prepend_scheme "first" and split false';
  return fault("ERR_UNSUPPORTED_MODEL", where, expected, "pre_tokenizer", summary(preTokenizer));
}

function isPrependNormalizer(value: JsonValue): boolean {
  const items = fieldOf(value, "normalizers");
  if (fieldOf(value, "type") !== "Sequence" || !Array.isArray(items) || items.length !== 2) return false;
  const [prepend, replace] = items;
  return (
    fieldOf(prepend, "type") === "Prepend" && fieldOf(prepend, "prepend") === kSpaceMark && fieldOf(replace, "type") === "Replace" &&
    fieldOf(fieldOf(replace, "pattern"), "String") === " " && fieldOf(replace, "content") === kSpaceMark
  );
}

function isFirstMetaspace(value: JsonValue): boolean {
  return (
    fieldOf(value, "type") === "Metaspace" && fieldOf(value, "replacement") === kSpaceMark &&
    fieldOf(value, "prepend_scheme") === "first" && fieldOf(value, "split") === false
  );
}

/** The token that the post-processor puts in front of a text, if it names one. */
function readBegin(root: JsonObject): string | undefined {
  const single = fieldOf(root.get("post_processor"), "single");
  const id = Array.isArray(single) ? fieldOf(fieldOf(single[0], "SpecialToken"), "id") : undefined;
  return typeof id === "string" ? id : undefined;
}

function fieldOf(value: JsonValue | undefined, name: string): JsonValue | undefined {
  return value instanceof Map ? value.get(name) : undefined;
}

/** Names a component by its type and those of its parts. */
function summary(value: JsonValue): string {
  const parts = fieldOf(value, "normalizers") ?? fieldOf(value, "pretokenizers");
  const own = String(fieldOf(value, "type") ?? describe(value)).slice(0, 80);
  return Array.isArray(parts) ? `${own} of ${parts.slice(0, 4).map((part) => describe(fieldOf(part, "type"))).join(", ")}` : own;
}

function isId(value: JsonValue | undefined, limit: number): value is number {
  return Number.isInteger(value) && (value as number) >= 0 && (value as number) < limit;
}

function objectOf(value: JsonValue | undefined, where: string, subject: string): JsonObject {
  return value instanceof Map ? value : fault("ERR_BAD_CHECKPOINT", where, "an object", subject, describe(value));
}

function arrayOf(value: JsonValue | undefined, where: string, subject: string): JsonValue[] {
  return Array.isArray(value) ? value : fault("ERR_BAD_CHECKPOINT", where, "an array", subject, describe(value));
}

function stringOf(value: JsonValue | undefined, where: string, subject: string): string {
  return typeof value === "string" ? value : fault("ERR_BAD_CHECKPOINT", where, "a string", subject, describe(value));
}
