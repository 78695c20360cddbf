import { test } from "uvu";
import * as assert from "uvu/assert";

import { limits } from "../../lib/defaults.js";
import type { GenerateOptions, Message, Result } from "../../lib/types.js";
import { createWorld, type World } from "../helpers/schedule-world.js";

const raw = { pixels: new Uint8Array(12), width: 2, height: 2, channels: 3 } as const;
const picture: Message[] = [{ role: "user", content: [{ type: "image", image: raw }, { type: "text", text: "what is it that one can see in this picture of some place where nobody has been for quite a while now" }] }];
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** Moves the clock while something goes on, so that a step may be ended early at any token. */
async function settle<T>({ clock }: World, promise: PromiseLike<T>): Promise<T> {
  let done = false;
  const ended = Promise.resolve(promise).finally(() => (done = true));
  while (!done) {
    clock.advance(1);
    await turn();
  }
  return ended;
}

/** What a request says, without what depends on when it ran. */
function said({ text, tokens, finishReason, samples, cuts, logprobs }: Result): unknown {
  return { text, tokens: [...tokens], finishReason, samples, cuts, logprobs };
}

const requests: GenerateOptions[] = [
  {},
  { temperature: 2, seed: 5 },
  { temperature: 1.5, seed: 6, n: 4, topP: 0.9 },
  { temperature: 3, seed: 9, minTokens: 12, stopTokenIds: [7, 9, 11, 13, 40, 41, 42, 43, 50, 51] },
  { temperature: 1, seed: 2, repetitionPenalty: 1.4, frequencyPenalty: 0.2 },
  { logprobs: 3, temperature: 1, seed: 3 },
  { temperature: 2, seed: 11, n: 3, stop: ["A", "Bq", "zz"], logitBias: { 7: 2, 9: -Infinity } },
  { pruning: { cuts: [{ before: 1, score: { rows: "instruction" }, keep: { count: 5 } }] }, temperature: 1, n: 2 },
  { pruning: { cuts: [{ before: 1, score: { rows: "last" }, keep: { count: 3 } }], cache: "redecide" }, maxTokens: 6 },
];

test("every kind of request says the same alone, in a batch, in any order, and in bursts of one", async () => {
  const ask = (world: World, options: GenerateOptions): PromiseLike<Result> => world.engine.generate(picture, { maxTokens: 40, ...options });
  const alone: unknown[] = [];
  for (const options of requests) {
    const world = createWorld();
    alone.push(said(await ask(world, options)));
    assert.is(world.engine.state.pagesInUse, 0);
  }
  assert.ok(new Set(alone.map((result) => JSON.stringify((result as Result).tokens))).size >= requests.length - 1, "they differ");

  for (const backwards of [false, true]) {
    const world = createWorld({ maxBatch: 16, pages: 400 });
    const order = requests.map((_, i) => (backwards ? requests.length - 1 - i : i));
    const results = await settle(world, Promise.all(order.map((i) => ask(world, requests[i]!))));
    order.forEach((i, at) => assert.equal(said(results[at]!), alone[i], `request ${i}`));
    assert.ok(world.native.log.some(({ sequences }) => sequences.length >= 8));
    assert.is(world.engine.state.pagesInUse, 0);
  }

  // Penalties change with every token: with them the request takes its steps one by one.
  const world = createWorld();
  const single = await ask(world, { ...requests[1], repetitionPenalty: 1 + 1e-12 });
  assert.ok(world.native.log.every(({ sequences }) => sequences[0]!.burst === 1));
  assert.equal([...single.tokens], (alone[1] as { tokens: number[] }).tokens);
});

test("alone, an answer is one step; minTokens and penalties end bursts where the changes to the logits change", async () => {
  const burstsOf = async (options: GenerateOptions): Promise<number[]> => {
    const world = createWorld({ fake: { script: (index) => 5 + (index % 50) } });
    await world.engine.generate("hi", { maxTokens: 30, ...options });
    return world.native.log.map(({ sequences }) => sequences[0]!.burst);
  };
  assert.equal(await burstsOf({}), [30]);
  assert.equal(await burstsOf({ logitBias: { 3: 1 } }), [30]);
  assert.equal(await burstsOf({ minTokens: 12 }), [12, 18]);
  assert.equal(await burstsOf({ presencePenalty: 0.1, maxTokens: 3 }), [1, 1, 1]);
});

test("a stop string ends the step at the next token", async () => {
  const world = createWorld({ fake: { script: (index) => 10 + index } });
  const [letter] = [String.fromCharCode(62 + 14)];
  const result = await settle(world, world.engine.generate("hi", { maxTokens: 400, stop: letter }));
  assert.equal([[...result.tokens], result.finishReason], [[10, 11, 12, 13, 14], "stop"]);
  assert.ok(world.native.yields > 0);
  assert.is(world.native.log.length, 1);
});

