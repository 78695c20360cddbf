/** How much work a run is, so that times become shares of what the machine can do. */

import type { Checkpoint } from "../../lib/checkpoint/types.js";
import { countFlops } from "../../lib/pruning/flops.js";

/** Operations of a text prompt's prefill, the head for its last row alone. */
export function prefillFlops({ config }: Checkpoint, tokens: number): number {
  return countFlops(config, { textTokens: tokens, imageTokens: 0, encodedImages: 0, cuts: [] }).prefill;
}

/** Operations of `steps` decode steps behind `tokens` tokens: what a prompt longer by them costs, and a head for each. */
export function decodeFlops(checkpoint: Checkpoint, tokens: number, steps: number): number {
  const { hidden, vocabulary } = checkpoint.config;
  return prefillFlops(checkpoint, tokens + steps) - prefillFlops(checkpoint, tokens) + 2 * steps * hidden * vocabulary;
}

/** Bytes that `steps` decode steps read: every weight of the decoder once a step (of the embedding one row), and the KV so far. */
export function decodeBytes({ config, tensors }: Checkpoint, tokens: number, steps: number, kvElementBytes: number): number {
  const weights = tensors
    .filter(({ name }) => name === "lm_head.weight" || (name.startsWith("language_model.") && !name.includes("embed_tokens")))
    .reduce((sum, { bytes }) => sum + bytes, 0);
  const kvToken = 2 * config.layers * config.kvHeads * config.headDim * kvElementBytes;
  return steps * (weights + kvToken * (tokens + (steps + 1) / 2));
}

/** Operations of tower and projector for one picture, and of the decoder's prefill behind it. */
export function pictureFlops(
  { config }: Checkpoint, textTokens: number, cuts: readonly { before: number; keep: number }[],
): { vision: number; prefill: number } {
  const shape = { textTokens, imageTokens: config.imageTokens, cuts };
  const prefill = countFlops(config, { ...shape, encodedImages: 0 }).prefill;
  return { vision: countFlops(config, { ...shape, encodedImages: 1 }).prefill - prefill, prefill };
}
