/** Stop strings in a text that arrives in pieces. */

/**
 * Lets a text through up to the first stop string. Text that may turn out to be the beginning of one is held back. The
 * outcome does not depend on how the text was cut into pieces: the stop string that is complete first ends the text,
 * and of those complete at the same character the longest.
 */
export class StopScanner {
  readonly #stops: readonly string[];
  #held = "";
  #stopped = false;

  /** @param stops none of them empty */
  constructor(stops: readonly string[]) {
    this.#stops = stops;
  }

  /** Whether a stop string has come; nothing passes any more. */
  get stopped(): boolean {
    return this.#stopped;
  }

  /** Takes a piece and returns the text that is now certain. */
  push(piece: string): string {
    if (this.#stopped) return "";
    if (this.#stops.length === 0) return piece;
    const text = this.#held + piece;
    let end = Infinity;
    let start = 0;
    for (const stop of this.#stops) {
      const at = text.indexOf(stop);
      if (at < 0) continue;
      const after = at + stop.length;
      if (after < end || (after === end && at < start)) [end, start] = [after, at];
    }
    if (end !== Infinity) {
      this.#stopped = true;
      this.#held = "";
      return text.slice(0, start);
    }
    const held = this.#heldLength(text);
    this.#held = text.slice(text.length - held);
    return text.slice(0, text.length - held);
  }

  /** The text held back, when no more will come. */
  end(): string {
    const text = this.#held;
    this.#held = "";
    return text;
  }

  /** Length of the longest end of `text` that begins a stop string. */
  #heldLength(text: string): number {
    let longest = 0;
    for (const stop of this.#stops) {
      for (let length = Math.min(stop.length - 1, text.length); length > longest; length--) {
        if (text.endsWith(stop.slice(0, length))) {
          longest = length;
          break;
        }
      }
    }
    return longest;
  }
}