test("n samples share the prompt's pages, and each draws its own tokens", async () => {
  const world = createWorld({ maxBatch: 64 });
  const options = { temperature: 5, seed: 3, maxTokens: 20 };
  const deltas: string[] = Array.from({ length: 8 }, () => "");
  const generation = world.engine.generate(picture, { ...options, n: 8 });
  for await (const { sample, text } of generation) deltas[sample] += text;
  const result = await generation;
  assert.is(result.samples!.length, 8);
  assert.equal(result.samples!.map(({ text }) => text), deltas);
  assert.equal([result.text, [...result.tokens]], [result.samples![0]!.text, [...result.samples![0]!.tokens]]);
  assert.ok(new Set(deltas).size > 5);
  assert.is(result.usage.completionTokens, result.samples!.reduce((sum, { tokens }) => sum + tokens.length, 0));
  const one = await world.engine.generate(picture, options);
  assert.equal([one.text, one.samples], [result.text, undefined]);

  const [prefill, fork] = world.native.log;
  assert.equal([prefill!.sequences.length, prefill!.copies, fork!.sequences.length, fork!.images.length], [1, undefined, 8, 0]);
  const rows = prefill!.sequences[0]!.ids.length;
  const [full, blocks] = [Math.floor(rows / 32), prefill!.sequences[0]!.stages[0]!.blocks];
  assert.ok(full >= 1 && rows % 32 > 0);
  assert.is(fork!.copies!.length, 2 * 7 * 2, "one page a layer for each but the first");
  assert.is(new Set(fork!.sequences.flatMap(({ stages }) => [...stages[0]!.pages])).size, 2 * (full + 8 * (blocks - full)));
  const plan = world.engine.plan({ promptTokens: rows - 8, maxTokens: 20, n: 8 });
  assert.equal([result.kvBytes, plan.kvBytes], [2 * (full + 8 * (blocks - full)), result.kvBytes]);
});

test("a sample that ends gives its pages back while the others go on", async () => {
  // One token wins at first for every sample; which of the others follow depends on the draw.
  const world = createWorld({ maxBatch: 64 });
  const generation = world.engine.generate("one two three", { n: 6, temperature: 4, seed: 1, maxTokens: 300, stopTokenIds: Array.from({ length: 3 }, (_, i) => 3 + 5 * i) });
  const seen: number[] = [];
  let done = false;
  void Promise.resolve(generation).finally(() => (done = true));
  while (!done) {
    world.clock.advance(limits.burstMs);
    await turn();
    seen.push(world.engine.state.pagesInUse);
  }
  const { samples } = await generation;
  assert.ok(samples!.every(({ finishReason }) => finishReason === "stop"));
  const used = seen.filter((pages, i) => pages > 0 && pages !== seen[i - 1]);
  assert.ok(used.length >= 3, used.join());
  assert.equal(used, [...used].sort((a, b) => b - a), "they only become fewer");
  assert.is(world.engine.state.pagesInUse, 0);
});

test("aborting one of a batch leaves the others as they were", async () => {
  const reference = said(await createWorld().engine.generate("stay", { maxTokens: 200, temperature: 1 }));
  const world = createWorld();
  const stays = world.engine.generate("stay", { maxTokens: 200, temperature: 1 });
  const leaves = world.engine.generate("leave", { maxTokens: 400, logitBias: { 2: -Infinity }, n: 2 });
  for await (const { sample } of leaves) if (sample === 1) break;
  assert.is(world.ends.get(leaves.id)!.outcome, "ERR_ABORTED");
  assert.equal(said(await settle(world, stays)), reference);
  await turn();
  assert.is(world.engine.state.pagesInUse, 0);
});

test("the observer is told each moment once, with numbers that agree", async () => {
  const world = createWorld({ maxBatch: 2, maxQueue: 3 });
  const list = [world.engine.generate(picture, { maxTokens: 7, logitBias: { 2: -Infinity } }), world.engine.generate("b", { maxTokens: 5, n: 2, logitBias: { 2: -Infinity } })];
  const study = world.engine.forward("c");
  const refused = world.engine.generate("d");
  assert.equal(world.engine.state, { waiting: 0, preparing: 3, ready: 0, running: 0, sequences: 0, pagesInUse: 0, pages: 200 });
  await settle(world, Promise.all([...list, study]));
  assert.is(await Promise.resolve(refused).catch(({ code }) => code), "ERR_QUEUE_FULL");
  assert.equal([...world.ends.values()].map(({ times, outcome }) => `${times} ${outcome}`).sort(), ["1 ERR_QUEUE_FULL", "1 done", "1 done", "1 done"]);
  assert.is(world.queued.size, 3);
  assert.equal([...world.firsts].sort(), list.map(({ id }) => [id, 1]).sort());
  const [first, second] = list.map(({ id }) => world.started.find((work) => work.id === id));
  assert.equal([first!.kind, first!.imageTokens, first!.keptImageTokens, first!.samples, first!.tokens], ["generate", 8, 8, 1, 7]);
  assert.equal([second!.samples, second!.tokens], [2, 10]);
  const sum = (of: (step: World["steps"][number]) => number): number => world.steps.reduce((total, step) => total + of(step), 0);
  assert.is(sum(({ prefills }) => prefills), 3);
  assert.is(sum(({ images }) => images), 1);
  // A sample's first token comes of the one prefill that all share; a study's pass gives no token.
  assert.is(sum(({ passes }) => passes), 7 + (1 + 2 * 4) + 1);
  assert.is(sum(({ prefillRows }) => prefillRows), world.started.reduce((total, { promptTokens }) => total + promptTokens, 0));
});

test("the first token is told of once, whether it comes while a step goes on or at its end", async () => {
  for (const options of requests) {
    const world = createWorld();
    const generation = world.engine.generate(picture, { ...options, maxTokens: 1, minTokens: 0 });
    await generation;
    assert.equal([...world.firsts], [[generation.id, 1]]);
  }
});

test.run();
