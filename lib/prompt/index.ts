/** Messages, or ids with marks, to the ids and spans that the engine takes. */

import type { Tokenizer } from "../tokenizer/types.js";
import type { ImageInput, Message, TemplateName } from "../types.js";
import { layOut } from "./templates.js";

/** Stands in `Prompt.ids` for each row that an image fills. */
export const kImageRow = -1;
/** Stands in ids given by a caller for a whole image, as in the original LLaVA. */
export const kImageMark = -200;

/** Rows of an image. */
export interface Span {
  /** First row. */
  start: number;
  /** Rows. */
  count: number;
  /** Index among the prompt's images. */
  image: number;
}

export interface Prompt {
  /** BOS first; -1 at image rows, [rows]. */
  ids: Int32Array;
  /** Ascending, one per image. */
  spans: Span[];
  /** In the order of the spans; empty where the prompt came as ids. */
  images: ImageInput[];
  /** Rows that are no image rows, BOS included. */
  textTokens: number;
}

export interface PromptOptions {
  template: TemplateName;
  tokenizer: Tokenizer;
  /** Rows that one image takes. */
  imageTokens: number;
}

/**
 * Renders a conversation up to where the answer begins. Text between two images, or between an image and the end of an
 * earlier answer, is encoded as a segment of its own.
 */
export function renderPrompt(messages: readonly Message[], { template, tokenizer, imageTokens }: PromptOptions): Prompt {
  const marked: number[] = [tokenizer.bos];
  const images: ImageInput[] = [];
  let segment = "";
  const closeSegment = () => {
    // Appended one by one: spreading a long text's ids into a call would overflow the stack.
    for (const id of tokenizer.encode(segment, marked.length === 1 ? "first" : "later")) marked.push(id);
    segment = "";
  };
  for (const piece of layOut(messages, template)) {
    if (piece.kind === "text") {
      segment += piece.text;
      continue;
    }
    closeSegment();
    if (piece.kind === "image") images.push(piece.image);
    marked.push(piece.kind === "image" ? kImageMark : tokenizer.eos);
  }
  closeSegment();
  return { ...renderIds(marked, imageTokens), images };
}

/** Gives each -200 in `ids` the rows of an image; the ids themselves are taken as they are. */
export function renderIds(ids: ArrayLike<number>, imageTokens: number): Prompt {
  const spans: Span[] = [];
  let row = 0;
  for (let i = 0; i < ids.length; i++) {
    if (ids[i] === kImageMark) spans.push({ start: row, count: imageTokens, image: spans.length });
    row += ids[i] === kImageMark ? imageTokens : 1;
  }
  const rows = new Int32Array(row).fill(kImageRow);
  row = 0;
  for (let i = 0; i < ids.length; i++) {
    if (ids[i] === kImageMark) row += imageTokens;
    else rows[row++] = ids[i]!;
  }
  return { ids: rows, spans, images: [], textTokens: ids.length - spans.length };
}
