import { suite } from "uvu";
import * as assert from "uvu/assert";

import type { NativeEngine, StepImage, StepResult, StepSequence } from "../../lib/binding/native.js";
import { keyOf } from "../../lib/sampling/philox.js";
import { chooseToken } from "../../lib/sampling/sampler.js";
import { bits, decode, openBench, Pages, prefill, type Bench } from "../helpers/steps.js";

/** Prefill, then greedy decode steps of all sequences together; the candidates of every pass. */
async function generate(bench: Bench, engine: NativeEngine, sequences: StepSequence[], images: StepImage[], steps: number): Promise<StepResult[][]> {
  const passes = [(await engine.step({ images, sequences })).sequences];
  for (let step = 1; step <= steps; step++) {
    const next = sequences.map((sequence, i) => decode(bench, sequence, passes.at(-1)![i]!.candidates.at(-1)!.ids[0]!, step));
    passes.push((await engine.step({ images: [], sequences: next })).sequences);
  }
  return passes;
}

for (const name of ["mha", "gqa", "hd128"]) {
  const test = suite(`step ${name}`);
  let bench: Bench;
  test.before(async () => {
    bench = await openBench(name);
  });

  /** Three requests with three policies and a text, as one step or one by one. */
  const jobs = (pages: Pages): { sequence: StepSequence; image: StepImage | undefined }[] =>
    ([["short", "himap"], ["long", "three"], ["turns", "none"], ["text", "none"]] as const).map(([request, policy]) => {
      const prompt = bench.prompt(request);
      return { sequence: prefill(bench, prompt, bench.cuts(policy), pages), image: prompt.features && { features: prompt.features } };
    });

  test("a prompt alone and the same prompt in a step with others are bit-equal, prefill and decode", async () => {
    const engine = await bench.open();
    const alone: string[] = [];
    for (const { sequence, image } of jobs(new Pages())) {
      const passes = await generate(bench, engine, [sequence], image ? [image] : [], 3);
      alone.push(passes.map(([result]) => bits(result!.candidates)).join("\n"));
    }
    const together = jobs(new Pages());
    const images: StepImage[] = [];
    for (const { sequence, image } of together) {
      if (!image) continue;
      sequence.spans[2] = images.length;
      images.push(image);
    }
    const passes = await generate(bench, engine, together.map(({ sequence }) => sequence), images, 3);
    together.forEach((_, i) => assert.is(passes.map((results) => bits(results[i]!.candidates)).join("\n"), alone[i]));
    await engine.close();
  });

  test("1 thread and 5 threads are bit-equal", async () => {
    const outputs: string[] = [];
    for (const threads of [1, 2, 5]) {
      const engine = await bench.open({ threads });
      const prompt = bench.prompt("short");
      const passes = await generate(bench, engine, [prefill(bench, prompt, bench.cuts("himap"), new Pages())], [{ features: prompt.features! }], 3);
      outputs.push(passes.map(([result]) => bits(result!.candidates)).join("\n"));
      await engine.close();
    }
    assert.is(outputs[1], outputs[0]);
    assert.is(outputs[2], outputs[0]);
  });

  test("prefill and decode of the same step share no state: a decode row beside a new prompt is bit-equal", async () => {
    const engine = await bench.open();
    const [first, second] = [bench.prompt("short"), bench.prompt("long")];
    const run = async (beside: boolean): Promise<string> => {
      const pages = new Pages();
      const sequence = prefill(bench, first, bench.cuts("himap"), pages);
      const start = await engine.step({ images: [{ features: first.features! }], sequences: [sequence] });
      const next = decode(bench, sequence, start.sequences[0]!.candidates[0]!.ids[0]!, 1);
      const other = prefill(bench, second, bench.cuts("himap"), pages);
      const step = await engine.step(beside ? { images: [{ features: second.features! }], sequences: [other, next] } : { images: [], sequences: [next] });
      return bits(step.sequences.at(-1)!.candidates);
    };
    assert.is(await run(true), await run(false));
    await engine.close();
  });

  test("a native burst chooses the tokens that the TypeScript sampler chooses", async () => {
    const engine = await bench.open();
    const prompt = bench.prompt("long");
    const sampling = { temperature: 1.3, topK: 40, topP: 0.95, minP: 0.01, seed: keyOf(12345678901), sample: 2 };
    const pages = new Pages();
    const sequence = { ...prefill(bench, prompt, bench.cuts("himap"), pages), sampling };
    const image = { features: prompt.features! };
    const single: number[] = [];
    const singlePasses: string[] = [];
    let candidates = (await engine.step({ images: [image], sequences: [sequence] })).sequences[0]!.candidates[0]!;
    for (let step = 1; step <= 12; step++) {
      singlePasses.push(bits([candidates]));
      const id = candidates.ids[chooseToken(candidates, sampling, sequence.ids.length + step - 1)]!;
      single.push(id);
      candidates = (await engine.step({ images: [], sequences: [decode(bench, sequence, id, step)] })).sequences[0]!.candidates[0]!;
    }
    const burst = await engine.step({ images: [image], sequences: [{ ...sequence, burst: 13 }] });
    assert.equal(Array.from(burst.sequences[0]!.tokens), single);
    assert.equal(burst.sequences[0]!.candidates.slice(0, 12).map((one) => bits([one])), singlePasses);

    // A stop id ends a burst; the tokens up to it are the same.
    const stopped = await engine.step({ images: [image], sequences: [{ ...sequence, burst: 13, stop: Int32Array.of(single[4]!) }] });
    assert.equal(Array.from(stopped.sequences[0]!.tokens), single.slice(0, single.indexOf(single[4]!) + 1));

    // A burst that starts at a decode row.
    const later = await engine.step({ images: [], sequences: [decode(bench, sequence, single[0]!, 1, 5)] });
    assert.equal(Array.from(later.sequences[0]!.tokens), single.slice(1, 5));
    await engine.close();
  });

  test("adjustments and masks act before candidates are taken", async () => {
    const engine = await bench.open();
    const prompt = bench.prompt("text");
    const sequence = prefill(bench, prompt, [], new Pages());
    const [plain] = (await engine.step({ images: [], sequences: [sequence] })).sequences;
    const [best, second] = plain!.candidates[0]!.ids;
    const adjust = { tokens: Int32Array.of(best!, second!), add: Float32Array.of(-Infinity, 1.5), multiply: Float32Array.of(1, 2) };
    const [adjusted] = (await engine.step({ images: [], sequences: [{ ...sequence, adjust }] })).sequences;
    const logit = plain!.candidates[0]!.logits[1]!;
    const expected = Math.fround(Math.fround(logit < 0 ? logit * 2 : logit / 2) + 1.5);
    const at = adjusted!.candidates[0]!.ids.indexOf(second!);
    assert.is(adjusted!.candidates[0]!.logits[at], expected);
    assert.not.ok(adjusted!.candidates[0]!.ids.slice(0, 63).includes(best!));
    const allowed = new Uint32Array(Math.ceil(bench.checkpoint.config.vocabulary / 32));
    for (const id of [5, 70, 300]) allowed[id >> 5]! |= 1 << (id & 31);
    const [masked] = (await engine.step({ images: [], sequences: [{ ...sequence, allowed }] })).sequences;
    assert.equal(Array.from(masked!.candidates[0]!.ids.slice(0, 3)).sort((a, b) => a - b), [5, 70, 300]);
    assert.is(masked!.candidates[0]!.logits[3], -Infinity);
    await engine.close();
  });

  test("given ranks equal the attention's own choice, and a cut may stand before layer 0", async () => {
    const engine = await bench.open();
    const prompt = bench.prompt("short");
    const image = { features: prompt.features! };
    const [chosen] = (await engine.step({ images: [image], sequences: [prefill(bench, prompt, bench.cuts("himap"), new Pages())] })).sequences;
    const [first, second] = chosen!.cuts.map(({ kept }) => kept);
    const ranks = Uint32Array.from(second!, (index) => first!.indexOf(index));
    const cuts = bench.cuts("himap");
    const given = [
      { before: cuts[0]!.before, keep: first!.length, keptRanks: first! },
      { before: cuts[1]!.before, keep: second!.length, keptRanks: ranks },
    ];
    const [same] = (await engine.step({ images: [image], sequences: [prefill(bench, prompt, given, new Pages())] })).sequences;
    assert.is(bits(same!.candidates), bits(chosen!.candidates));
    assert.equal(same!.cuts.map(({ kept }) => Array.from(kept)), [Array.from(first!), Array.from(second!)]);

    const early = [{ before: 0, keep: 3, keptRanks: Uint32Array.of(1, 5, 40) }];
    const sequence = prefill(bench, prompt, early, new Pages());
    const [cut] = (await engine.step({ images: [image], sequences: [{ ...sequence, study: { hidden: true, scores: true } }] })).sequences;
    assert.equal(Array.from(cut!.cuts[0]!.kept), [1, 5, 40]);
    assert.is(cut!.hidden![0]!.length, (sequence.ids.length - bench.checkpoint.config.imageTokens + 3) * bench.checkpoint.config.hidden);
    assert.is(cut!.positions!.length, sequence.ids.length - bench.checkpoint.config.imageTokens + 3);
    await engine.close();
  });

  test("weights multiply the scores before they are ranked", async () => {
    const engine = await bench.open();
    const prompt = bench.prompt("short");
    const image = { features: prompt.features! };
    const tokens = bench.checkpoint.config.imageTokens;
    const cut = { ...bench.cuts("himap")[0]!, weights: Float32Array.from({ length: tokens }, (_, i) => (i >= tokens - 5 ? 1 : 0)) };
    const sequence = { ...prefill(bench, prompt, [{ ...cut, keep: 5 }], new Pages()), returnScores: true };
    const [result] = (await engine.step({ images: [image], sequences: [sequence] })).sequences;
    assert.equal(Array.from(result!.cuts[0]!.kept), [5, 4, 3, 2, 1].map((back) => tokens - back));
    assert.is(result!.cuts[0]!.scores![0], 0);
    await engine.close();
  });

  test("two pictures in one prompt compete in one pool", async () => {
    const engine = await bench.open();
    const prompt = bench.prompt("short");
    const at = prompt.ids.indexOf(-200);
    const two = { ids: [...prompt.ids.slice(0, at + 1), 348, ...prompt.ids.slice(at)], features: prompt.features };
    const images = [{ features: bench.prompt("long").features! }, { features: prompt.features! }];
    const cuts = bench.cuts("himap");
    const sequence = prefill(bench, two, cuts, new Pages());
    const [result] = (await engine.step({ images, sequences: [{ ...sequence, study: { scores: true } }] })).sequences;
    const tokens = bench.checkpoint.config.imageTokens;
    assert.is(result!.cuts[0]!.kept.length, cuts[0]!.keep);
    assert.ok(result!.cuts[0]!.kept.some((index) => index >= tokens), "the second picture has survivors");
    assert.ok(result!.cuts[0]!.kept.some((index) => index < tokens), "the first picture has survivors");
    // The survivors are those with the best sums of layer K1 - 1, read from the study of an uncut run.
    const uncut = prefill(bench, two, [], new Pages());
    const [study] = (await engine.step({ images, sequences: [{ ...uncut, study: { scores: true } }] })).sequences;
    const layer = study!.colsum![cuts[0]!.before - 1]!;
    const heads = bench.checkpoint.config.heads;
    const scores = Float64Array.from({ length: 2 * tokens }, (_, i) => {
      let sum = 0;
      for (let head = 0; head < heads; head++) sum += layer[head * 2 * tokens + i]!;
      return sum;
    });
    const best = Array.from(scores.keys()).sort((a, b) => scores[b]! - scores[a]! || a - b).slice(0, cuts[0]!.keep).sort((a, b) => a - b);
    assert.equal(Array.from(result!.cuts[0]!.kept), best);
    await engine.close();
  });

  test("16-bit KV stays close to 32-bit KV", async () => {
    for (const [kvType, bound] of [["f16", 2e-3], ["bf16", 2e-2]] as const) {
      const results: StepResult[] = [];
      for (const type of ["f32", kvType] as const) {
        const engine = await bench.open({ kvType: type });
        const prompt = bench.prompt("short");
        const passes = await generate(bench, engine, [prefill(bench, prompt, bench.cuts("himap"), new Pages())], [{ features: prompt.features! }], 1);
        results.push(passes[1]![0]!);
        await engine.close();
      }
      const [exact, rounded] = results.map((result) => result.candidates[0]!.logits);
      const largest = Math.max(...exact!.map(Math.abs));
      exact!.forEach((value, i) => assert.ok(Math.abs(value - rounded![i]!) <= bound * largest));
      assert.not.equal(exact, rounded);
    }
  });

  test("copied weights give the bits of mapped ones", async () => {
    const outputs: string[] = [];
    for (const weights of ["map", "copy"] as const) {
      const engine = await bench.open({ weights });
      assert.is(engine.info.mappedBytes > 0, weights === "map");
      const [result] = (await engine.step({ images: [], sequences: [prefill(bench, bench.prompt("text"), [], new Pages())] })).sequences;
      outputs.push(bits(result!.candidates));
      await engine.close();
    }
    assert.is(outputs[0], outputs[1]);
  });

  test.run();
}

