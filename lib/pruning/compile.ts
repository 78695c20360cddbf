/** From resolved cuts to what crosses into native code. */

import type { NativeCut } from "../binding/native.js";
import type { ResolvedCut } from "./resolve.js";

export function compileCuts(cuts: readonly ResolvedCut[]): NativeCut[] {
  return cuts.map(({ before, keep, score, ranks }) => {
    if (ranks || !("rows" in score)) return { before, keep, keptRanks: ranks! };
    return { before, keep, voters: score.rows, heads: score.heads ?? "mean", ...(score.weights && { weights: score.weights }) };
  });
}
