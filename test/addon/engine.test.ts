import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

import { test } from "uvu";
import * as assert from "uvu/assert";

import { loadNative } from "../../lib/binding/load.js";
import { HimapError, load, type Cut, type Engine, type Message, type Pruning, type Result } from "../../lib/index.js";
import { numberRules } from "../../lib/request/generate.js";
import { fakeModule, fakePlan } from "../helpers/fake-native.js";

const root = fileURLToPath(new URL("../..", import.meta.url));
const folder = `${root}/test/golden/mha/checkpoint`;
const picture = readFileSync(`${root}/test/golden/mha/short.png`);
const ask: Message[] = [{ role: "user", content: [{ type: "image", image: picture }, { type: "text", text: "What colour is the circle?" }] }];
const himap: Pruning = { cuts: [{ before: 2, score: { rows: "instruction" }, keep: { ratio: 0.5 } }, { before: 3, score: { rows: "image" }, keep: { ratio: 0.25 } }] };
const turn = (ms = 0): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
const bits = (values: Float32Array): string => Buffer.from(values.buffer, values.byteOffset, values.byteLength).toString("base64");
/** How a request ended: its code, or "done". */
const endOf = (request: PromiseLike<unknown>): Promise<string> =>
  Promise.resolve(request).then(() => "done", (error: unknown) => (error instanceof HimapError ? error.code : `not typed: ${String(error)}`));

let engine: Engine;
test.before(async () => {
  engine = await load(folder);
});
test.after(() => engine.dispose());

test("the survivors of a ranking policy, given as lists, give bit-equal logits and the same answer", async () => {
  const ranked = await engine.generate(ask, { pruning: himap, maxTokens: 12 });
  const given: Pruning = { cuts: ranked.cuts.map(({ before, kept }): Cut => ({ before, score: { kept } })) };
  const replayed = await engine.generate(ask, { pruning: given, maxTokens: 12 });
  assert.equal([...replayed.tokens], [...ranked.tokens]);
  const [one, two] = [await engine.forward(ask, { pruning: himap, logits: "all" }), await engine.forward(ask, { pruning: given, logits: "all" })];
  assert.is(bits(one.logits), bits(two.logits));
});

test("random, grid, weights and cuts before layer 0 keep what they say", async () => {
  const kept = async (cuts: Cut[]): Promise<number[][]> => (await engine.generate(ask, { pruning: { cuts }, maxTokens: 3 })).cuts.map((cut) => [...cut.kept]);
  assert.equal(await kept([{ before: 0, score: { grid: true }, keep: { count: 4 } }]), [[8, 24, 40, 56]]);
  assert.equal(await kept([{ before: 0, score: { kept: Uint32Array.of(3, 9) } }, { before: 4, score: { rows: "all" }, keep: { count: 0 } }]), [[3, 9], []]);
  assert.equal(await kept([{ before: 0, score: { kept: new Uint32Array(0) } }]), [[]]);
  const random: Cut[] = [{ before: 1, score: { random: 5 }, keep: { count: 10 } }];
  assert.equal(await kept(random), await kept(random));
  // A weight of nearly nothing for all but the last ten tokens leaves those.
  const weights = Float32Array.from({ length: 64 }, (_, i) => (i >= 54 ? 1 : 1e-30));
  assert.equal(await kept([{ before: 2, score: { rows: "instruction", weights }, keep: { count: 10 } }]), [[54, 55, 56, 57, 58, 59, 60, 61, 62, 63]]);
});

test("a prompt whose image is dropped before layer 0 sees no image", async () => {
  const dropped: Pruning = { cuts: [{ before: 0, score: { grid: true }, keep: { count: 0 } }] };
  const other: Message[] = [{ role: "user", content: [{ type: "image", image: { pixels: new Uint8Array(12).fill(200), width: 2, height: 2, channels: 3 } }, { type: "text", text: "What colour is the circle?" }] }];
  const [one, two] = [await engine.forward(ask, { pruning: dropped }), await engine.forward(other, { pruning: dropped })];
  assert.is(bits(one.logits), bits(two.logits));
  assert.is.not(bits((await engine.forward(ask)).logits), bits((await engine.forward(other)).logits));
});

