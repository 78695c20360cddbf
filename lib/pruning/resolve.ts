/** From a policy to counts: what each cut leaves of a prompt's image tokens, and which, where that is known beforehand. */

import { Faults } from "../check.js";
import { keyOf, philox, uniform } from "../sampling/philox.js";
import type { Cut, Pruning, Score } from "../types.js";
import { checkPruning } from "./check.js";

/** A cut of one prompt. */
export interface ResolvedCut {
  before: number;
  /** Image tokens that survive. */
  keep: number;
  score: Score;
  /** Ascending ranks among the tokens alive before the cut, [keep], where they do not depend on attention. */
  ranks?: Uint32Array;
}

/**
 * Checks a policy and resolves it for a prompt.
 * @throws HimapError ERR_INVALID_ARG with every fault
 */
export function resolvePruning(pruning: Pruning, prompt: { layers: number; imageTokens: number }): ResolvedCut[] {
  const faults = new Faults();
  const policy = checkPruning(pruning, "pruning", prompt.layers, faults);
  const resolved = policy && resolveCuts(policy.cuts, "pruning", prompt.imageTokens, faults);
  faults.raise("pruning");
  return resolved!;
}

/**
 * Resolves checked cuts for a prompt with `imageTokens` image tokens, all images together. A prompt without any has
 * nothing to cut. Faults go to `faults`; the result is meaningless where there are any.
 */
export function resolveCuts(cuts: readonly Cut[], where: string, imageTokens: number, faults: Faults): ResolvedCut[] {
  if (imageTokens === 0) return [];
  let alive = imageTokens;
  /** The image tokens still alive; `undefined` behind a cut that ranks attention. */
  let known: Uint32Array | undefined = Uint32Array.from({ length: imageTokens }, (_, i) => i);
  return cuts.map((cut, i) => {
    const name = `${where}: cut ${i}`;
    const { before, score } = cut;
    let ranks: Uint32Array | undefined;
    let keep: number;
    if ("kept" in score) {
      ranks = ranksOfKept(score.kept, known, name, faults);
      keep = ranks?.length ?? 0;
    } else {
      keep = countOf(cut, alive, name, faults);
      if ("random" in score) ranks = drawRanks(alive, keep, score.random, i);
      else if ("grid" in score || alive === 0) ranks = gridRanks(alive, keep);
      else if (score.weights && score.weights.length !== imageTokens) {
        faults.add(`one weight for each of the prompt's ${imageTokens} image tokens`, `${name} score.weights`, score.weights);
      }
    }
    alive = keep;
    known = ranks && known && ranks.map((rank) => known![rank]!);
    return { before, keep, score, ...(ranks && { ranks }) };
  });
}

function countOf({ keep }: Cut, alive: number, name: string, faults: Faults): number {
  if ("ratio" in keep!) return Math.floor(alive * keep.ratio + 0.5);
  const { count } = keep!;
  if (count <= alive) return count;
  faults.add(`at most ${alive}, the image tokens still alive,`, `${name} keep.count`, count);
  return alive;
}

function ranksOfKept(kept: Uint32Array, known: Uint32Array | undefined, name: string, faults: Faults): Uint32Array | undefined {
  if (!known) {
    faults.add("survivors given only where those of every earlier cut are known beforehand", `${name} score.kept`, kept);
    return undefined;
  }
  const rankOf = new Map(Array.from(known, (index, rank) => [index, rank]));
  const outside = kept.findIndex((index) => !rankOf.has(index));
  if (outside < 0) return kept.map((index) => rankOf.get(index)!);
  faults.add(`the index of one of the ${known.length} image tokens still alive`, `${name} score.kept[${outside}]`, kept[outside]);
  return undefined;
}

/** `count` of `alive` ranks, evenly spaced: the middle of each of `count` equal parts. */
function gridRanks(alive: number, count: number): Uint32Array {
  return Uint32Array.from({ length: count }, (_, i) => Math.floor(((2 * i + 1) * alive) / (2 * count)));
}

/** `count` of `alive` ranks, every set equally likely: the first steps of a Fisher-Yates shuffle. */
function drawRanks(alive: number, count: number, seed: number, cut: number): Uint32Array {
  const key = keyOf(seed);
  const order = Uint32Array.from({ length: alive }, (_, i) => i);
  for (let i = 0; i < count; i++) {
    const j = i + Math.floor(uniform(philox(key, [i, cut, 0, 1])) * (alive - i));
    [order[i], order[j]] = [order[j]!, order[i]!];
  }
  return order.slice(0, count).sort();
}
