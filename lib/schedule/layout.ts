/** From a prompt and its pages to what a step carries. */

import type { NativeStage, StepSequence } from "../binding/native.js";
import { pagesOf, sharedBlocks } from "../model.js";
import type { Span } from "../prompt/index.js";

/** [n * 3]: first row, rows, image. */
export function packSpans(spans: readonly Span[]): Int32Array {
  return Int32Array.from(spans.flatMap(({ start, count, image }) => [start, count, image]));
}

/** 0, 1, ... */
export function firstPositions(length: number): Int32Array {
  return Int32Array.from({ length }, (_, i) => i);
}

/** A table of pages as its stages; `generated` tokens have been cached behind the prompt, or none of it where `undefined`. */
export function pageTables(stages: readonly NativeStage[], table: Int32Array, generated?: number): StepSequence["stages"] {
  let at = 0;
  return stages.map((stage) => ({
    cached: generated === undefined ? 0 : stage.tokens + generated,
    blocks: stage.blocks,
    pages: table.subarray(at, (at += pagesOf(stage))),
  }));
}

/** A table for each sample, [pages of one answer]; the prompt is prefilled with the first. */
export function sampleTables(stages: readonly NativeStage[], pages: Int32Array, samples: number, pageTokens: number): Int32Array[] {
  const perTable = stages.reduce((sum, stage) => sum + pagesOf(stage), 0);
  const first = pages.subarray(0, perTable);
  let own = perTable;
  return Array.from({ length: samples }, (_, sample) => {
    if (sample === 0) return first;
    const table = first.slice();
    eachLayer(stages, (stage, at) => {
      for (let block = sharedBlocks(stage, pageTokens); block < stage.blocks; block++) table[at + block] = pages[own++]!;
    });
    return table;
  });
}

/** The pages that the prompt fills in part, from the table that it was prefilled with to each other one, [n * 2]. */
export function forkCopies(
  stages: readonly NativeStage[], prefilled: Int32Array, tables: readonly Int32Array[], pageTokens: number,
): Int32Array {
  const copies: number[] = [];
  for (const table of tables) {
    eachLayer(stages, (stage, at) => {
      if (stage.tokens % pageTokens === 0) return;
      const place = at + sharedBlocks(stage, pageTokens);
      if (table[place] !== prefilled[place]) copies.push(prefilled[place]!, table[place]!);
    });
  }
  return Int32Array.from(copies);
}

/** Calls `visit` with each layer's stage and where its blocks begin in a table. */
function eachLayer(stages: readonly NativeStage[], visit: (stage: NativeStage, at: number) => void): void {
  let at = 0;
  for (const stage of stages) {
    for (let layer = stage.first; layer < stage.end; layer++, at += stage.blocks) visit(stage, at);
  }
}
