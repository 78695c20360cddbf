/** Pruning policies as users write them, and what their cuts left. */

/**
 * How a cut ranks the image tokens still alive.
 * - `rows`: by the attention that they receive, in the layer before the cut, from the instruction (every row after the
 *   last image), the image rows still alive, the last row, or every row; heads joined by their mean (default) or maximum.
 *   `weights` multiplies each image token's score, [image tokens of the prompt] (position bias, padding).
 * - `random`: a seeded draw. `grid`: evenly spaced. `kept`: the survivors themselves, as indices among the prompt's
 *   image tokens; only where every earlier cut is known beforehand too.
 */
export type Score =
  | { rows: "instruction" | "image" | "last" | "all"; heads?: "mean" | "max" | undefined; weights?: Float32Array | undefined }
  | { random: number }
  | { grid: true }
  | { kept: Uint32Array };

/** A point where image tokens are dropped. `ratio` keeps floor(alive * ratio + 0.5) of those still alive. */
export interface Cut {
  /** The layer before which tokens are dropped, 0-based. Before layer 0 there is no attention to rank by. */
  before: number;
  score: Score;
  /** Left out with `kept`, whose length says it. */
  keep?: { ratio: number } | { count: number } | undefined;
}

export type Preset = "none" | "himap" | "himap-caption" | "fastv" | "random" | "grid" | "vtw";

/**
 * When `generate` decides what to keep. `frozen`, the default: once, at prefill, and the survivors stay in the cache.
 * `redecide`: anew at every token and without a cache, as the code of HiMAP's authors does. Each token then costs a whole
 * prefill, and generated tokens count as instruction; the first token is the same, later ones may differ. For studies.
 */
export type CacheMode = "frozen" | "redecide";

/** A preset, or cuts of your own. */
export type Pruning =
  | Preset
  | { preset: Preset; seed?: number | undefined; cache?: CacheMode | undefined }
  | { cuts: readonly Cut[]; cache?: CacheMode | undefined };

/** What a cut left. */
export interface CutDecision {
  /** Survivors as indices among the prompt's image tokens, ascending. */
  kept: Uint32Array;
  /** With `scores`, and where the cut ranked attention: the score of each token alive before the cut, in their order. */
  scores?: Float32Array;
}

/** A cut, and what it left at prefill. */
export interface CutResult extends CutDecision {
  before: number;
  /** With `cache: "redecide"`: the decision taken for each generated token, the first of which is that at prefill. */
  steps?: CutDecision[];
}
