/** A vocabulary as data: what both readers produce and what encoding and decoding run on. */

import { fault } from "../checkpoint/fault.js";
import type { MergeList } from "./bpe.js";

/** The space mark of SentencePiece, U+2581. */
export const kSpaceMark = "▁";

/**
 * Product limits of both file forms. `cutting`: characters that are looked at where every piece is cut at every place, which
 * only tokenizer.model asks for; LLaMA's 32,000 pieces take a million.
 */
export const kLimits = { pieces: 1 << 20, pieceLength: 256, merges: 1 << 21, cutting: 1 << 27 } as const;

export enum PieceKind {
  /** Text, possibly the result of merges. */
  Text,
  /** One byte of a character without a piece of its own. */
  Byte,
  /** Control: never made from text, contributes nothing to decoded text. */
  Special,
  /** Text that is never made from text: an added token that is not special, or an id that the file leaves out. */
  Added,
}

/**
 * Which segments of a prompt get a space mark in front:
 * - `prepend`: every one (SentencePiece, and tokenizer.json with a Prepend normalizer);
 * - `first`: only what stands at the very start, and only if it does not begin with a space (Metaspace "first").
 */
export type PrefixRule = "prepend" | "first";

export interface Piece {
  text: string;
  kind: PieceKind;
}

export interface Vocabulary {
  /** By id. */
  pieces: Piece[];
  /**
   * What merging starts from and works on: ids of `pieces`, and behind them characters that some piece holds but that are
   * no pieces themselves, by character.
   */
  characters: Map<string, number>;
  merges: MergeList;
  /** Ids of `<0x00>` to `<0xFF>`, [256]. */
  byteIds: Int32Array;
  prefix: PrefixRule;
  bos: number;
  eos: number;
  unk: number;
}

const bytePiece = /^<0x([0-9A-F]{2})>$/;

/** The byte that a byte piece stands for, or undefined. */
export function byteOf(piece: string): number | undefined {
  const digits = bytePiece.exec(piece)?.[1];
  return digits === undefined ? undefined : Number.parseInt(digits, 16);
}

/** Whether a string is one Unicode character (code point). */
export function isCharacter(text: string): boolean {
  return text.length === (text.codePointAt(0)! > 0xffff ? 2 : 1);
}

/**
 * Checks one piece's text.
 * @throws HimapError ERR_BAD_CHECKPOINT
 */
export function checkPiece(text: string, where: string, subject: string): void {
  if (text.length === 0 || text.length > kLimits.pieceLength) {
    fault("ERR_BAD_CHECKPOINT", where, `1 to ${kLimits.pieceLength} characters`, subject, String(text.length));
  }
  if (/\p{Surrogate}/u.test(text)) fault("ERR_BAD_CHECKPOINT", where, "valid Unicode", subject, "half a surrogate pair");
}

/**
 * Ids of the 256 byte pieces.
 * @throws HimapError ERR_UNSUPPORTED_MODEL where one is missing: text outside the vocabulary could not be encoded.
 */
export function byteIdsOf(pieces: readonly Piece[], where: string): Int32Array {
  const ids = new Int32Array(256).fill(-1);
  pieces.forEach((piece, id) => {
    if (piece.kind === PieceKind.Byte) ids[byteOf(piece.text)!] = id;
  });
  const missing = ids.indexOf(-1);
  if (missing >= 0) {
    const name = `<0x${missing.toString(16).toUpperCase().padStart(2, "0")}>`;
    fault("ERR_UNSUPPORTED_MODEL", where, "a piece for each byte", "the byte fallback", `none for ${name}`);
  }
  return ids;
}

/** Ids of the pieces that are single characters and may be made from text. */
export function charactersOf(pieces: readonly Piece[]): Map<string, number> {
  const characters = new Map<string, number>();
  pieces.forEach((piece, id) => {
    if (piece.kind === PieceKind.Text && isCharacter(piece.text)) characters.set(piece.text, id);
  });
  return characters;
}
