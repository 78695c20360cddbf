/** Reads SentencePiece's `tokenizer.model`: pieces with scores, and the settings that must be LLaMA's. */

import { fault } from "../checkpoint/fault.js";
import type { MergeList } from "./bpe.js";
import { fieldsOf, type Field } from "./protobuf.js";
import {
  byteIdsOf, byteOf, charactersOf, checkPiece, isCharacter, kLimits, kSpaceMark, PieceKind, type Piece, type Vocabulary,
} from "./vocabulary.js";

/** SentencePiece's numbers of the kinds of pieces. */
const kinds = ["", "normal", "unknown", "control", "user-defined", "unused", "byte"];

interface ScoredPiece extends Piece {
  score: number;
}

interface Settings {
  /** 1 Unigram, 2 BPE, 3 words, 4 characters. */
  modelType: number;
  byteFallback: boolean;
  spaceAsSuffix: boolean;
  unk: number;
  bos: number;
  eos: number;
  charsmapBytes: number;
  addDummyPrefix: boolean;
  removeExtraSpaces: boolean;
  escapeSpaces: boolean;
}

/**
 * @param bytes The whole file.
 * @param where Its name, for messages.
 * @throws HimapError ERR_BAD_CHECKPOINT: damaged or at odds with itself; ERR_UNSUPPORTED_MODEL: not a LLaMA-like BPE;
 *   ERR_UNSUPPORTED_FILE: a vocabulary of another kind under this name.
 */
export function parseTokenizerModel(bytes: Uint8Array, where: string): Vocabulary {
  const start = new TextDecoder("latin1").decode(bytes.subarray(0, 200));
  if (/^[A-Za-z0-9+/]+={0,2} [0-9]+\r?\n/.test(start)) {
    fault("ERR_UNSUPPORTED_FILE", where, "a SentencePiece model", "the file", "a list of base64 tokens and ranks (tiktoken)");
  }
  const { pieces, settings } = readModel(bytes, where);
  checkSettings(settings, where);
  const byteIds = byteIdsOf(pieces, where);
  const characters = charactersOf(pieces);
  if (!characters.has(kSpaceMark)) fault("ERR_UNSUPPORTED_MODEL", where, `the piece ${kSpaceMark}`, "spaces", "none");
  addLooseCharacters(pieces, characters);
  const special = (name: "unk" | "bos" | "eos") => {
    const id = settings[name];
    if (pieces[id]?.kind === PieceKind.Special) return id;
    return fault("ERR_BAD_CHECKPOINT", where, "the id of a control piece", `trainer_spec.${name}_id`, String(id));
  };
  return {
    pieces: pieces.map(({ text, kind }) => ({ text, kind })), characters, merges: mergesOf(pieces, characters, where), byteIds,
    prefix: "prepend", bos: special("bos"), eos: special("eos"), unk: special("unk"),
  };
}

function readModel(bytes: Uint8Array, where: string): { pieces: ScoredPiece[]; settings: Settings } {
  const pieces: ScoredPiece[] = [];
  const ids = new Map<string, number>();
  // What a field that is not written means, by the schema.
  const settings: Settings = {
    modelType: 1, byteFallback: false, spaceAsSuffix: false, unk: 0, bos: 1, eos: 2, charsmapBytes: 0, addDummyPrefix: true,
    removeExtraSpaces: true, escapeSpaces: true,
  };
  for (const field of fieldsOf(bytes, where, "the model")) {
    if (field.number > 5) continue;
    if (field.wire !== "bytes") fault("ERR_BAD_CHECKPOINT", where, "a message", `field ${field.number} of the model`, `a ${field.wire}`);
    if (field.number === 1) {
      const id = pieces.length;
      if (id >= kLimits.pieces) fault("ERR_TOO_LARGE", where, `at most ${kLimits.pieces} pieces`, "the vocabulary", "more");
      const piece = readPiece(field.bytes, where, `piece ${id}`);
      const twin = ids.get(piece.text);
      if (twin !== undefined) {
        fault("ERR_BAD_CHECKPOINT", where, "a text of its own", `piece ${id}`, `${JSON.stringify(piece.text)}, which piece ${twin} has`);
      }
      ids.set(piece.text, id);
      pieces.push(piece);
    } else if (field.number === 2) readTrainer(field.bytes, where, settings);
    else if (field.number === 3) readNormalizer(field.bytes, where, settings);
  }
  if (pieces.length === 0) fault("ERR_BAD_CHECKPOINT", where, "pieces", "the vocabulary", "none");
  return { pieces, settings };
}

