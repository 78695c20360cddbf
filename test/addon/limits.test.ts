/** Numbers that native code once took at their word. */

import { test } from "uvu";
import * as assert from "uvu/assert";

import type { NativeEngine, StepSequence } from "../../lib/binding/native.js";
import { chooseToken } from "../../lib/sampling/sampler.js";
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
