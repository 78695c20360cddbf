/**
 * Ids to text. Byte pieces are held until they are a whole character; a byte that can belong to none becomes one U+FFFD, as
 * SentencePiece has it.
 */

import type { DetokenizerStream } from "./types.js";
import { byteOf, kSpaceMark, PieceKind, type Vocabulary } from "./vocabulary.js";

const kReplacement = "\uFFFD";

/** What each id contributes, prepared once: text, or a byte, or nothing. */
export class PieceTexts {
  /** By id; empty for byte and special pieces. */
  readonly texts: string[];
  /** By id; -1 for anything but byte pieces. */
  readonly bytes: Int16Array;

  constructor({ pieces }: Vocabulary) {
    const isText = (kind: PieceKind) => kind === PieceKind.Text || kind === PieceKind.Added;
    this.texts = pieces.map(({ text, kind }) => (isText(kind) ? text.replaceAll(kSpaceMark, " ") : ""));
    this.bytes = Int16Array.from(pieces, ({ text, kind }) => (kind === PieceKind.Byte ? byteOf(text)! : -1));
  }
}

/** Bytes that a sequence starting with `lead` has in all, or 0 where no character starts so. */
function sequenceLength(lead: number): number {
  if (lead < 0x80) return 1;
  if (lead < 0xc2) return 0;
  if (lead < 0xe0) return 2;
  if (lead < 0xf0) return 3;
  return lead < 0xf5 ? 4 : 0;
}

/** Whether `byte` may follow `held`; the second byte's range keeps out overlong forms, surrogates and what is above U+10FFFF. */
function continues(held: readonly number[], byte: number): boolean {
  if (held.length > 1) return byte >= 0x80 && byte <= 0xbf;
  const lead = held[0]!;
  const low = lead === 0xe0 ? 0xa0 : lead === 0xf0 ? 0x90 : 0x80;
  const high = lead === 0xed ? 0x9f : lead === 0xf4 ? 0x8f : 0xbf;
  return byte >= low && byte <= high;
}

function characterOf(bytes: readonly number[]): string {
  const lead = bytes[0]!;
  let code = bytes.length === 1 ? lead : lead & (0xff >> (bytes.length + 1));
  for (const byte of bytes.slice(1)) code = (code << 6) | (byte & 0x3f);
  return String.fromCodePoint(code);
}

export class Detokenizer implements DetokenizerStream {
  /** The start of a character, at most 3 bytes, always valid so far. */
  private held: number[] = [];
  private started = false;

  constructor(private readonly pieces: PieceTexts) {}

  push(id: number): string {
    const byte = this.pieces.bytes[id] ?? -1;
    if (byte >= 0) return this.start(this.byte(byte));
    const text = this.pieces.texts[id] ?? "";
    // A special id says nothing, and so does not part the bytes on its two sides either.
    return text === "" ? "" : this.start(this.giveUp() + text);
  }

  end(): string {
    return this.start(this.giveUp());
  }

  private byte(byte: number): string {
    let text = "";
    if (this.held.length > 0 && !continues(this.held, byte)) text = this.giveUp();
    if (this.held.length === 0 && sequenceLength(byte) === 0) return text + kReplacement;
    this.held.push(byte);
    if (this.held.length < sequenceLength(this.held[0]!)) return text;
    text += characterOf(this.held);
    this.held = [];
    return text;
  }

  /** The bytes held turned out to be no character. */
  private giveUp(): string {
    const text = kReplacement.repeat(this.held.length);
    this.held = [];
    return text;
  }

  /** Takes the leading space mark off the first text. */
  private start(text: string): string {
    if (this.started || text === "") return text;
    this.started = true;
    return text.startsWith(" ") ? text.slice(1) : text;
  }
}
