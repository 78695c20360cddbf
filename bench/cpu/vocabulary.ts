/** An invented vocabulary of the SentencePiece kind, for model files whose readers insist on one. */

/** `kind`: 1 a piece, 2 unknown, 3 control, 6 a byte. */
export interface InventedToken {
  text: string;
  score: number;
  kind: number;
}

const wordMark = "\u2581";
const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,:;!?'-";

/** Three specials, all bytes, single characters, then numbered words up to `size` tokens, all different. */
export function inventVocabulary(size: number): InventedToken[] {
  const tokens: InventedToken[] = [
    { text: "<unk>", score: 0, kind: 2 },
    { text: "<s>", score: 0, kind: 3 },
    { text: "</s>", score: 0, kind: 3 },
  ];
  for (let byte = 0; byte < 256; byte++) {
    tokens.push({ text: `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`, score: 0, kind: 6 });
  }
  const pieces = [wordMark, ...letters];
  for (let i = 0; tokens.length + pieces.length < size; i++) pieces.push(`${wordMark}w${i.toString(36)}`);
  for (const [i, text] of pieces.entries()) tokens.push({ text, score: -1 - i, kind: 1 });
  return tokens;
}
