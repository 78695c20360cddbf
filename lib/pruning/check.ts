/** Faults of a pruning policy: everything that does not depend on a prompt. */

import type { Faults } from "../check.js";
import { limits, pruningSeed } from "../defaults.js";
import type { CacheMode, Cut, Preset, Score } from "../types.js";
import { presets } from "./presets.cjs";

const cutNames = ["before", "score", "keep"] as const;
const scoreNames = ["rows", "heads", "weights", "random", "grid", "kept"] as const;
const rowNames = ["instruction", "image", "last", "all"] as const;
const headNames = ["mean", "max"] as const;
const cacheModes = ["frozen", "redecide"] as const satisfies readonly CacheMode[];

/** A checked policy. */
export interface Policy {
  cuts: Cut[];
  cache: CacheMode;
}

/**
 * Checks a policy for a decoder of `layers` layers and returns it, its cuts copied; what depends on a prompt is checked by
 * `resolveCuts`. Faults go to `faults`; the result is `undefined` where there are any.
 * @param where how messages name the policy
 */
export function checkPruning(pruning: unknown, where: string, layers: number, faults: Faults): Policy | undefined {
  const before = faults.count;
  const policy = readPolicy(pruning, where, layers, faults);
  if (policy) checkDepths(policy.cuts, where, layers, faults);
  return faults.count === before ? policy : undefined;
}

function readPolicy(pruning: unknown, where: string, layers: number, faults: Faults): Policy | undefined {
  const names = Object.keys(presets) as Preset[];
  if (typeof pruning === "string") {
    const name = faults.oneOf(pruning, where, names);
    return name && { cuts: presets[name].cuts(layers, pruningSeed), cache: "frozen" };
  }
  const policy = faults.properties(pruning, where, ["preset", "seed", "cuts", "cache"]);
  if (!policy) return undefined;
  const cache = policy.cache === undefined ? "frozen" : (faults.oneOf(policy.cache, `${where}.cache`, cacheModes) ?? "frozen");
  if ((policy.preset === undefined) === (policy.cuts === undefined)) {
    faults.add("either a preset or cuts", where, pruning);
    return undefined;
  }
  if (policy.preset !== undefined) {
    const seed = policy.seed === undefined ? pruningSeed : faults.number(policy.seed, `${where}.seed`, seedRule);
    const name = faults.oneOf(policy.preset, `${where}.preset`, names);
    return name && seed !== undefined ? { cuts: presets[name].cuts(layers, seed), cache } : undefined;
  }
  if (policy.seed !== undefined) faults.add("a seed only beside a preset", `${where}.seed`, policy.seed);
  const list = faults.elements(policy.cuts, `${where}.cuts`, limits.cuts);
  if (!list) return undefined;
  const cuts = list.map((cut, i) => readCut(cut, `${where}.cuts[${i}]`, faults));
  return cuts.every((cut) => cut !== undefined) ? { cuts: cuts as Cut[], cache } : undefined;
}

export const seedRule = { min: 0, max: Number.MAX_SAFE_INTEGER, integer: true } as const;

function readCut(value: unknown, where: string, faults: Faults): Cut | undefined {
  const cut = faults.properties(value, where, cutNames);
  if (!cut) return undefined;
  const before = faults.number(cut.before, `${where}.before`, { min: 0, max: Infinity, integer: true });
  const given = faults.properties(cut.score, `${where}.score`, scoreNames);
  const score = given && readScore(given, cut.score, `${where}.score`, faults);
  let keep: Cut["keep"];
  if (given?.kept !== undefined) {
    if (cut.keep !== undefined) {
      faults.add("no keep beside a kept list, whose length says it", `${where}.keep`, cut.keep);
      return undefined;
    }
  } else {
    keep = readKeep(cut.keep, `${where}.keep`, faults);
    if (!keep) return undefined;
  }
  if (before === 0 && score && "rows" in score) {
    faults.add("random, grid or kept", `${where}.score`, cut.score, () => " (before layer 0 there is no attention to rank by)");
    return undefined;
  }
  return before === undefined || !score ? undefined : { before, score, ...(keep && { keep }) };
}

