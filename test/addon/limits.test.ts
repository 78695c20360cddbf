/** Numbers that native code once took at their word. */

import { test } from "uvu";
import * as assert from "uvu/assert";

import type { NativeEngine, StepSequence } from "../../lib/binding/native.js";
import { readConfig } from "../../lib/checkpoint/config.js";
import type { JsonObject, JsonValue } from "../../lib/checkpoint/json.js";
import { writeManifest } from "../../lib/checkpoint/manifest.js";
import { readPreprocessing } from "../../lib/checkpoint/preprocessing.js";
import type { ModelConfig } from "../../lib/checkpoint/types.js";
import { chooseToken } from "../../lib/sampling/sampler.js";
import { TinyCheckpoint, type Json } from "../helpers/tiny-checkpoint.js";
import { bits, decode, openBench, Pages, prefill, type Bench } from "../helpers/steps.js";

let bench: Bench;
let engine: NativeEngine;
test.before(async () => {
  bench = await openBench("mha");
  engine = await bench.open();
});
test.after(() => engine.close());

const codeOf = (work: () => unknown): unknown => {
  try {
    return work();
  } catch (error) {
    return (error as { code: string }).code;
  }
};
const endOf = (promise: Promise<unknown>): Promise<unknown> => promise.then(() => "done", (error: { code: string }) => error.code);
const text = (): StepSequence => prefill(bench, bench.prompt("text"), [], new Pages(), 0, 8);

test("sizes whose products do not fit are refused", () => {
  assert.is(codeOf(() => bench.native.pageBytes(2 ** 31 - 1, 2 ** 31 - 1, "f32")), "ERR_INVALID_ARG");
  assert.is(codeOf(() => bench.native.memoryOf(bench.checkpoint.manifest, 2 ** 31, 2 ** 31 - 1)), "ERR_INVALID_ARG");
  assert.type(bench.native.memoryOf(bench.checkpoint.manifest, 2 ** 31, 2 ** 16).workspace, "number");
});

test("a small manifest cannot ask for large tables of positions", async () => {
  const manifest = bench.checkpoint.manifest.replace(/maxPositions \d+/, `maxPositions ${2 ** 24}`);
  assert.is(await endOf(bench.native.open(manifest, { backend: "cpu", threads: 1, weights: "map", kvType: "f32", kvPages: 8 })), "ERR_BAD_CHECKPOINT");
});

test("every number that a config may hold, native code takes", () => {
  const toMap = (value: Json): JsonObject =>
    new Map(Object.entries(value).map(([key, item]) => [key, item?.constructor === Object ? toMap(item) : (item as JsonValue)]));
  const sizes = [1, 2, 4, 8, 16, 1023, 1024, 1025, 4096, 65_536, 2 ** 17, 2 ** 20, 2 ** 27];
  const heads = { hidden_size: 65_536, num_attention_heads: 1024, num_key_value_heads: 1024 };
  const edits: Json[] = [
    ...["hidden_size", "intermediate_size", "num_hidden_layers", "vocab_size", "max_position_embeddings"].flatMap((key) =>
      sizes.flatMap((size) => [{ [key]: size }, { [key]: size, head_dim: 8 }, { [key]: size, head_dim: 1024 }])),
    ...[1, 64, 1024].flatMap((count) => sizes.map((hidden_size) => ({ hidden_size, num_attention_heads: count, num_key_value_heads: 1 }))),
    { ...heads, head_dim: 1024 }, heads,
    ...[1e-12, 1e-5, 0.1, 1e-300].map((rms_norm_eps) => ({ rms_norm_eps })),
    ...[1, 10_000.5, 1e12, 1e13].map((rope_theta) => ({ rope_theta })),
  ].map((text) => ({ text, vision: {} }));
  edits.push(...[
    ...[1, 2, 4, 14, 256].flatMap((patch_size) => [1, 1022, 1023, 1024, 4096].map((grid) => ({ patch_size, image_size: patch_size * grid }))),
    ...[1, 64, 1024].flatMap((num_attention_heads) => sizes.map((hidden_size) => ({ hidden_size, num_attention_heads }))),
    ...sizes.flatMap((size) => [{ intermediate_size: size }, { num_hidden_layers: size }]),
    ...[1e-12, 0.1].map((layer_norm_eps) => ({ layer_norm_eps })),
  ].map((vision) => ({ text: {}, vision })));
  let taken = 0;
  for (const { text: decoder, vision } of edits) {
    for (const strategy of ["default", "full"]) {
      const { config } = new TinyCheckpoint();
      Object.assign(config, { vision_feature_select_strategy: strategy });
      Object.assign(config.text_config, decoder);
      Object.assign(config.vision_config, vision);
      let model: ModelConfig;
      try {
        ({ model } = readConfig(toMap(config), undefined));
      } catch {
        continue;
      }
      const refused = codeOf(() => (bench.native.memoryOf(writeManifest({ config: model, files: [], tensors: [] }), 1, 1), undefined));
      assert.is(refused, undefined, JSON.stringify({ decoder, vision, strategy }));
      taken++;
    }
  }
  assert.ok(taken > 100, String(taken));
});

test("every deviation that a processor may have, native code takes", async () => {
  for (const value of [0, 1e-7, 1e-6, 0.25, 1, 1e6, 1_000_001]) {
    let std: [number, number, number];
    try {
      ({ std } = readPreprocessing(new Map([["image_std", [value, value, value]]]), "preprocessor_config.json", 2));
    } catch {
      assert.ok(value < 1e-6 || value > 1e6, String(value));
      continue;
    }
    const { pixels } = await bench.native.preprocess({
      pixels: new Uint8Array(3).fill(255), width: 1, height: 1, channels: 3, geometry: "crop", side: 2, mean: [0, 0, 0], std,
    });
    assert.is(pixels[0], Math.fround(1 / Math.fround(value)));
  }
});

test("a prompt of which nothing would be left is refused", async () => {
  const sequence = prefill(bench, { ids: [-200], features: undefined }, [{ before: 1, keep: 0, voters: "all" }], new Pages());
  const images = [{ features: new Float32Array(bench.checkpoint.config.imageTokens * bench.checkpoint.config.hidden) }];
  assert.is(await endOf(engine.step({ images, sequences: [sequence] })), "ERR_INVALID_ARG");
});

test("a stage without layers takes no pages, whatever it claims", async () => {
  const prompt = text();
  await engine.step({ images: [], sequences: [prompt] });
  const row = decode(bench, prompt, 7, 1);
  const empty = { cached: 0, blocks: 2 ** 31, pages: new Int32Array(0) };
  const [plain, padded] = [await engine.step({ images: [], sequences: [row] }), await engine.step({ images: [], sequences: [{ ...row, stages: [empty, ...row.stages] }] })];
  assert.is(bits(padded.sequences[0]!.candidates), bits(plain.sequences[0]!.candidates));
});

test("where every token is banned, the first candidate is chosen, natively as in TypeScript", async () => {
  const sampling = { temperature: 0.8, topK: 5, topP: 0.9, minP: 0.1, seed: [1, 2], sample: 0 } as const;
  const none = new Uint32Array(Math.ceil(bench.checkpoint.config.vocabulary / 32));
  const { sequences } = await engine.step({ images: [], sequences: [{ ...text(), burst: 3, sampling, allowed: none }] });
  const { candidates, tokens } = sequences[0]!;
  assert.is(candidates[0]!.logits[0], -Infinity);
  assert.equal([...tokens], [candidates[0]!.ids[0], candidates[1]!.ids[0]]);
  assert.is(chooseToken(candidates[0]!, sampling, 9), 0);
});

test.run();
