/** A pruning policy out of JSON, which has no typed arrays. */

import type { Faults } from "../check.js";
import type { Preset, Pruning } from "../types.js";

/**
 * Converts the lists that a policy wants as typed arrays; a bare list of cuts is a policy too. What else it holds, the
 * library checks.
 * @param where how messages name the policy
 */
export function pruningFromJson(policy: unknown, where: string, faults: Faults): Pruning {
  if (typeof policy === "string") return policy as Preset;
  const cuts: unknown = Array.isArray(policy) ? policy : (policy as { cuts?: unknown } | null)?.cuts;
  if (Array.isArray(cuts)) cuts.forEach((cut: { score?: Record<string, unknown> } | null) => convertLists(cut?.score, where, faults));
  return (Array.isArray(policy) ? { cuts: policy } : policy) as Pruning;
}

function convertLists(score: Record<string, unknown> | null | undefined, where: string, faults: Faults): void {
  if (typeof score !== "object" || score === null) return;
  const { kept, weights } = score;
  if (Array.isArray(kept)) {
    const bad: unknown = kept.find((index) => !Number.isInteger(index) || index < 0 || index >= 2 ** 32);
    if (bad !== undefined) faults.add("indices of image tokens", `kept in ${where}`, bad);
    score.kept = Uint32Array.from(kept as number[]);
  }
  if (Array.isArray(weights)) {
    // JSON writes NaN as null, which would become 0.
    const bad: unknown = weights.find((weight) => typeof weight !== "number");
    if (bad !== undefined) faults.add("numbers", `weights in ${where}`, bad);
    score.weights = Float32Array.from(weights as number[]);
  }
}