test("an embedding stands for its picture, bit by bit, and skips the tower", async () => {
  const embedding = await engine.encodeImage(picture);
  const embedded: Message[] = [{ role: "user", content: [{ type: "image", image: { embedding } }, { type: "text", text: "What colour is the circle?" }] }];
  assert.is(bits((await engine.forward(embedded)).logits), bits((await engine.forward(ask)).logits));
  const [with_, without] = [await engine.generate(ask, { maxTokens: 2 }), await engine.generate(embedded, { maxTokens: 2 })];
  assert.equal(without.images, with_.images);
  assert.ok(without.flops.prefill < with_.flops.prefill);
  assert.is(without.flops.paper, with_.flops.paper);
});

test("several pictures: their tokens compete in one pool", async () => {
  const image = { type: "image", image: picture } as const;
  const result = await engine.generate([{ role: "user", content: [image, image, { type: "text", text: "Which?" }] }], { pruning: himap, maxTokens: 3, scores: true });
  assert.equal(result.usage.imageTokensPerStage, [128, 64, 16]);
  assert.is(result.cuts[0]!.scores!.length, 128);
  assert.is(result.images.length, 2);
});

test("sampled answers depend on the seed, not on what runs beside them", async () => {
  const options = { temperature: 2, topP: 0.95, seed: 11, maxTokens: 8, pruning: himap };
  const alone = await engine.generate(ask, options);
  const crowd = await Promise.all([ask, "hi", ask, ask].map((messages) => engine.generate(messages as Message[], { ...options, pruning: messages === "hi" ? "none" : himap })));
  assert.equal([...crowd[0]!.tokens], [...alone.tokens]);
  assert.equal([...crowd[3]!.tokens], [...alone.tokens]);
  const other = await engine.generate(ask, { ...options, seed: 12 });
  assert.not.equal([...other.tokens], [...alone.tokens]);
});

test("the ends of every range are taken natively too, and disturb no neighbour", async () => {
  const neighbour = { maxTokens: 40, pruning: himap };
  const expected = [...(await engine.generate(ask, neighbour)).tokens];
  // An answer as long as the model's positions takes seconds, and minTokens ends at maxTokens.
  const largest: Record<string, number> = { maxTokens: 40, minTokens: 4 };
  for (const [name, { min, max }] of Object.entries(numberRules)) {
    const ends = [min, largest[name] ?? max].map((value) => engine.generate("hi", { temperature: 1, maxTokens: 4, [name]: value }));
    const [beside, ...results] = await Promise.all([engine.generate(ask, neighbour), ...ends.map(endOf)]);
    assert.equal([...beside!.tokens], expected, name);
    assert.equal(results, name === "timeoutMs" ? [results[0], "done"] : ["done", "done"], name);
  }
  const best = await engine.generate("hi", { temperature: 1, topP: 0, maxTokens: 8 });
  assert.equal([...best.tokens], [...(await engine.generate("hi", { maxTokens: 8 })).tokens], "topP 0 is the best token alone");
});

test("cuts that would leave nothing of a prompt are refused before they disturb a neighbour", async () => {
  const beside = engine.generate(ask, { maxTokens: 40 });
  const { features } = await engine.encodeImage(picture);
  const error = await engine.forward({ ids: [-200], features: [features] }, { pruning: "vtw" }).catch((thrown: unknown) => thrown);
  assert.is((error as HimapError).code, "ERR_INVALID_ARG");
  assert.match((error as HimapError).message, /cuts that leave a row/);
  assert.is((await beside).usage.completionTokens, 40);
});

