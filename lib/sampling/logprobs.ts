/** Log-probabilities of a chosen token and of the best alternatives. */

import type { Candidates } from "../binding/native.js";
import type { TokenLogprob } from "../types.js";

/**
 * Of the distribution after penalties and bias, before temperature, top-k, top-p and min-p.
 * @param chosen index into the candidates
 * @param count how many alternatives to list, the chosen token among them where it is one of the best
 */
export function logprobsOf(candidates: Candidates, chosen: number, count: number, textOf: (id: number) => string): TokenLogprob {
  const entry = (i: number): { id: number; text: string; logprob: number } => {
    const id = candidates.ids[i]!;
    return { id, text: textOf(id), logprob: candidates.logits[i]! - candidates.logSumExp };
  };
  return { ...entry(chosen), top: Array.from({ length: Math.min(count, candidates.ids.length) }, (_, i) => entry(i)) };
}
