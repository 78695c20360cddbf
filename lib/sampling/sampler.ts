/**
 * From candidates to a token. native/engine/sampler.cc repeats this line by line (64-bit floats, the same order of
 * additions), so that a token chosen in a native burst is the one that would have been chosen here: change both.
 *
 * In this order: temperature, top-k, top-p over what top-k left, min-p, one draw. Probabilities are those among the
 * candidates (64 at most), not of the whole vocabulary.
 */

import type { Candidates, StepSampling } from "../binding/native.js";
import { HimapError } from "../errors.cjs";
import { expNonPositive } from "./exp.js";
import { philox, uniform } from "./philox.js";

/**
 * Of one pass of one sequence: others of the same step may be sound.
 * @throws ERR_BAD_CHECKPOINT where a logit was no number
 */
export function checkNumbers({ logSumExp }: Candidates): void {
  if (!Number.isNaN(logSumExp)) return;
  throw new HimapError("ERR_BAD_CHECKPOINT", "expected numbers for the model's logits but received NaN", {
    hint: "the weights hold NaN, or values beyond the range of their arithmetic; `himap weights verify --values` names them",
  });
}

/**
 * Chooses one of the candidates.
 * @param candidates at least one, by descending logit
 * @param position the place that the new token takes in the sequence
 * @returns an index into the candidates
 */
export function chooseToken(candidates: Candidates, sampling: StepSampling, position: number): number {
  const { ids, logits } = candidates;
  // Nothing can be drawn where the best logit is infinite: every token is banned, or a logit overflowed.
  if (sampling.temperature === 0 || !Number.isFinite(logits[0])) return 0;

  let count = ids.length;
  if (sampling.topK > 0 && sampling.topK < count) count = sampling.topK;

  const best = logits[0]!;
  const weights = new Float64Array(count);
  let total = 0;
  for (let i = 0; i < count; i++) {
    weights[i] = expNonPositive((logits[i]! - best) / sampling.temperature);
    total += weights[i]!;
  }

  if (sampling.topP < 1) {
    const limit = sampling.topP * total;
    let sum = 0;
    let kept = 0;
    while (kept < count) {
      sum += weights[kept]!;
      kept += 1;
      if (sum >= limit) break;
    }
    count = kept;
    total = sum;
  }

  if (sampling.minP > 0) {
    // The best candidate's weight is 1 and weights descend.
    let sum = 0;
    let kept = 0;
    while (kept < count && weights[kept]! >= sampling.minP) {
      sum += weights[kept]!;
      kept += 1;
    }
    count = kept;
    total = sum;
  }

  const draw = uniform(philox(sampling.seed, [position >>> 0, sampling.sample >>> 0, 0, 0])) * total;
  let sum = 0;
  for (let i = 0; i < count; i++) {
    sum += weights[i]!;
    if (draw < sum) return i;
  }
  // Only where rounding made the sum smaller than the total.
  return count - 1;
}