test("features that are taken away after the call end their own request alone", async () => {
  const { features, ...rest } = await engine.encodeImage(picture);
  const own = { ...rest, features: features.slice() };
  const beside = engine.generate(ask, { maxTokens: 20 });
  const robbed = endOf(engine.generate([{ role: "user", content: [{ type: "image", image: { embedding: own } }, { type: "text", text: "?" }] }], { maxTokens: 20 }));
  structuredClone(own.features, { transfer: [own.features.buffer] });
  assert.equal([await robbed, (await beside).usage.completionTokens], ["ERR_INVALID_ARG", 20]);
});

test("signals that are no good end their own request, typed", async () => {
  const fickle = { aborted: false, addEventListener() {}, removeEventListener() { throw new Error("not here"); } } as never;
  assert.is((await engine.generate("hi", { maxTokens: 2, signal: fickle })).usage.completionTokens, 2);
  assert.ok((await engine.forward("hi", { signal: fickle })).logits);
  const deaf = { ...(fickle as object), addEventListener() { throw new Error("not here"); } } as never;
  assert.equal([await endOf(engine.generate("hi", { signal: deaf })), await endOf(engine.forward("hi", { signal: deaf }))], ["ERR_INVALID_ARG", "ERR_INVALID_ARG"]);
});

test("penalties, bans and minTokens act on the model's logits", async () => {
  const free = await engine.generate(ask, { maxTokens: 6 });
  const banned = await engine.generate(ask, { maxTokens: 6, logitBias: { [free.tokens[0]!]: -Infinity } });
  assert.not.ok(banned.tokens.includes(free.tokens[0]!));
  const wanted = await engine.generate(ask, { maxTokens: 6, logitBias: { 2: 1000 } });
  assert.equal([[...wanted.tokens], wanted.finishReason, wanted.text], [[2], "stop", ""]);
  const late = await engine.generate(ask, { maxTokens: 6, minTokens: 3, logitBias: { 2: 1000 } });
  assert.equal([late.tokens.length, late.tokens[3]], [4, 2]);
  const once = await engine.generate(ask, { maxTokens: 12, presencePenalty: 100 });
  assert.is(new Set(once.tokens).size, 12);
});

test("the 16-bit KV types answer too, and take half the bytes", async () => {
  const full = await engine.generate(ask, { maxTokens: 4 });
  for (const kvType of ["f16", "bf16"] as const) {
    const half = await load(folder, { kvType, weights: "copy", threads: 1 });
    const result = await half.generate(ask, { maxTokens: 4 });
    assert.is(result.kvBytes * 2, full.kvBytes);
    assert.is(half.info.kvType, kvType);
    assert.is(result.tokens[0], full.tokens[0]);
    await half.dispose();
  }
});

test("120 random schedules on the engine: every request ends once, nothing hangs, and it answers as before", async () => {
  const expected = [...(await engine.generate(ask, { maxTokens: 5, pruning: himap })).tokens];
  let state = 3;
  const random = (below: number): number => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
  const codes = new Map<string, number>();
  for (let round = 0; round < 120; round++) {
    const controllers = Array.from({ length: 4 }, () => new AbortController());
    const ends = controllers.map(({ signal }, i) => {
      const messages = i % 2 === 0 ? ask : [{ role: "user", content: "Hello, who are you?" } as Message];
      if (random(6) === 0) return endOf(engine.forward(messages, { signal, scores: true }));
      if (random(6) === 0) return endOf(engine.encodeImage(picture, { signal }));
      const generation = engine.generate(messages, { maxTokens: 1 + random(20), pruning: i % 2 === 0 ? himap : "none", signal });
      if (random(4) > 0) return endOf(generation);
      return (async () => {
        let left = random(5);
        for await (const _ of generation) if (left-- === 0) break;
        return "left";
      })().catch((error: HimapError) => error.code);
    });
    for (const controller of controllers) {
      if (random(2) === 0) await turn(random(4));
      if (random(2) === 0) controller.abort();
    }
    for (const code of await Promise.all(ends)) codes.set(code, (codes.get(code) ?? 0) + 1);
  }
  assert.equal([...codes.keys()].sort(), ["ERR_ABORTED", "done", "left"]);
  const after = await engine.generate(ask, { maxTokens: 5, pruning: himap });
  assert.equal([...after.tokens], expected);
});

