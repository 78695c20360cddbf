/** The tokenizer over a vocabulary: SentencePiece's BPE, exact, in a time that grows as n log n whatever the text. */

import { PairMerger } from "./bpe.js";
import { Detokenizer, PieceTexts } from "./detokenizer.js";
import { PairTable } from "./pair-table.js";
import type { DetokenizerStream, Tokenizer } from "./types.js";
import { kSpaceMark, PieceKind, type Vocabulary } from "./vocabulary.js";

const kSpace = 0x20;
const kReplacement = 0xfffd;
const kMark = kSpaceMark.codePointAt(0)!;
const utf8 = new TextEncoder();

export class VocabularyTokenizer implements Tokenizer {
  readonly size: number;
  readonly bos: number;
  readonly eos: number;
  readonly unk: number;
  private readonly specials = new Map<string, number>();
  private readonly merger: PairMerger;
  private readonly joints: PairTable;
  private readonly texts: PieceTexts;
  /** Symbols of characters: below U+10000 by code, [65536], -1 for none; the others in a map. */
  private readonly low = new Int32Array(0x10000).fill(-1);
  private readonly high = new Map<number, number>();
  /** Characters of symbols that are no pieces, [symbols - size]. */
  private readonly loose: number[] = [];

  constructor(private readonly vocabulary: Vocabulary) {
    const { pieces, characters, merges } = vocabulary;
    this.size = pieces.length;
    this.bos = vocabulary.bos;
    this.eos = vocabulary.eos;
    this.unk = vocabulary.unk;
    pieces.forEach(({ text, kind }, id) => {
      if (kind === PieceKind.Special) this.specials.set(text, id);
    });
    for (const [character, symbol] of characters) {
      const code = character.codePointAt(0)!;
      if (code < 0x10000) this.low[code] = symbol;
      else this.high.set(code, symbol);
      if (symbol >= this.size) this.loose[symbol - this.size] = code;
    }
    this.merger = new PairMerger(merges);
    this.joints = this.jointsOf(vocabulary);
    this.texts = new PieceTexts(vocabulary);
  }

  encode(text: string, position: "first" | "later" = "first"): number[] {
    const ids: number[] = [];
    if (text === "") return ids;
    let run = new Int32Array(256); // symbols since the last place that no merge can reach across
    let count = 0;
    const flush = () => {
      const left = this.merger.merge(run, count);
      for (let i = 0; i < left; i++) this.emit(run[i]!, ids);
      count = 0;
    };
    const append = (symbol: number) => {
      if (count > 0 && this.joints.get(run[count - 1]!, symbol) < 0) flush();
      if (count === run.length) {
        const longer = new Int32Array(2 * count);
        longer.set(run);
        run = longer;
      }
      run[count++] = symbol;
    };
    if (this.takesMark(text, position)) append(this.low[kMark]!);
    for (let i = 0; i < text.length; i++) {
      let code = text.charCodeAt(i);
      if (code === kSpace) code = kMark;
      if (code >= 0xd800 && code < 0xe000) {
        code = text.codePointAt(i)!;
        if (code > 0xffff) i++;
        else code = kReplacement; // half a pair: what UTF-8 encoders make of it
      }
      const symbol = code < 0x10000 ? this.low[code]! : this.high.get(code) ?? -1;
      if (symbol >= 0) {
        append(symbol);
        continue;
      }
      flush();
      this.emitBytes(code, ids);
    }
    flush();
    return ids;
  }

  decode(ids: ArrayLike<number>): string {
    const stream = this.stream();
    let text = "";
    for (let i = 0; i < ids.length; i++) text += stream.push(ids[i]!);
    return text + stream.end();
  }

  stream(): DetokenizerStream {
    return new Detokenizer(this.texts);
  }

  specialId(text: string): number | undefined {
    return this.specials.get(text);
  }

  piece(id: number): string {
    return this.vocabulary.pieces[id]?.text ?? "";
  }

  private takesMark(text: string, position: "first" | "later"): boolean {
    if (this.vocabulary.prefix === "prepend") return true;
    return position === "first" && text[0] !== " " && text[0] !== kSpaceMark;
  }

  private emit(symbol: number, ids: number[]): void {
    if (symbol < this.size) ids.push(symbol);
    else this.emitBytes(this.loose[symbol - this.size]!, ids);
  }

  private emitBytes(code: number, ids: number[]): void {
    for (const byte of utf8.encode(String.fromCodePoint(code))) ids.push(this.vocabulary.byteIds[byte]!);
  }

  /**
   * Pairs of characters that some merge joins. LLaMA has no pre-tokenization, the whole text is one word; but a merge across
   * two neighbours first happens where one symbol ends in the left and the other begins with the right, so where no merge
   * has such a joint the text can be cut without changing a token. Runs then are about as long as words.
   */
  private jointsOf({ pieces, characters, merges }: Vocabulary): PairTable {
    const joints = new PairTable(merges.left.length);
    const textOf = (symbol: number) => pieces[symbol]?.text ?? String.fromCodePoint(this.loose[symbol - this.size]!);
    for (let i = 0; i < merges.left.length; i++) {
      const last = characters.get(lastCharacter(textOf(merges.left[i]!)));
      const first = characters.get(String.fromCodePoint(textOf(merges.right[i]!).codePointAt(0)!));
      // A symbol around a character that text cannot reach is itself out of reach.
      if (last !== undefined && first !== undefined) joints.add(last, first, 0);
    }
    return joints;
  }
}

function lastCharacter(text: string): string {
  const code = text.codePointAt(text.length - 2);
  return code !== undefined && code > 0xffff ? text.slice(-2) : text.slice(-1);
}
