import { fileURLToPath } from "node:url";

import { test } from "uvu";
import * as assert from "uvu/assert";

import { limits } from "../../lib/defaults.js";
import { HimapError } from "../../lib/errors.cjs";
import { loadWith } from "../../lib/load.js";
import { countFlops, type PrefillShape } from "../../lib/pruning/flops.js";
import { checkLoad } from "../../lib/request/load.js";
import type { CacheMode, Cut, Engine, Message, Result } from "../../lib/types.js";
import { FakeEngine, fakeModule, type FakeOptions } from "../helpers/fake-native.js";

const folder = fileURLToPath(new URL("../golden/mha/checkpoint", import.meta.url));
const raw = { pixels: new Uint8Array(12).fill(9), width: 2, height: 2, channels: 3 } as const;
const ask: Message[] = [{ role: "user", content: [{ type: "image", image: raw }, { type: "text", text: "What is it?" }] }];
const cuts: Cut[] = [
  { before: 2, score: { rows: "instruction" }, keep: { ratio: 0.5 } },
  { before: 3, score: { rows: "image" }, keep: { ratio: 0.25 } },
];
const policy = (cache: CacheMode): { cuts: Cut[]; cache: CacheMode } => ({ cuts, cache });

async function open(fake: FakeOptions = {}): Promise<{ engine: Engine; native: FakeEngine }> {
  const native = new FakeEngine({ hidden: 128, ...fake });
  return { engine: await loadWith(() => fakeModule(fake, native), checkLoad(folder, undefined)), native };
}

test("every token is a prefill of the prompt and the tokens before it, without a cache", async () => {
  const { engine, native } = await open();
  const { tokens, usage } = await engine.generate(ask, { pruning: policy("redecide"), maxTokens: 5 });
  const steps = native.log.map(({ sequences }) => sequences[0]!);
  assert.is(steps.length, 5);
  steps.forEach((step, i) => {
    assert.is(step.phase, "prefill");
    assert.equal([...step.ids.subarray(usage.promptTokens)], [...tokens.subarray(0, i)]);
    assert.equal([...step.positions], Array.from({ length: usage.promptTokens + i }, (_, row) => row));
    assert.equal(step.cuts, steps[0]!.cuts);
    assert.equal(step.spans, steps[0]!.spans);
    assert.ok(step.stages.every(({ cached }) => cached === 0));
  });
  await engine.dispose();
});

test("a picture passes the vision tower once", async () => {
  const { engine, native } = await open();
  const { timings } = await engine.generate(ask, { pruning: policy("redecide"), maxTokens: 4 });
  const [first, ...others] = native.log.map(({ images }) => images[0]!);
  assert.ok(first!.pixels && first!.returnFeatures);
  assert.ok(others.every(({ pixels, features }) => pixels === undefined && features!.length === 64 * 128));
  assert.ok(others.every(({ returnFeatures }) => returnFeatures === undefined), "nothing is copied back for nothing");
  assert.ok(timings.generate > 0);
  await engine.dispose();
});

test("the result has the decision of each token, the first as the cut's own", async () => {
  const { engine } = await open();
  const { cuts: decided, tokens } = await engine.generate(ask, { pruning: policy("redecide"), maxTokens: 6, scores: true });
  for (const { kept, scores, steps } of decided) {
    assert.is(steps!.length, tokens.length);
    assert.equal(steps![0], { kept, scores });
  }
  const frozen = await engine.generate(ask, { pruning: policy("frozen"), maxTokens: 6 });
  assert.ok(frozen.cuts.every((cut) => !("steps" in cut)));
  await engine.dispose();
});

test("prefills that grow with the answer stay within the rows of a step together", async () => {
  const { engine, native } = await open();
  await Promise.all(Array.from({ length: 12 }, () => engine.generate(ask, { pruning: policy("redecide"), maxTokens: 200 })));
  const rows = native.log.map(({ sequences }) => sequences.reduce((sum, { ids }) => sum + ids.length, 0));
  assert.ok(Math.max(...rows) <= limits.prefillRows, `${Math.max(...rows)}`);
  assert.ok(native.log.some(({ sequences }) => sequences.length > 3), "they run together all the same");
  await engine.dispose();
});

test("it streams, and what an abort leaves is whole", async () => {
  const { engine } = await open({ delay: () => 2 });
  const generation = engine.generate(ask, { pruning: policy("redecide"), maxTokens: 200 });
  let pieces = 0;
  let error: unknown;
  try {
    for await (const _ of generation) if (++pieces === 3) generation.abort("enough");
  } catch (thrown) {
    error = thrown;
  }
  assert.instance(error, HimapError);
  const partial = (error as HimapError).partial as Result;
  assert.ok(partial.tokens.length >= 3 && partial.tokens.length < 200);
  assert.is(partial.cuts[0]!.steps!.length, partial.tokens.length);
  await engine.dispose();
});

test("without pruning, without a picture, and as the engine's own policy", async () => {
  const { engine, native } = await open();
  const plain = await engine.generate("hello", { pruning: { preset: "none", cache: "redecide" }, maxTokens: 3 });
  assert.equal(plain.cuts, []);
  assert.ok(native.log.every(({ sequences }) => sequences[0]!.phase === "prefill"));
  await engine.dispose();
  const own = new FakeEngine({ hidden: 128 });
  const second = await loadWith(() => fakeModule({}, own), checkLoad(folder, { pruning: policy("redecide") }));
  await second.generate(ask, { maxTokens: 3 });
  assert.equal(own.log.map(({ sequences }) => sequences[0]!.phase), ["prefill", "prefill", "prefill"]);
  await second.dispose();
});

test("one forward is one prefill in either mode", async () => {
  const { engine, native } = await open();
  await engine.forward(ask, { pruning: policy("redecide") });
  assert.is(native.steps, 1);
  await engine.dispose();
});

test("FLOPs are the sum over all prefills, pictures encoded once, in results and plans", async () => {
  const { engine } = await open();
  const { flops, usage } = await engine.generate(ask, { pruning: policy("redecide"), maxTokens: 7 });
  const textTokens = usage.promptTokens - 64;
  const plan = engine.plan({ promptTokens: textTokens, maxTokens: usage.completionTokens, pruning: policy("redecide") });
  assert.equal(plan.flops, flops);
  assert.is(
    engine.plan({ promptTokens: textTokens, pruning: policy("frozen") }).flops.paper * usage.completionTokens,
    flops.paper,
  );
  assert.ok(flops.prefill < flops.prefillUnpruned);
  await engine.dispose();

  const config = {
    hidden: 64,
    ffn: 96,
    layers: 5,
    heads: 4,
    kvHeads: 2,
    headDim: 16,
    vocabulary: 100,
    rmsEps: 1e-5,
    ropeTheta: 1e4,
    maxPositions: 999,
    vision: {
      hidden: 32,
      ffn: 64,
      layers: 2,
      heads: 2,
      imageSize: 28,
      patchSize: 14,
      eps: 1e-5,
      activation: "gelu",
      keepClass: false,
    },
    imageTokens: 4,
  } as const;
  const shape: PrefillShape = { textTokens: 11, imageTokens: 4, encodedImages: 1, cuts: [{ before: 2, keep: 1 }] };
  for (const prefills of [1, 2, 3, 4, 17]) {
    let expected = countFlops(config, shape).prefill;
    for (let more = 1; more < prefills; more++) {
      expected += countFlops(config, { ...shape, encodedImages: 0, textTokens: shape.textTokens + more }).prefill;
    }
    assert.is(countFlops(config, { ...shape, prefills }).prefill, expected, `${prefills} prefills`);
  }
});

test.run();
