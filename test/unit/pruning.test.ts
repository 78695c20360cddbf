import { test } from "uvu";
import * as assert from "uvu/assert";

import { HimapError } from "../../lib/errors.cjs";
import { compileCuts } from "../../lib/pruning/compile.js";
import { presets } from "../../lib/pruning/presets.cjs";
import { resolvePruning, type ResolvedCut } from "../../lib/pruning/resolve.js";
import type { Cut, Preset, Pruning } from "../../lib/types.js";

const prompt = { layers: 32, imageTokens: 576 };
const counts = (cuts: ResolvedCut[]): [number, number][] => cuts.map(({ before, keep }) => [before, keep]);

/** The faults of a policy. */
function faults(pruning: unknown, target = prompt): readonly string[] {
  try {
    resolvePruning(pruning as Pruning, target);
  } catch (error) {
    assert.instance(error, HimapError);
    assert.is((error as HimapError).code, "ERR_INVALID_ARG");
    return (error as HimapError).faults!;
  }
  return [];
}

const ranked = (before: number, keep: NonNullable<Cut["keep"]> = { ratio: 0.5 }): Cut => ({ before, score: { rows: "instruction" }, keep });

test("what each preset keeps of 576 tokens in 32 layers", () => {
  const kept = (preset: Preset): [number, number][] => counts(resolvePruning(preset, prompt));
  assert.equal(kept("none"), []);
  assert.equal(kept("himap"), [[2, 288], [8, 72]]);
  assert.equal(kept("himap-caption"), [[2, 288], [15, 144]]);
  assert.equal(kept("fastv"), [[2, 288]]);
  assert.equal(kept("random"), [[2, 288], [8, 72]]);
  assert.equal(kept("grid"), [[2, 288], [8, 72]]);
  assert.equal(kept("vtw"), [[16, 0]]);
  assert.equal(counts(resolvePruning("vtw", { layers: 41, imageTokens: 576 })), [[20, 0]]);
  assert.is(Object.keys(presets).length, 7);
});

test("which rows rank in each preset", () => {
  const voters = (preset: Preset) => compileCuts(resolvePruning(preset, prompt)).map((cut) => cut.voters ?? cut.keptRanks?.length);
  assert.equal(voters("himap"), ["instruction", "image"]);
  assert.equal(voters("himap-caption"), ["instruction", "image"]);
  assert.equal(voters("fastv"), ["last"]);
  assert.equal(voters("random"), [288, 72]);
  assert.equal(voters("vtw"), [0]);
});

test("a ratio keeps floor(n * ratio + 0.5) of those still alive", () => {
  const cuts = [ranked(1, { ratio: 0.5 }), ranked(2, { ratio: 0.33 }), ranked(3, { ratio: 0 })];
  assert.equal(counts(resolvePruning({ cuts }, { layers: 5, imageTokens: 145 })), [[1, 73], [2, 24], [3, 0]]);
  assert.equal(counts(resolvePruning({ cuts: [ranked(1, { ratio: 1 })] }, { layers: 5, imageTokens: 7 })), [[1, 7]]);
});

test("a prompt without an image has nothing to cut, whatever the policy", () => {
  for (const preset of Object.keys(presets) as Preset[]) assert.equal(resolvePruning(preset, { layers: 32, imageTokens: 0 }), []);
  const cuts = [{ before: 0, score: { kept: Uint32Array.of(3) } }, ranked(5, { count: 100 })];
  assert.equal(resolvePruning({ cuts }, { layers: 32, imageTokens: 0 }), []);
});

test("grid: evenly spaced, ascending, of those still alive", () => {
  const cuts = (count: number): Cut[] => [{ before: 0, score: { grid: true }, keep: { count } }];
  const ranks = (alive: number, count: number): number[] => [...resolvePruning({ cuts: cuts(count) }, { layers: 2, imageTokens: alive })[0]!.ranks!];
  assert.equal(ranks(8, 4), [1, 3, 5, 7]);
  assert.equal(ranks(9, 3), [1, 4, 7]);
  assert.equal(ranks(4, 4), [0, 1, 2, 3]);
  assert.equal(ranks(5, 1), [2]);
  assert.equal(ranks(5, 0), []);
  for (const [alive, count] of [[576, 288], [576, 7], [577, 576], [144, 100]] as const) {
    const grid = ranks(alive, count);
    assert.is(new Set(grid).size, count);
    assert.ok(grid.every((rank, i) => rank < alive && (i === 0 || rank > grid[i - 1]!)));
  }
});