test("dispose in mid-run, and loading again: 20 rounds", async () => {
  for (let round = 0; round < 20; round++) {
    const own = await load(folder);
    const ends = [own.generate(ask, { maxTokens: 400 }), own.generate("hi", { maxTokens: 400 }), own.forward(ask), own.encodeImage(picture)].map(endOf);
    await turn(round % 5);
    await own.dispose();
    for (const end of await Promise.all(ends)) assert.ok(end === "ERR_ABORTED" || end === "done", end);
  }
});

test("load gives up when its signal fires", async () => {
  for (let wait = 0; wait < 6; wait++) {
    const controller = new AbortController();
    const loading = load(folder, { signal: controller.signal });
    const end = endOf(loading);
    await turn(wait);
    controller.abort();
    assert.ok(["done", "ERR_ABORTED"].includes(await end));
    if ((await end) === "done") await (await loading).dispose();
  }
});

test("a program ends by itself, with an engine that nobody disposed of, at rest or in mid-run", () => {
  const run = (tail: string) =>
    spawnSync(process.execPath, ["--import", "tsx", "--input-type=module", "-e", `
      const { load } = await import("./lib/index.ts");
      const engine = await load("test/golden/mha/checkpoint");
      ${tail}
    `], { cwd: root, encoding: "utf8", timeout: 30_000 });
  const rest = run('console.log((await engine.generate("hi", { maxTokens: 2 })).tokens.length)');
  assert.equal([rest.status, rest.stdout.trim()], [0, "2"], rest.stderr);
  const exits = run('engine.generate("hi", { maxTokens: 400 }); setTimeout(() => process.exit(7), 20)');
  assert.is(exits.status, 7, exits.stderr);
  const throws = run('engine.generate("hi", { maxTokens: 400 }); setTimeout(() => { throw new Error("own") }, 20)');
  assert.is(throws.status, 1, throws.stderr);
  const using = run('const result = engine.generate("hi", { maxTokens: 400 }); await engine.dispose(); console.log(await result.then(() => "", (error) => error.code))');
  assert.equal([using.status, using.stdout.trim()], [0, "ERR_ABORTED"], using.stderr);
});

test("the fake module of the unit tests plans as the real one", () => {
  const native = loadNative();
  const fake = fakeModule();
  assert.is(native.pageTokens, fake.pageTokens);
  for (const kvType of ["f32", "f16", "bf16"] as const) assert.is(native.pageBytes(2, 64, kvType), fake.pageBytes(2, 64, kvType));
  for (let i = 0; i < 200; i++) {
    const imageTokens = (i * 37) % 600;
    const [first, second] = [i % 5, 6 + (i % 3)];
    const cuts = i % 4 === 0 ? [] : [{ before: first, keep: imageTokens >> 1 }, { before: second, keep: imageTokens >> (i % 4) }];
    const job = { layers: 12, length: imageTokens + 1 + ((i * 13) % 300), imageTokens, newTokens: (i * 7) % 100, cuts };
    assert.equal(native.plan(job), fakePlan(job));
  }
});

test("timings, usage and bytes of a real answer are consistent", async () => {
  const result: Result = await engine.generate(ask, { pruning: himap, maxTokens: 12 });
  for (const [name, ms] of Object.entries(result.timings)) assert.ok(Number.isFinite(ms) && ms >= 0 && ms < 60_000, `${name} ${ms}`);
  assert.ok(result.timings.vision > 0 && result.timings.prefill > 0);
  const plan = engine.plan({ promptTokens: result.usage.promptTokens - 64, maxTokens: 12, pruning: himap });
  assert.is(plan.kvBytes, result.kvBytes);
  assert.equal(plan.stages.map(({ imageTokens }) => imageTokens), result.usage.imageTokensPerStage);
});

test.run();