const test = suite("step: what is refused, and how a step ends early");
let bench: Bench;
test.before(async () => {
  bench = await openBench("mha");
});

test("a malformed step is refused before anything runs, and the engine goes on", async () => {
  const engine = await bench.open();
  const prompt = bench.prompt("short");
  const image = { features: prompt.features! };
  const good = prefill(bench, prompt, bench.cuts("himap"), new Pages());
  const bad: [string, Partial<StepSequence> | ((sequence: StepSequence) => unknown)][] = [
    ["no rows", { ids: new Int32Array(0), positions: new Int32Array(0) }],
    ["an id beyond the vocabulary", { ids: Int32Array.from(good.ids, (id, i) => (i === 0 ? 448 : id)) }],
    ["a negative id outside a span", { ids: Int32Array.from(good.ids, (id, i) => (i === 0 ? -1 : id)) }],
    ["an id inside a span", { ids: Int32Array.from(good.ids, (id) => (id === -1 ? 5 : id)) }],
    ["positions of another length", { positions: new Int32Array(3) }],
    ["a position beyond the table", { positions: Int32Array.from(good.positions, (p, i) => (i === 5 ? 4096 : p)) }],
    ["a negative position", { positions: Int32Array.from(good.positions, (p, i) => (i === 5 ? -1 : p)) }],
    ["a span beyond the rows", { spans: Int32Array.of(80, 64, 0) }],
    ["a span of another length", { spans: Int32Array.of(8, 63, 0) }],
    ["a span of a missing image", { spans: Int32Array.of(8, 64, 1) }],
    ["a broken span", { spans: Int32Array.of(8, 64) }],
    ["a page beyond the pool", { stages: good.stages.map((stage) => ({ ...stage, pages: stage.pages.map(() => 4096) })) }],
    ["a negative page", { stages: good.stages.map((stage) => ({ ...stage, pages: stage.pages.map(() => -1) })) }],
    ["too few pages", { stages: good.stages.map((stage) => ({ ...stage, blocks: 1, pages: stage.pages.slice(0, stage.pages.length / stage.blocks) })) }],
    ["a missing stage", { stages: good.stages.slice(1) }],
    ["cuts that descend", { cuts: [...good.cuts].reverse() }],
    ["a cut that keeps more than is alive", { cuts: [{ before: 2, keep: 65, voters: "image" }] }],
    ["a cut beyond the last layer", { cuts: [{ before: 5, keep: 1, voters: "image" }] }],
    ["attention before layer 0", { cuts: [{ before: 0, keep: 1, voters: "image" }] }],
    ["ranks that do not ascend", { cuts: [{ before: 2, keep: 2, keptRanks: Uint32Array.of(3, 3) }] }],
    ["a rank beyond those alive", { cuts: [{ before: 2, keep: 1, keptRanks: Uint32Array.of(64) }] }],
    ["unknown voters", { cuts: [{ before: 2, keep: 1, voters: "everyone" as "all" }] }],
    ["weights of another length", { cuts: [{ before: 2, keep: 1, voters: "all", weights: new Float32Array(3) }] }],
    ["no burst", { burst: 0 }],
    ["a burst beyond the pages", { burst: 10_000 }],
    ["a negative temperature", { sampling: { ...good.sampling, temperature: -1 } }],
    ["a temperature that is no number", { sampling: { ...good.sampling, temperature: NaN } }],
    ["an adjustment of a token that is not", { adjust: { tokens: Int32Array.of(448), add: Float32Array.of(0), multiply: Float32Array.of(1) } }],
    ["adjustments of different lengths", { adjust: { tokens: Int32Array.of(1), add: new Float32Array(0), multiply: Float32Array.of(1) } }],
    ["a mask of another length", { allowed: new Uint32Array(1) }],
    ["ids of another type", { ids: Array.from(good.ids) as unknown as Int32Array }],
    ["an unknown phase", { phase: "later" as "decode" }],
    ["a decode of many rows", { phase: "decode" }],
  ];
  for (const [what, change] of bad) {
    try {
      await engine.step({ images: [image], sequences: [{ ...good, ...change } as StepSequence] });
      assert.unreachable(what);
    } catch (error) {
      assert.is((error as { code?: string }).code, "ERR_INVALID_ARG", `${what}: ${error}`);
    }
  }
  for (const badImage of [{}, { pixels: new Float32Array(3) }, { features: new Float32Array(3) }, { ...image, pixels: new Float32Array(3 * 112 * 112) }]) {
    try {
      await engine.step({ images: [badImage], sequences: [] });
      assert.unreachable("image");
    } catch (error) {
      assert.is((error as { code?: string }).code, "ERR_INVALID_ARG");
    }
  }
  const { sequences } = await engine.step({ images: [image], sequences: [good] });
  assert.is(sequences[0]!.cuts.length, 2);
  await engine.close();
});