function readPiece(bytes: Uint8Array, where: string, subject: string): ScoredPiece {
  let text = "";
  let score = 0;
  let type = 1;
  for (const field of fieldsOf(bytes, where, subject)) {
    if (field.number === 1) text = textOf(field, where, subject);
    else if (field.number === 2) score = floatOf(field, where, `the score of ${subject}`);
    else if (field.number === 3) type = numberOf(field, where, `the kind of ${subject}`);
  }
  checkPiece(text, where, subject);
  const name = kinds[type];
  if (!name) fault("ERR_BAD_CHECKPOINT", where, "1 to 6", `the kind of ${subject}`, String(type));
  // These two change how text is cut before any merge.
  if (name === "user-defined" || name === "unused") {
    fault("ERR_UNSUPPORTED_MODEL", where, "normal, unknown, control and byte pieces", subject, `${JSON.stringify(text)}, a ${name} one`);
  }
  if (name === "byte" && byteOf(text) === undefined) {
    fault("ERR_BAD_CHECKPOINT", where, "a text from <0x00> to <0xFF>", `${subject}, a byte`, JSON.stringify(text));
  }
  return { text, score, kind: name === "normal" ? PieceKind.Text : name === "byte" ? PieceKind.Byte : PieceKind.Special };
}

function readTrainer(bytes: Uint8Array, where: string, settings: Settings): void {
  const names: Record<number, string> = {
    3: "model_type", 24: "treat_whitespace_as_suffix", 35: "byte_fallback", 40: "unk_id", 41: "bos_id", 42: "eos_id",
  };
  for (const field of fieldsOf(bytes, where, "trainer_spec")) {
    const name = names[field.number];
    if (name === undefined) continue;
    const value = numberOf(field, where, `trainer_spec.${name}`);
    if (field.number === 3) settings.modelType = value;
    else if (field.number === 24) settings.spaceAsSuffix = value !== 0;
    else if (field.number === 35) settings.byteFallback = value !== 0;
    else if (field.number === 40) settings.unk = value;
    else if (field.number === 41) settings.bos = value;
    else settings.eos = value;
  }
}

function readNormalizer(bytes: Uint8Array, where: string, settings: Settings): void {
  const names: Record<number, string> = { 3: "add_dummy_prefix", 4: "remove_extra_whitespaces", 5: "escape_whitespaces" };
  for (const field of fieldsOf(bytes, where, "normalizer_spec")) {
    if (field.number === 2) settings.charsmapBytes = field.bytes.length;
    const name = names[field.number];
    if (name === undefined) continue;
    const value = numberOf(field, where, `normalizer_spec.${name}`) !== 0;
    if (field.number === 3) settings.addDummyPrefix = value;
    else if (field.number === 4) settings.removeExtraSpaces = value;
    else settings.escapeSpaces = value;
  }
}

function checkSettings(settings: Settings, where: string): void {
  const must = (holds: boolean, expected: string, subject: string, received: string) => {
    if (!holds) fault("ERR_UNSUPPORTED_MODEL", where, expected, subject, received);
  };
  const { modelType, charsmapBytes } = settings;
  const modelTypes = ["", "1 (Unigram)", "2 (BPE)", "3 (words)", "4 (characters)"];
  must(modelType === 2, "2 (BPE)", "trainer_spec.model_type", modelTypes[modelType] ?? String(modelType));
  must(settings.byteFallback, "true", "trainer_spec.byte_fallback", "false");
  must(!settings.spaceAsSuffix, "false", "trainer_spec.treat_whitespace_as_suffix", "true");
  must(charsmapBytes === 0, "no bytes", "normalizer_spec.precompiled_charsmap", `${charsmapBytes}`);
  must(settings.addDummyPrefix, "true", "normalizer_spec.add_dummy_prefix", "false");
  must(!settings.removeExtraSpaces, "false", "normalizer_spec.remove_extra_whitespaces", "true");
  must(settings.escapeSpaces, "true", "normalizer_spec.escape_whitespaces", "false");
}