test("random: by seed alone, ascending, different at each cut, every token equally likely", () => {
  const draw = (seed: number): number[][] => resolvePruning({ preset: "random", seed }, prompt).map(({ ranks }) => [...ranks!]);
  assert.equal(draw(1), draw(1));
  assert.not.equal(draw(1), draw(2));
  assert.equal(resolvePruning("random", prompt), resolvePruning({ preset: "random", seed: 0 }, prompt));
  const counts = new Array<number>(24).fill(0);
  for (let seed = 0; seed < 1000; seed++) {
    const cuts: Cut[] = [{ before: 0, score: { random: seed }, keep: { count: 6 } }];
    const ranks = [...resolvePruning({ cuts }, { layers: 1, imageTokens: 24 })[0]!.ranks!];
    assert.is(new Set(ranks).size, 6);
    assert.equal(ranks, [...ranks].sort((a, b) => a - b));
    for (const rank of ranks) counts[rank]! += 1;
  }
  // 250 each, standard deviation 13.7.
  assert.ok(counts.every((count) => Math.abs(count - 250) < 4 * 13.7), counts.join());
});

test("given survivors become ranks among those still alive, behind random and grid cuts too", () => {
  const kept = (...list: number[]) => ({ kept: Uint32Array.from(list) });
  const two: Cut[] = [{ before: 0, score: kept(1, 4, 6, 7) }, { before: 3, score: kept(4, 7) }];
  assert.equal(compileCuts(resolvePruning({ cuts: two }, { layers: 5, imageTokens: 8 })), [
    { before: 0, keep: 4, keptRanks: Uint32Array.of(1, 4, 6, 7) },
    { before: 3, keep: 2, keptRanks: Uint32Array.of(1, 3) },
  ]);
  const behindGrid: Cut[] = [{ before: 1, score: { grid: true }, keep: { count: 4 } }, { before: 2, score: kept(3, 5) }];
  assert.equal([...resolvePruning({ cuts: behindGrid }, { layers: 5, imageTokens: 8 })[1]!.ranks!], [1, 2]);
  const none: Cut[] = [{ before: 0, score: kept() }, ranked(3, { ratio: 0.5 })];
  assert.equal(compileCuts(resolvePruning({ cuts: none }, { layers: 5, imageTokens: 8 }))[1], { before: 3, keep: 0, keptRanks: new Uint32Array(0) });
});

test("what crosses for a ranking cut", () => {
  const weights = new Float32Array(8).fill(2);
  const cuts: Cut[] = [{ before: 2, score: { rows: "all", heads: "max", weights }, keep: { count: 3 } }, ranked(4, { count: 3 })];
  const [first, second] = compileCuts(resolvePruning({ cuts }, { layers: 5, imageTokens: 8 }));
  assert.equal(first, { before: 2, keep: 3, voters: "all", heads: "max", weights });
  assert.is.not(first!.weights, weights);
  assert.equal(second, { before: 4, keep: 3, voters: "instruction", heads: "mean" });
});

