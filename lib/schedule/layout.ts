/** From a prompt and its pages to what a step carries. */

import type { NativeStage, StepSequence } from "../binding/native.js";
import { pagesOf } from "../model.js";
import type { Span } from "../prompt/index.js";

/** [n * 3]: first row, rows, image. */
export function packSpans(spans: readonly Span[]): Int32Array {
  return Int32Array.from(spans.flatMap(({ start, count, image }) => [start, count, image]));
}

/** 0, 1, ... */
export function firstPositions(length: number): Int32Array {
  return Int32Array.from({ length }, (_, i) => i);
}

/** One page table per stage; `generated` tokens have been cached behind the prompt, or none of it where `undefined`. */
export function pageTables(stages: readonly NativeStage[], pages: Int32Array, generated?: number): StepSequence["stages"] {
  let at = 0;
  return stages.map((stage) => ({
    cached: generated === undefined ? 0 : stage.tokens + generated,
    blocks: stage.blocks,
    pages: pages.subarray(at, (at += pagesOf(stage))),
  }));
}
