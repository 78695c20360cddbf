/** `--pruning`: a preset's name, or a policy in JSON. */

import { Faults } from "../check.js";
import { pruningFromJson } from "../pruning/json.js";
import { presets } from "../pruning/presets.cjs";
import type { CacheMode, Preset, Pruning } from "../types.js";
import { readJson, UsageError } from "./command.js";

export const pruningHelp = `${(Object.keys(presets) as Preset[]).join(", ")}, or JSON: a list of cuts or an object with cuts or a preset and its seed`;

/**
 * A name is handed on as it is: the library knows them.
 * @param cache of `--cache`, for the policy that stands in `text`
 */
export function readPruning(text: string, option = "--pruning", cache?: string): Pruning {
  const faults = new Faults();
  const policy = pruningFromJson(/^\s*[[{]/.test(text) ? readJson(text, option) : text, option, faults);
  if (faults.count > 0) throw new UsageError(faults.list);
  if (cache === undefined) return policy;
  return { ...(typeof policy === "string" ? { preset: policy } : policy), cache: cache as CacheMode };
}