test("interrupt ends the running step and the waiting ones; later steps run", async () => {
  const engine = await bench.open();
  const prompt = bench.prompt("short");
  const input = { images: [{ features: prompt.features! }], sequences: [{ ...prefill(bench, prompt, [], new Pages(), 0, 2000), burst: 1500 }] };
  const running = [engine.step(input), engine.step(input), engine.step(input)].map((step) => step.then(() => "done", (error) => error.code));
  await new Promise((resolve) => setTimeout(resolve, 30));
  engine.interrupt();
  const started = performance.now();
  assert.equal(await Promise.all(running), ["ERR_ABORTED", "ERR_ABORTED", "ERR_ABORTED"]);
  assert.ok(performance.now() - started < 5000);
  const { sequences } = await engine.step({ images: input.images, sequences: [prefill(bench, prompt, [], new Pages())] });
  assert.is(sequences[0]!.candidates.length, 1);
  await engine.close();
});

test("close ends what runs and what waits; afterwards every step is refused", async () => {
  const engine = await bench.open();
  const prompt = bench.prompt("short");
  const input = { images: [{ features: prompt.features! }], sequences: [{ ...prefill(bench, prompt, [], new Pages(), 0, 2000), burst: 1500 }] };
  const running = [engine.step(input), engine.step(input)].map((step) => step.then(() => "done", (error) => error.code));
  await engine.close();
  assert.equal(await Promise.all(running), ["ERR_ABORTED", "ERR_ABORTED"]);
  assert.is(await engine.step(input).then(() => "done", (error) => error.code), "ERR_DISPOSED");
  await engine.close();
});

test.run();
