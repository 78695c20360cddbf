/** What the rest of the package knows of a tokenizer. */

/** Ids to text as they come: never half a character, never a replacement for one that is still arriving. */
export interface DetokenizerStream {
  /** The text that `id` completes; empty while a character is incomplete, and for special ids. */
  push(id: number): string;
  /** What is left at the end: one U+FFFD per byte of an unfinished character. */
  end(): string;
}

/**
 * A vocabulary and its rules. Text is only ever text: `encode` produces no special id whatever it is given, so that a
 * user who types `</s>` or `<image>` has typed six or seven characters.
 */
export interface Tokenizer {
  /** Ids are below this; special and added ones included. */
  readonly size: number;
  readonly bos: number;
  readonly eos: number;
  readonly unk: number;
  /**
   * Ids of a text, without BOS. `position` says whether anything, text or special token, stands before it in the
   * prompt: vocabularies differ in whether a later segment gets the leading space mark. Default `first`.
   * Half surrogate pairs are read as U+FFFD.
   */
  encode(text: string, position?: "first" | "later"): number[];
  /** Text of a whole sequence: special and unknown ids contribute nothing, one leading space is taken off. */
  decode(ids: ArrayLike<number>): string;
  /** A decoder of its own for one answer. */
  stream(): DetokenizerStream;
  /** The id of a special token by its text, such as `<image>`. */
  specialId(text: string): number | undefined;
  /** The piece as the vocabulary writes it (`▁the`, `<0x0A>`); empty for an id that the vocabulary does not have. */
  piece(id: number): string;
}
