/** An opened checkpoint: what the parts of an engine share. */

import type { NativeEngine, NativeModule, NativeStage } from "./binding/native.js";
import type { Clock } from "./clock.js";
import type { Checkpoint } from "./checkpoint/types.js";
import { HimapError } from "./errors.cjs";
import type { PictureInput } from "./image/decode.js";
import type { EmbeddingCache } from "./image/embedding-cache.js";
import type { Picture } from "./image/picture.js";
import type { ResolvedCut } from "./pruning/resolve.js";
import type { StudyFacts } from "./request/study.js";
import type { Tokenizer } from "./tokenizer/types.js";
import type { ImageAspectRatio, LoadOptions, Message, TemplateName } from "./types.js";

export interface PictureOptions {
  imageAspectRatio: ImageAspectRatio;
  autoOrient: boolean;
  signal: AbortSignal;
}

export interface Model {
  checkpoint: Checkpoint;
  tokenizer: Tokenizer;
  template: TemplateName;
  native: NativeModule;
  engine: NativeEngine;
  kvType: "f32" | "f16" | "bf16";
  /** Bytes of one page, and how many the pool has. */
  pageBytes: number;
  poolPages: number;
  /** Sequences that run at once, and requests that may wait. */
  maxBatch: number;
  maxQueue: number;
  clock: Clock;
  /** Never throws. */
  logger: NonNullable<LoadOptions["logger"]>;
  /** Characters of the longest piece: a text of more characters than this times n has more than n tokens. */
  longestPiece: number;
  /** What requests are checked against. */
  facts: StudyFacts;
  /** What `engine` and `preparePicture` remember of pictures; `undefined` where nothing is to be. */
  embeddings: EmbeddingCache | undefined;
  preparePicture(image: PictureInput, options: PictureOptions): Promise<Picture>;
}

/** What of a prompt decides its demand. */
export interface PromptShape {
  /** Rows, image rows included. */
  length: number;
  imageTokens: number;
  /** Tokens that may be generated. */
  newTokens: number;
  /** Answers to the one prompt. */
  samples: number;
  cuts: readonly ResolvedCut[];
}

/** What a prompt and its answers take of the KV pool. */
export interface Demand {
  /** Of one answer. */
  stages: NativeStage[];
  /** The prompt's own once, and for each answer those that it writes to. */
  pages: number;
}

export function demandOf({ native, checkpoint }: Model, prompt: PromptShape): Demand {
  const stages = native.plan({
    layers: checkpoint.config.layers,
    length: prompt.length,
    imageTokens: prompt.imageTokens,
    newTokens: prompt.newTokens,
    cuts: prompt.cuts.map(({ before, keep }) => ({ before, keep })),
  });
  const pages = stages.reduce((sum, stage) => {
    const ownBlocks = stage.blocks - sharedBlocks(stage, native.pageTokens);
    return sum + pagesOf(stage) + (prompt.samples - 1) * (stage.end - stage.first) * ownBlocks;
  }, 0);
  return { stages, pages };
}

/** Blocks of each layer that the prompt fills: no answer writes there, so its samples share them. */
export function sharedBlocks({ tokens }: NativeStage, pageTokens: number): number {
  return Math.floor(tokens / pageTokens);
}

/** Pages of a stage, all its layers together. */
export function pagesOf({ first, end, blocks }: NativeStage): number {
  return (end - first) * blocks;
}

/** @throws HimapError ERR_TOO_LARGE where the whole pool could not hold it */
export function checkDemand({ pages }: Demand, poolPages: number): void {
  if (pages <= poolPages) return;
  throw new HimapError("ERR_TOO_LARGE", `expected at most ${poolPages} KV pages, the whole pool, for a request but received ${pages}`, {
    hint: "ask for fewer tokens (maxTokens), prune more, or raise memory.kvBytes in load()",
  });
}

/** @throws HimapError ERR_CONTEXT_OVERFLOW where the model has too few positions for a prompt and `newTokens` behind it */
export function checkLength(length: number, newTokens: number, { checkpoint }: Model): void {
  const { maxPositions } = checkpoint.config;
  if (length + newTokens > maxPositions) throw overflow(maxPositions, newTokens, String(length));
}

/**
 * Refuses a text that cannot fit by its length alone, before the time is spent to encode it.
 * @throws HimapError ERR_CONTEXT_OVERFLOW
 */
export function checkCharacters(messages: readonly Message[], newTokens: number, { checkpoint, longestPiece }: Model): void {
  const { maxPositions } = checkpoint.config;
  const texts = messages.flatMap(({ content }) =>
    typeof content === "string" ? [content] : content.map((part) => (part.type === "text" ? part.text : "")),
  );
  const characters = texts.reduce((sum, text) => sum + text.length, 0);
  const least = Math.ceil(characters / longestPiece);
  if (least + newTokens > maxPositions) throw overflow(maxPositions, newTokens, `at least ${least} (${characters} characters)`);
}

function overflow(maxPositions: number, newTokens: number, received: string): HimapError {
  const expected = `at most ${maxPositions - newTokens} tokens`;
  return new HimapError("ERR_CONTEXT_OVERFLOW", `expected ${expected} for the prompt but received ${received}`, {
    hint: `the model has ${maxPositions} positions; shorten the conversation or leave out images`,
  });
}
