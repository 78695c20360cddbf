/**
 * What a prefill costs, by two counts. The paper's (HiMAP, equation 10) looks at image tokens alone and prices a layer
 * with a plain FFN, so that figures can be compared with published ones. The whole count is what this engine does.
 */

import type { ModelConfig } from "../checkpoint/types.js";
import type { Flops } from "../types.js";

/** The prompt, and what its cuts leave: the image tokens that each run of layers holds. */
export interface PrefillShape {
  textTokens: number;
  imageTokens: number;
  /** Images that pass the vision tower; those that come as embeddings do not. */
  encodedImages: number;
  /** Ascending by `before`. */
  cuts: readonly { before: number; keep: number }[];
  /** Prefills, each one text token longer than the one before; more than one where every token is decided anew. Default 1. */
  prefills?: number;
}

export function countFlops(config: ModelConfig, shape: PrefillShape): Flops {
  const unpruned = { ...shape, cuts: [] };
  return {
    paper: paperMacs(config, shape),
    paperUnpruned: paperMacs(config, unpruned),
    prefill: allPrefillFlops(config, shape),
    prefillUnpruned: allPrefillFlops(config, unpruned),
  };
}

/** Image tokens alive in each layer's attention, [layers + 1]; the last entry is what remains at the end. */
function aliveByLayer(layers: number, shape: PrefillShape): number[] {
  return Array.from({ length: layers + 1 }, (_, layer) => {
    const passed = shape.cuts.filter((cut) => cut.before <= layer);
    return passed.at(-1)?.keep ?? shape.imageTokens;
  });
}

/** Multiply-accumulates of image tokens: 4nd² + 2n²d + 2ndm per layer. */
function paperMacs({ layers, hidden: d, ffn: m }: ModelConfig, shape: PrefillShape): number {
  const one = aliveByLayer(layers, shape)
    .slice(0, layers)
    .reduce((sum, n) => sum + 4 * n * d * d + 2 * n * n * d + 2 * n * d * m, 0);
  return (shape.prefills ?? 1) * one;
}

/** Operations of all prefills. One costs a polynomial of degree two in the text tokens, so that three of them tell the sum. */
function allPrefillFlops(config: ModelConfig, shape: PrefillShape): number {
  const { prefills: n = 1, textTokens } = shape;
  const images = 2 * shape.encodedImages * imageMacs(config);
  if (n === 1) return prefillFlops(config, shape) + images;
  const [first, second, third] = [0, 1, 2].map((more) => prefillFlops(config, { ...shape, textTokens: textTokens + more })) as [number, number, number];
  const slope = second - first;
  const bend = third - second - slope;
  return n * first + ((n * (n - 1)) / 2) * slope + ((n * (n - 1) * (n - 2)) / 6) * bend + images;
}

/**
 * Operations of one prefill without its images, two per multiply-accumulate. A cut before layer l takes effect right after the
 * attention of layer l - 1, so that layer's output projection and FFN already run on the survivors.
 */
function prefillFlops(config: ModelConfig, shape: PrefillShape): number {
  const { hidden, ffn, layers, heads, kvHeads, headDim, vocabulary } = config;
  const queryWidth = heads * headDim;
  const keyWidth = kvHeads * headDim;
  const alive = aliveByLayer(layers, shape);
  let macs = 0;
  for (let layer = 0; layer < layers; layer++) {
    const rows = shape.textTokens + alive[layer]!;
    const rowsAfter = shape.textTokens + alive[layer + 1]!;
    const pairs = (rows * (rows + 1)) / 2;
    macs += rows * hidden * (queryWidth + 2 * keyWidth);
    macs += 2 * pairs * queryWidth;
    macs += rowsAfter * (queryWidth * hidden + 3 * hidden * ffn);
  }
  macs += hidden * vocabulary;
  return 2 * macs;
}

/** Multiply-accumulates of one image in the vision tower and the projector. */
function imageMacs({ hidden, imageTokens, vision }: ModelConfig): number {
  const patches = Math.floor(vision.imageSize / vision.patchSize) ** 2;
  const rows = patches + 1;
  const width = vision.hidden;
  const embed = patches * 3 * vision.patchSize ** 2 * width;
  const layer = rows * (4 * width * width + 2 * width * vision.ffn) + 2 * rows * rows * width;
  return embed + vision.layers * layer + imageTokens * (width * hidden + hidden * hidden);
}