/** SentencePiece joins strings, not ids, so a piece may be built over a character that is no piece. */
function addLooseCharacters(pieces: readonly Piece[], characters: Map<string, number>): void {
  let symbol = pieces.length;
  for (const { text, kind } of pieces) {
    if (kind !== PieceKind.Text || isCharacter(text)) continue;
    for (const character of text) if (!characters.has(character)) characters.set(character, symbol++);
  }
}

/**
 * SentencePiece merges two neighbours whenever they make a piece, the best score first. So each way to cut a piece in two
 * symbols is a merge, and pieces of one score share a rank.
 */
function mergesOf(pieces: readonly ScoredPiece[], characters: ReadonlyMap<string, number>, where: string): MergeList {
  const symbols = new Map(characters);
  pieces.forEach(({ text, kind }, id) => {
    if (kind === PieceKind.Text) symbols.set(text, id);
  });
  const ranks = ranksOf(pieces);
  const [left, right, made, rank]: [number[], number[], number[], number[]] = [[], [], [], []];
  let cutting = 0;
  pieces.forEach(({ text, kind }, id) => {
    if (kind !== PieceKind.Text) return;
    cutting += text.length ** 2;
    if (cutting > kLimits.cutting) {
      fault("ERR_TOO_LARGE", where, `at most ${kLimits.cutting}`, "the squares of the pieces' lengths, together", "more");
    }
    for (let cut = 1; cut < text.length; cut++) {
      const [a, b] = [symbols.get(text.slice(0, cut)), symbols.get(text.slice(cut))];
      if (a === undefined || b === undefined) continue;
      left.push(a);
      right.push(b);
      made.push(id);
      rank.push(ranks[id]!);
    }
    if (left.length >= kLimits.merges) fault("ERR_TOO_LARGE", where, `less than ${kLimits.merges} ways to join`, "the vocabulary", "more");
  });
  return { left: Int32Array.from(left), right: Int32Array.from(right), made: Int32Array.from(made), rank: Int32Array.from(rank) };
}

/** By id; the best score has 0, and equal scores share. Sorted, since the hash of a number in a Map or Set has no seed. */
function ranksOf(pieces: readonly ScoredPiece[]): Int32Array {
  const ranks = new Int32Array(pieces.length);
  const ids = pieces.map((_, id) => id).sort((a, b) => pieces[b]!.score - pieces[a]!.score);
  for (let i = 1; i < ids.length; i++) {
    const [better, id] = [ids[i - 1]!, ids[i]!];
    ranks[id] = ranks[better]! + (pieces[id]!.score === pieces[better]!.score ? 0 : 1);
  }
  return ranks;
}

function numberOf(field: Field, where: string, subject: string): number {
  return field.wire === "varint" ? field.value : fault("ERR_BAD_CHECKPOINT", where, "a varint", subject, `a ${field.wire}`);
}

function floatOf(field: Field, where: string, subject: string): number {
  if (field.wire !== "fixed32") fault("ERR_BAD_CHECKPOINT", where, "a 32-bit float", subject, `a ${field.wire}`);
  const value = new DataView(field.bytes.buffer, field.bytes.byteOffset, 4).getFloat32(0, true);
  return Number.isFinite(value) ? value : fault("ERR_BAD_CHECKPOINT", where, "a finite number", subject, String(value));
}

function textOf(field: Field, where: string, subject: string): string {
  if (field.wire !== "bytes") fault("ERR_BAD_CHECKPOINT", where, "a string", subject, `a ${field.wire}`);
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(field.bytes);
  } catch (cause) {
    return fault("ERR_BAD_CHECKPOINT", where, "UTF-8", subject, "other bytes", { cause });
  }
}
