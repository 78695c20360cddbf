/** `--pruning`: a preset's name, or a policy in JSON. */

import { describe } from "../check.js";
import { presets } from "../pruning/presets.cjs";
import type { CacheMode, Preset, Pruning } from "../types.js";
import { readJson, UsageError } from "./command.js";

export const pruningHelp = `${(Object.keys(presets) as Preset[]).join(", ")}, or JSON: a list of cuts or an object with cuts or a preset and its seed`;

/**
 * JSON has no typed arrays: the lists that a policy wants as such are converted. What else it holds, the library checks.
 * @param cache of `--cache`, for the policy that stands in `text`
 */
export function readPruning(text: string, option = "--pruning", cache?: string): Pruning {
  const policy = readPolicy(text, option);
  if (cache === undefined) return policy;
  return { ...(typeof policy === "string" ? { preset: policy } : policy), cache: cache as CacheMode };
}

function readPolicy(text: string, option: string): Pruning {
  if (!/^\s*[[{]/.test(text)) return text as Preset;
  const policy = readJson(text, option) as Pruning | (Pruning & { cuts: unknown })["cuts"];
  const cuts: unknown = Array.isArray(policy) ? policy : (policy as { cuts?: unknown }).cuts;
  if (Array.isArray(cuts)) cuts.forEach((cut: { score?: Record<string, unknown> } | null) => convertLists(cut?.score, option));
  return (Array.isArray(policy) ? { cuts: policy } : policy) as Pruning;
}

function convertLists(score: Record<string, unknown> | null | undefined, option: string): void {
  if (typeof score !== "object" || score === null) return;
  const { kept, weights } = score;
  if (Array.isArray(kept)) {
    const bad = kept.find((index) => !Number.isInteger(index) || index < 0 || index >= 2 ** 32) as unknown;
    if (bad !== undefined) throw new UsageError(`expected indices of image tokens for kept in ${option} but received ${describe(bad)}`);
    score.kept = Uint32Array.from(kept as number[]);
  }
  if (Array.isArray(weights)) score.weights = Float32Array.from(weights as number[]);
}