const kept = (...list: number[]): Cut["score"] => ({ kept: Uint32Array.from(list) });
const bad: [name: string, pruning: unknown, says: RegExp][] = [
  ["a preset that is none", "himapp", /one of "none", "himap"/],
  ["a number", 3, /an object for pruning/],
  ["null", null, /an object for pruning/],
  ["neither preset nor cuts", {}, /either a preset or cuts/],
  ["both", { preset: "himap", cuts: [] }, /either a preset or cuts/],
  ["an unknown field", { preset: "himap", ratio: 0.5 }, /known option.*"ratio"/],
  ["a cache mode that does not exist", { preset: "himap", cache: "thawed" }, /one of "frozen", "redecide" for pruning.cache/],
  ["a seed beside cuts", { cuts: [], seed: 1 }, /seed only beside a preset/],
  ["a negative seed", { preset: "random", seed: -1 }, /pruning.seed but received -1/],
  ["cuts that are no list", { cuts: "himap" }, /an array for pruning.cuts/],
  ["too many cuts", { cuts: Array.from({ length: 65 }, () => ranked(1)) }, /at most 64 elements/],
  ["a cut that is null", { cuts: [null] }, /an object for pruning.cuts\[0\]/],
  ["a cut without a layer", { cuts: [{ score: { grid: true }, keep: { count: 1 } }] }, /cuts\[0\].before but received undefined/],
  ["a layer that is no integer", { cuts: [ranked(1.5)] }, /an integer.*received 1.5/],
  ["a negative layer", { cuts: [ranked(-1)] }, /received -1/],
  ["a layer as text", { cuts: [{ ...ranked(1), before: "2" }] }, /received "2"/],
  ["a layer beyond the depth", { cuts: [ranked(32)] }, /below 32, the depth of this model,.*received 32/],
  ["layers that descend", { cuts: [ranked(8), ranked(2)] }, /above 8.*received 2/],
  ["a layer twice", { cuts: [ranked(8), ranked(8)] }, /above 8.*received 8/],
  ["attention before layer 0", { cuts: [ranked(0)] }, /before layer 0 there is no attention/],
  ["no keep", { cuts: [{ before: 1, score: { rows: "last" } }] }, /an object for pruning.cuts\[0\].keep/],
  ["two keeps", { cuts: [{ ...ranked(1), keep: { ratio: 0.5, count: 1 } }] }, /either a ratio or a count/],
  ["a ratio above 1", { cuts: [ranked(1, { ratio: 1.01 })] }, /from 0 to 1/],
  ["a negative ratio", { cuts: [ranked(1, { ratio: -0.1 })] }, /from 0 to 1/],
  ["a ratio that is no number", { cuts: [ranked(1, { ratio: NaN })] }, /received NaN/],
  ["a count that is no integer", { cuts: [ranked(1, { count: 1.5 })] }, /received 1.5/],
  ["a negative count", { cuts: [ranked(1, { count: -1 })] }, /received -1/],
  ["a count above the image", { cuts: [ranked(1, { count: 577 })] }, /at most 576/],
  ["a count above those alive", { cuts: [ranked(1, { count: 10 }), ranked(2, { count: 11 })] }, /at most 10/],
  ["a score without a kind", { cuts: [{ ...ranked(1), score: {} }] }, /one of rows, random, grid or kept/],
  ["a score of two kinds", { cuts: [{ ...ranked(1), score: { rows: "last", grid: true } }] }, /one of rows, random/],
  ["rows that do not exist", { cuts: [{ ...ranked(1), score: { rows: "text" } }] }, /score.rows but received "text"/],
  ["heads that do not exist", { cuts: [{ ...ranked(1), score: { rows: "last", heads: "sum" } }] }, /score.heads/],
  ["heads beside grid", { cuts: [{ ...ranked(1), score: { grid: true, heads: "max" } }] }, /only beside rows/],
  ["grid: false", { cuts: [{ ...ranked(1), score: { grid: false } }] }, /true for pruning.cuts\[0\].score.grid/],
  ["a random seed as text", { cuts: [{ ...ranked(1), score: { random: "1" } }] }, /score.random but received "1"/],
  ["weights as an array", { cuts: [{ ...ranked(1), score: { rows: "last", weights: [1] } }] }, /a Float32Array/],
  ["weights with NaN", { cuts: [{ ...ranked(1), score: { rows: "last", weights: new Float32Array(576).fill(NaN) } }] }, /finite number.*weights\[0\]/],
  ["weights of another length", { cuts: [{ ...ranked(1), score: { rows: "last", weights: new Float32Array(575) } }] }, /576 image tokens/],
  ["a kept list as an array", { cuts: [{ before: 1, score: { kept: [1] } }] }, /^expected a Uint32Array for pruning.cuts\[0\].score.kept but received an array of 1$/],
  ["a kept list that descends", { cuts: [{ before: 1, score: kept(3, 2) }] }, /an index above 3/],
  ["an index twice", { cuts: [{ before: 1, score: kept(3, 3) }] }, /an index above 3/],
  ["an index beyond the image", { cuts: [{ before: 1, score: kept(575, 576) }] }, /kept\[1\] but received 576/],
  ["an index that was dropped", { cuts: [{ before: 1, score: kept(1, 2) }, { before: 2, score: kept(3) }] }, /kept\[0\] but received 3/],
  ["a kept list behind a ranking", { cuts: [ranked(1), { before: 2, score: kept(3) }] }, /known beforehand/],
  ["keep beside a kept list", { cuts: [{ before: 1, score: kept(3), keep: { count: 1 } }] }, /no keep beside a kept list/],
];
for (const [name, pruning, says] of bad) {
  test(`refused: ${name}`, () => assert.match(faults(pruning).join("; "), says));
}

test("the presets' depth is checked against the model's", () => {
  assert.match(faults("himap", { layers: 5, imageTokens: 64 }).join(), /below 5, the depth of this model/);
});

test("several faults are found together", () => {
  const found = faults({ cuts: [ranked(1, { ratio: 2 }), { before: 2.5, score: { rows: "x" }, keep: {} }], cache: 1 });
  assert.ok(found.length >= 4, found.join("; "));
});

test.run();