function readKeep(value: unknown, where: string, faults: Faults): Cut["keep"] {
  const keep = faults.properties(value, where, ["ratio", "count"]);
  if (!keep) return undefined;
  if ((keep.ratio === undefined) === (keep.count === undefined)) {
    faults.add("either a ratio or a count", where, value);
    return undefined;
  }
  if (keep.ratio !== undefined) {
    const ratio = faults.number(keep.ratio, `${where}.ratio`, { min: 0, max: 1 });
    return ratio === undefined ? undefined : { ratio };
  }
  const count = faults.number(keep.count, `${where}.count`, { min: 0, max: Infinity, integer: true });
  return count === undefined ? undefined : { count };
}

/** @param value what `score` was read from */
function readScore(
  score: Partial<Record<(typeof scoreNames)[number], unknown>>, value: unknown, where: string, faults: Faults,
): Score | undefined {
  const kinds = (["rows", "random", "grid", "kept"] as const).filter((kind) => score[kind] !== undefined);
  if (kinds.length !== 1) {
    faults.add("one of rows, random, grid or kept", where, value);
    return undefined;
  }
  if (kinds[0] !== "rows" && (score.heads !== undefined || score.weights !== undefined)) {
    faults.add("heads and weights only beside rows", where, value);
    return undefined;
  }
  switch (kinds[0]) {
    case "rows": {
      const rows = faults.oneOf(score.rows, `${where}.rows`, rowNames);
      const heads = score.heads === undefined ? undefined : faults.oneOf(score.heads, `${where}.heads`, headNames);
      const weights = score.weights === undefined ? undefined : readWeights(score.weights, `${where}.weights`, faults);
      if (!rows || (score.heads !== undefined && !heads) || (score.weights !== undefined && !weights)) return undefined;
      return { rows, ...(heads && { heads }), ...(weights && { weights }) };
    }
    case "random": {
      const random = faults.number(score.random, `${where}.random`, seedRule);
      return random === undefined ? undefined : { random };
    }
    case "grid":
      if (score.grid === true) return { grid: true };
      faults.add("true", `${where}.grid`, score.grid);
      return undefined;
    default:
      return readKept(score.kept, `${where}.kept`, faults);
  }
}

function readWeights(value: unknown, where: string, faults: Faults): Float32Array | undefined {
  if (!(value instanceof Float32Array)) {
    faults.add("a Float32Array", where, value);
    return undefined;
  }
  const bad = value.findIndex((weight) => !Number.isFinite(weight));
  if (bad < 0) return value.slice();
  faults.add("a finite number", `${where}[${bad}]`, value[bad]);
  return undefined;
}

function readKept(value: unknown, where: string, faults: Faults): Score | undefined {
  if (!(value instanceof Uint32Array)) {
    faults.add("a Uint32Array", where, value);
    return undefined;
  }
  const bad = value.findIndex((index, i) => i > 0 && index <= value[i - 1]!);
  if (bad < 0) return { kept: value.slice() };
  faults.add(`an index above ${value[bad - 1]} (ascending, none twice)`, `${where}[${bad}]`, value[bad]);
  return undefined;
}

function checkDepths(cuts: Cut[], where: string, layers: number, faults: Faults): void {
  cuts.forEach((cut, i) => {
    if (cut.before >= layers) {
      faults.add(`a layer below ${layers}, the depth of this model,`, `${where}: cut ${i} before`, cut.before);
    } else if (i > 0 && cut.before <= cuts[i - 1]!.before) {
      faults.add(`a layer above ${cuts[i - 1]!.before}, that of the cut before it,`, `${where}: cut ${i} before`, cut.before);
    }
  });
}
