import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

import { test } from "uvu";
import * as assert from "uvu/assert";

import { loadNative } from "../../lib/binding/load.js";
import type { StepSequence } from "../../lib/binding/native.js";
import { openCheckpoint } from "../../lib/checkpoint/index.js";
import { HimapError } from "../../lib/errors.cjs";
import { load } from "../../lib/load.js";
import { pagesOf } from "../../lib/model.js";
import { firstPositions, pageTables } from "../../lib/schedule/layout.js";
import { formatInspection, inspect } from "../../weights-tools/inspect.js";

const golden = (name: string): string => fileURLToPath(new URL(`../golden/${name}/checkpoint`, import.meta.url));

test("a reference checkpoint is described", async () => {
  const report = await inspect(golden("full576"), { promptTokens: 100, maxTokens: 50 });
  assert.is(report.family, "llava");
  assert.is(report.parameters, 1_492_224);
  assert.equal(report.weights, [{ type: "F16", tensors: 134, bytes: 2 * 1_492_224 }]);
  assert.equal(report.files, [{ name: "model.safetensors", bytes: 3_070_600 }]);
  assert.equal(report.prompt, { images: 1, textTokens: 100, imageTokens: 576, length: 676, newTokens: 50, fits: true });
  assert.is(report.memory.mappedBytes, 3_070_600);
  // K and V of 2 heads of 64 in 10 layers, 4 bytes each.
  assert.is(report.memory.kvBytesPerToken, 2 * 2 * 64 * 10 * 4);
});

test("each preset that the model is deep enough for is costed by its stages", async () => {
  const { memory, policies } = await inspect(golden("full576"), { promptTokens: 100, maxTokens: 51 });
  const stages = new Map(policies.map(({ preset, imageTokensPerStage }) => [preset, imageTokensPerStage]));
  assert.equal(Object.fromEntries(stages), { none: [576], himap: [576, 288, 72], fastv: [576, 288], random: [576, 288, 72], grid: [576, 288, 72], vtw: [576, 0] });
  const fixed = memory.vectorBytes + memory.workspaceBytes;
  const perLayer = memory.kvBytesPerToken / 10;
  const kv = (...tokens: number[]): number => tokens.reduce((sum, count) => sum + count * perLayer, 0);
  const written = 100 + 50;
  for (const { preset, anonymousBytes, kvBytes } of policies) {
    const alive = { none: [10 * 576], himap: [2 * 576, 6 * 288, 2 * 72], fastv: [2 * 576, 8 * 288], vtw: [5 * 576] }[preset as string];
    if (alive !== undefined) assert.is(anonymousBytes, fixed + kv(10 * written, ...alive), preset);
    assert.ok(kvBytes >= anonymousBytes - fixed, preset);
  }
});

test("operations are those that the engine counts for such a prompt", async () => {
  const engine = await load(golden("full576"), { device: "cpu", memory: { kvBytes: 64e6 } });
  const { policies } = await inspect(golden("full576"), { promptTokens: 100 });
  for (const { preset, flops } of policies) assert.equal(flops, engine.plan({ promptTokens: 100, pruning: preset }).flops, preset);
  assert.ok(policies.find(({ preset }) => preset === "himap")!.flops.prefill < policies[0]!.flops.prefill);
  await engine.dispose();
});

test("the type of the KV cache, images and lengths are what was asked for", async () => {
  const half = await inspect(golden("mha"), { kvType: "f16", images: 2, promptTokens: 0, maxTokens: 1 });
  assert.is(half.memory.kvBytesPerToken, 2 * 2 * 64 * 5 * 2);
  assert.is(half.prompt.length, 128);
  const text = await inspect(golden("mha"), { images: 0, promptTokens: 4000, maxTokens: 512 });
  assert.equal(text.policies.map(({ preset }) => preset), ["none"]);
  assert.not(text.prompt.fits);
  assert.is(text.prompt.newTokens, 96);
  const long = await inspect(golden("mha"), { promptTokens: 5000 });
  assert.is(long.prompt.newTokens, 0);
});

test("all faults of the options in one error", async () => {
  const error = await inspect(golden("mha"), { images: -1, promptTokens: 1.5, kvType: "f8" as "f16" }).catch((thrown: unknown) => thrown);
  assert.instance(error, HimapError);
  assert.is((error as HimapError).code, "ERR_INVALID_ARG");
  assert.is((error as HimapError).faults?.length, 3);
});

test("the page for a terminal", async () => {
  const page = formatInspection(await inspect(golden("gqa")));
  for (const text of ["2.80 million parameters", "98 tensors of BF16, 5.59 MB", "5838440 bytes", "144 > 72", "model-00001-of-00003.safetensors to"]) {
    assert.ok(page.includes(text), `${text} in\n${page}`);
  }
  assert.ok(page.split("\n").every((line) => line.length < 160 && line === line.trimEnd()));
});

function anonymousMemory(): number {
  return Number(/RssAnon:\s+(\d+)/.exec(readFileSync("/proc/self/status", "utf8"))![1]) * 1024;
}

test("mapped bytes are predicted exactly, and anonymous memory well", async () => {
  if (process.platform !== "linux") return;
  const [length, folder] = [4000, golden("gqa")];
  const { memory, policies } = await inspect(folder, { images: 0, promptTokens: length, maxTokens: 2 });
  const { manifest, config } = await openCheckpoint(folder);
  const native = loadNative();
  const before = anonymousMemory();
  const kvPages = config.layers * Math.ceil(config.maxPositions / native.pageTokens);
  const engine = await native.open(manifest, { backend: "cpu", threads: 1, weights: "map", kvType: "f32", kvPages });
  const stages = native.plan({ layers: config.layers, length, imageTokens: 0, newTokens: 2, cuts: [] });
  const pages = Int32Array.from({ length: stages.reduce((sum, stage) => sum + pagesOf(stage), 0) }, (_, i) => i);
  const common = {
    spans: new Int32Array(0), cuts: [], stop: new Int32Array(0), burst: 1,
    sampling: { temperature: 0, topK: 0, topP: 1, minP: 0, seed: [0, 0], sample: 0 },
  } satisfies Partial<StepSequence>;
  const ids = Int32Array.from({ length }, (_, i) => i % 300);
  await engine.step({ images: [], sequences: [{ phase: "prefill", ids, positions: firstPositions(length), stages: pageTables(stages, pages), ...common }] });
  await engine.step({ images: [], sequences: [{ phase: "decode", ids: Int32Array.of(5), positions: Int32Array.of(length), stages: pageTables(stages, pages, 0), ...common }] });
  const grown = anonymousMemory() - before;
  assert.is(engine.info.mappedBytes, memory.mappedBytes);
  const { anonymousBytes } = policies[0]!;
  console.log(`NOTE: anonymous memory grew by ${(grown / 1e6).toFixed(1)} MB, predicted ${(anonymousBytes / 1e6).toFixed(1)} MB`);
  // Stacks of threads, the library's own data and JavaScript's heap come on top, some megabytes whatever the model.
  assert.ok(Math.abs(grown - anonymousBytes) < 0.1 * anonymousBytes + 8e6, `${grown} ${anonymousBytes}`);
  await engine.close();
});

test.run();
