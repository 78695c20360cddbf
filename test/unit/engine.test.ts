import { readFileSync } from "node:fs";
import { fileURLToPath, pathToFileURL } from "node:url";

import { test } from "uvu";
import * as assert from "uvu/assert";

import { HimapError, type ErrorCode } from "../../lib/errors.cjs";
import { loadWith } from "../../lib/load.js";
import { checkLoad } from "../../lib/request/load.js";
import type { Delta, Engine, GenerateOptions, ImageInput, LoadOptions, Message, Part, Result } from "../../lib/types.js";
import { FakeEngine, fakeModule, type FakeOptions } from "../helpers/fake-native.js";

const folder = fileURLToPath(new URL("../golden/mha/checkpoint", import.meta.url));
const raw = { pixels: new Uint8Array(12).fill(9), width: 2, height: 2, channels: 3 } as const;
const ask = (text = "What is it?"): Message[] => [{ role: "user", content: [{ type: "image", image: raw }, { type: "text", text }] }];
const cuts: GenerateOptions["pruning"] = { cuts: [{ before: 2, score: { rows: "instruction" }, keep: { ratio: 0.5 } }, { before: 3, score: { rows: "image" }, keep: { ratio: 0.25 } }] };
const turn = (ms = 0): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

async function open(fake: FakeOptions = {}, options: LoadOptions = {}): Promise<{ engine: Engine; native: FakeEngine }> {
  const native = new FakeEngine({ hidden: 128, ...fake });
  return { engine: await loadWith(() => fakeModule(fake, native), checkLoad(folder, options)), native };
}

async function failure(promise: PromiseLike<unknown>, code: ErrorCode): Promise<HimapError> {
  let error: unknown;
  try {
    await promise;
  } catch (thrown) {
    error = thrown;
  }
  assert.instance(error, HimapError);
  assert.is((error as HimapError).code, code, String(error));
  return error as HimapError;
}

/** Pieces and result of one answer. */
async function run(engine: Engine, messages: string | Message[], options: GenerateOptions): Promise<{ deltas: Delta[]; result: Result }> {
  const generation = engine.generate(messages, options);
  const deltas: Delta[] = [];
  for await (const delta of generation) deltas.push(delta);
  return { deltas, result: await generation };
}

test("an answer: pieces add up to the text and the tokens, and the result says what it cost", async () => {
  const { engine, native } = await open();
  const { deltas, result } = await run(engine, ask(), { maxTokens: 20, pruning: cuts, scores: true });
  assert.is(deltas.map(({ text }) => text).join(""), result.text);
  assert.equal(deltas.flatMap(({ tokens }) => tokens), [...result.tokens]);
  assert.is(result.usage.imageTokens, 64);
  assert.equal(result.usage.imageTokensPerStage, [64, 32, 8]);
  assert.is(result.usage.completionTokens, result.tokens.length);
  assert.equal(result.cuts.map(({ before, kept, scores }) => [before, kept.length, scores?.length]), [[2, 32, 64], [3, 8, 32]]);
  assert.ok(result.flops.prefill < result.flops.prefillUnpruned && result.flops.paper < result.flops.paperUnpruned);
  assert.equal(result.images.map(({ width, grid }) => [width, grid]), [[2, [8, 8]]]);
  assert.equal([result.timings.vision, result.timings.prefill], [1, 2]);
  const plan = engine.plan({ promptTokens: result.usage.promptTokens - 64, maxTokens: 20, pruning: cuts });
  assert.is(result.kvBytes, plan.kvBytes);
  assert.equal(plan.stages.map((stage) => [stage.firstLayer, stage.endLayer, stage.imageTokens]), [[0, 2, 64], [2, 3, 32], [3, 5, 8]]);
  assert.ok(plan.fits);
  assert.is(native.log.length, 1, "one step: nothing asks for JavaScript in between");
  const [prefill] = native.log[0]!.sequences;
  assert.equal([...prefill!.spans].slice(1), [64, 0]);
  assert.equal([prefill!.ids.length, prefill!.burst], [result.usage.promptTokens, 20]);
  await engine.dispose();
});

test("the same request gives the same tokens, greedy or with a seed; another seed others", async () => {
  const { engine } = await open();
  const tokens = async (options: GenerateOptions): Promise<number[]> => [...(await engine.generate(ask(), { maxTokens: 12, ...options })).tokens];
  assert.equal(await tokens({}), await tokens({}));
  const warm = { temperature: 3, seed: 5 };
  assert.equal(await tokens(warm), await tokens(warm));
  assert.not.equal(await tokens(warm), await tokens({ ...warm, seed: 6 }));
  await engine.dispose();
});

test("it ends by the model's own token, by given ids, by length, and not before minTokens", async () => {
  const { engine } = await open({ script: (index) => (index >= 2 ? 2 : 300 + index) });
  const { result } = await run(engine, "hi", { maxTokens: 9 });
  assert.equal([[...result.tokens], result.finishReason], [[300, 301, 2], "stop"]);
  const short = await engine.generate("hi", { maxTokens: 2 });
  assert.equal([[...short.tokens], short.finishReason], [[300, 301], "length"]);
  const given = await engine.generate("hi", { stopTokenIds: [301] });
  assert.equal([[...given.tokens], given.finishReason, given.text], [[300, 301], "stop", engine.detokenize([300])]);
  const late = await engine.generate("hi", { minTokens: 5, maxTokens: 9 });
  assert.is(late.tokens.length, 6);
  assert.is(late.tokens.indexOf(2), 5);
  await engine.dispose();
});

test("a stop string ends the text before it, and its tokens are counted", async () => {
  const { engine } = await open();
  const whole = await engine.generate("hi", { maxTokens: 30 });
  const stop = whole.text.slice(6, 9);
  const { deltas, result } = await run(engine, "hi", { maxTokens: 30, stop });
  assert.is(result.finishReason, "stop");
  assert.is(result.text, whole.text.slice(0, whole.text.indexOf(stop)));
  assert.ok(result.tokens.length < whole.tokens.length);
  assert.equal([...result.tokens], [...whole.tokens.slice(0, result.tokens.length)]);
  assert.equal(deltas.flatMap(({ tokens }) => tokens), [...result.tokens]);
  await engine.dispose();
});

test("log-probabilities, penalties and bias reach the candidates", async () => {
  const { engine, native } = await open();
  const { logprobs, tokens } = await engine.generate("hi", { maxTokens: 4, logprobs: 3 });
  assert.equal(logprobs!.map(({ id }) => id), [...tokens]);
  assert.ok(logprobs!.every(({ top, logprob }) => top.length === 3 && logprob <= 0));
  const banned = await engine.generate("hi", { maxTokens: 4, logitBias: { [tokens[0]!]: -Infinity } });
  assert.is.not(banned.tokens[0], tokens[0]);
  native.log.length = 0;
  await engine.generate("hi", { maxTokens: 3, repetitionPenalty: 1.5 });
  const adjusted = native.log.map(({ sequences }) => sequences[0]!.adjust!.tokens.length);
  assert.ok(adjusted[0]! > 0 && adjusted[2]! >= adjusted[0]!);
  const ids = Array.from({ length: 448 }, (_, id) => id);
  const logitBias = Object.fromEntries(ids.map((id) => [id, -Infinity]));
  const forbidden = async (options: GenerateOptions): Promise<string> => (await failure(engine.generate("hi", options), "ERR_INVALID_ARG")).message;
  assert.match(await forbidden({ logitBias }), "allowed token for logitBias but");
  assert.match(await forbidden({ minTokens: 2, stopTokenIds: ids }), "allowed token for stopTokenIds before minTokens but");
  assert.match(await forbidden({ logitBias, minTokens: 2 }), "for stopTokenIds before minTokens and logitBias but");
  await engine.dispose();
});

test("too long a prompt is refused; maxTokens is capped by the positions that are left", async () => {
  const { engine } = await open({ script: () => 300 });
  assert.match((await failure(engine.generate("a b ".repeat(3000)), "ERR_CONTEXT_OVERFLOW")).message, /at most 4095 tokens for the prompt but received \d+$/);
  // Beyond what 4095 tokens of the longest piece could hold, the text is not even encoded.
  const started = performance.now();
  assert.match((await failure(engine.generate("a b ".repeat(240_000)), "ERR_CONTEXT_OVERFLOW")).message, /at least \d+ \(960000 characters\)/);
  assert.match((await failure(engine.forward("a b ".repeat(240_000)), "ERR_CONTEXT_OVERFLOW")).message, "at most 4096 tokens");
  console.log(`NOTE: refused twice in ${(performance.now() - started).toFixed(1)} ms`);
  const count = engine.tokenize("a b ".repeat(1000)).length;
  const words = "a b ".repeat(Math.floor((4096 / count) * 1000 * 0.99));
  const result = await engine.generate(words, { maxTokens: 100_000 });
  assert.is(result.finishReason, "length");
  assert.is(result.usage.promptTokens + result.tokens.length, 4096);
  await failure(engine.forward({ ids: new Array<number>(4097).fill(5) }), "ERR_CONTEXT_OVERFLOW");
  assert.not.ok(engine.plan({ promptTokens: 4000 }).fits);
  await engine.dispose();
});

test("a request larger than the pool is refused, and a smaller one runs", async () => {
  const pageBytes = 2 * 2 * 64 * 32 * 4;
  const { engine } = await open({}, { memory: { kvBytes: 5 * 4 * pageBytes } });
  const error = await failure(engine.generate("hi"), "ERR_TOO_LARGE");
  assert.match(error.hint!, "memory.kvBytes");
  assert.is((await engine.generate("hi", { maxTokens: 60 })).tokens.length > 0, true);
  await engine.dispose();
  await failure(open({}, { memory: { kvBytes: pageBytes } }), "ERR_INVALID_ARG");
  assert.match((await failure(open({}, { memory: { kvBytes: 2 ** 47 } }), "ERR_INVALID_ARG")).message, /load: expected at most \d+ \(1073741824 pages\) for memory\.kvBytes/);
});

test("a broken picture fails its own request only", async () => {
  const { engine } = await open();
  const bad = engine.generate([{ role: "user", content: [{ type: "image", image: Uint8Array.from([0xff, 0xd8, 0xff, 0, 1]) }] }]);
  const good = engine.generate(ask(), { maxTokens: 2 });
  assert.match((await failure(bad, "ERR_BAD_IMAGE")).message, /^generate: messages\[0\]\.content\[0\]\.image: expected an intact image/);
  assert.is((await good).tokens.length, 2);
  await engine.dispose();
});

test("a failure says which picture it was", async () => {
  const { engine } = await open();
  const file = fileURLToPath(new URL("../golden/mha/checkpoint/config.json", import.meta.url));
  const picture = (image: ImageInput): Part => ({ type: "image", image });
  const messages: Message[] = [
    { role: "system", content: "x" },
    { role: "user", content: [{ type: "text", text: "?" }, picture(raw), picture({ path: file })] },
  ];
  const says = "messages[1].content[2].image: config.json: expected a JPEG, PNG or WebP file";
  assert.ok((await failure(engine.generate(messages), "ERR_BAD_IMAGE")).message.startsWith(`generate: ${says}`));
  assert.ok((await failure(engine.forward(messages), "ERR_BAD_IMAGE")).message.startsWith(`forward: ${says}`));
  const missing = await failure(engine.encodeImage(pathToFileURL("/no/such/a b.png")), "ERR_BAD_IMAGE");
  assert.is(missing.message, "encodeImage: image: a b.png: expected a readable file for an image but received ENOENT");
  assert.is((missing.cause as NodeJS.ErrnoException).code, "ENOENT");
  await engine.dispose();
});

test("the mark of a picture in a text is warned of, once in a request", async () => {
  const told: [level: string, message: string][] = [];
  const { engine } = await open({}, { logger: (level, message) => void told.push([level, message]) });
  const pasted = "USER: <image>\nWhat is it? <image> ASSISTANT:";
  const cases: (string | Message[])[] = [pasted, ask(pasted), [{ role: "user", content: pasted }]];
  for (const messages of cases) {
    told.length = 0;
    await engine.generate(messages, { maxTokens: 1 });
    assert.equal(told.map(([level]) => level), ["warn"]);
    assert.match(told[0]![1], /^generate: "<image>" in a text is read as plain text/);
    await engine.forward(messages);
    assert.is(told.length, 2);
  }
  await engine.generate(ask("an image"), { maxTokens: 1 });
  assert.is(told.length, 2);
  await engine.dispose();
});

test("a file, an encoded picture and its embedding", async () => {
  const { engine, native } = await open();
  const file = fileURLToPath(new URL("../golden/mha/short.png", import.meta.url));
  for (const image of [{ path: file }, readFileSync(file), new Blob([readFileSync(file)])]) {
    const result = await engine.generate([{ role: "user", content: [{ type: "image", image }] }], { maxTokens: 1 });
    assert.is(result.usage.imageTokens, 64);
  }
  const embedding = await engine.encodeImage({ path: file });
  assert.equal([embedding.tokens, embedding.features.length, embedding.fingerprint], [64, 64 * 128, engine.info.fingerprint]);
  native.log.length = 0;
  const result = await engine.generate([{ role: "user", content: [{ type: "image", image: { embedding } }] }], { maxTokens: 1 });
  assert.is(native.log[0]!.images[0]!.features, embedding.features);
  assert.equal(result.images[0], embedding.image);
  await engine.dispose();
});

test("abort before, during the picture, while waiting, while running, and after", async () => {
  const { engine, native } = await open({ delay: () => 5 }, { maxBatch: 1 });
  const reason = new Error("enough");
  const before = await failure(engine.generate("hi", { signal: AbortSignal.abort(reason) }), "ERR_ABORTED");
  assert.is(before.cause, reason);
  assert.is(before.partial, undefined);
  assert.is(native.steps, 0);

  const stalled = new ReadableStream<Uint8Array>();
  const reading = engine.generate([{ role: "user", content: [{ type: "image", image: stalled }] }]);
  const running = engine.generate("hi", { maxTokens: 400 });
  const waiting = engine.generate("hi", { maxTokens: 400 });
  await running[Symbol.asyncIterator]().next();
  reading.abort(reason);
  waiting.abort(reason);
  running.abort(reason);
  assert.is((await failure(reading, "ERR_ABORTED")).cause, reason);
  assert.is((await failure(waiting, "ERR_ABORTED")).partial, undefined);
  const partial = (await failure(running, "ERR_ABORTED")).partial as Result;
  assert.ok(partial.tokens.length > 0 && partial.tokens.length < 400);
  assert.is(partial.usage.completionTokens, partial.tokens.length);

  const done = engine.generate("hi", { maxTokens: 1 });
  const result = await done;
  done.abort();
  assert.is(await done, result);
  await engine.dispose();
});

test("one signal ends many requests, and warns of nothing", async () => {
  const warnings: Error[] = [];
  const listener = (warning: Error): void => void warnings.push(warning);
  process.on("warning", listener);
  const { engine } = await open({ delay: () => 2 });
  const controller = new AbortController();
  const requests = Array.from({ length: 50 }, () => engine.generate(ask(), { signal: controller.signal }));
  await turn(10);
  controller.abort();
  for (const request of requests) await failure(request, "ERR_ABORTED");
  await engine.dispose();
  await turn();
  process.off("warning", listener);
  assert.equal(warnings, []);
});

test("a deadline ends a request with what there is", async () => {
  const { engine } = await open({ delay: () => 5, script: () => 300 });
  const error = await failure(engine.generate("hi", { timeoutMs: 60 }), "ERR_TIMEOUT");
  assert.ok(error.retryable);
  assert.ok((error.partial as Result).tokens.length > 0);
  await engine.dispose();
});

test("leaving the loop frees the engine for the next request", async () => {
  const { engine, native } = await open({ delay: () => 1 });
  for await (const delta of engine.generate("hi", { maxTokens: 400 })) {
    assert.ok(delta.text.length > 0);
    break;
  }
  const steps = native.steps;
  await engine.generate("hi", { maxTokens: 3 });
  assert.ok(native.steps <= steps + 4);
  await engine.dispose();
});

test("dispose in mid-run: everything ends as aborted, later calls as disposed, and twice is once", async () => {
  const { engine, native } = await open({ delay: () => 20 });
  const requests = [engine.generate("hi"), engine.generate(ask()), engine.forward("hi"), engine.encodeImage(raw)];
  const ends = requests.map((request) => failure(request, "ERR_ABORTED"));
  await turn(5);
  const first = engine.dispose();
  assert.is(engine.dispose(), first);
  assert.ok(engine.disposed);
  await first;
  await engine[Symbol.asyncDispose]();
  for (const error of await Promise.all(ends)) assert.is((error.cause as HimapError).code, "ERR_DISPOSED");
  assert.ok(native.closed);
  await failure(engine.generate("hi"), "ERR_DISPOSED");
  await failure(engine.forward("hi"), "ERR_DISPOSED");
  await failure(engine.encodeImage(raw), "ERR_DISPOSED");
  for (const call of [() => engine.tokenize("x"), () => engine.detokenize([1]), () => engine.plan()]) {
    assert.throws(call, (error: unknown) => error instanceof HimapError && error.code === "ERR_DISPOSED");
  }
});

test("drain: what was accepted ends well, what comes later is refused", async () => {
  const { engine } = await open();
  const requests = [engine.generate(ask(), { maxTokens: 9 }), engine.generate("hi", { maxTokens: 30, n: 3 })];
  const drained = engine.drain();
  await failure(engine.generate("late"), "ERR_DISPOSED");
  await failure(engine.forward("late"), "ERR_DISPOSED");
  await drained;
  assert.equal((await Promise.all(requests)).map(({ tokens }) => tokens.length), [9, 30]);
  assert.not.ok(engine.disposed);
  await engine.dispose();
});

test("what can never run is refused at once, and what finds the queue full too", async () => {
  const pageBytes = 2 * 2 * 64 * 32 * 4;
  const { engine } = await open({ delay: () => 5 }, { memory: { kvBytes: 5 * 4 * pageBytes }, maxBatch: 1, maxQueue: 2 });
  const waiting = [engine.generate("a", { maxTokens: 9 }), engine.generate("b", { maxTokens: 9 })];
  const full = await failure(engine.generate("c", { maxTokens: 9 }), "ERR_QUEUE_FULL");
  assert.ok(full.retryable);
  await Promise.all(waiting);
  await failure(engine.generate("a", { maxTokens: 400 }), "ERR_TOO_LARGE");
  await failure(engine.generate("a", { maxTokens: 9, n: 2 }), "ERR_INVALID_ARG");
  await engine.dispose();
});

test("generate never throws: what is wrong comes from the generation, with the caller's line", async () => {
  const { engine } = await open();
  const error = await failure(engine.generate("hi", { maxTokens: -1 }), "ERR_INVALID_ARG");
  assert.match(error.stack!, "engine.test.ts");
  const late = await failure(engine.generate("a b ".repeat(3000)), "ERR_CONTEXT_OVERFLOW");
  assert.match(late.stack!, "engine.test.ts");
  await engine.dispose();
});

test("a batch gives its jobs a day where they name nothing else, and its failures the caller's line", async () => {
  const { engine } = await open();
  const { setTimeout: original } = globalThis;
  const delays: unknown[] = [];
  globalThis.setTimeout = ((act: () => void, ms: number) => {
    if (ms >= 1e6) delays.push(ms);
    return original(act, ms);
  }) as typeof setTimeout;
  try {
    await engine.generate("a", { maxTokens: 2 });
    const jobs = [{ maxTokens: 2 }, { maxTokens: 2, timeoutMs: 2e6 }, { maxTokens: -1 }].map((options, key) => ({ key, messages: "a", options }));
    for await (const outcome of engine.batch(jobs, { ordered: true })) {
      assert.is(outcome.ok, outcome.key < 2);
      if (!outcome.ok) assert.match(outcome.error.stack!, "engine.test.ts");
    }
  } finally {
    globalThis.setTimeout = original;
  }
  assert.equal(delays, [3_600_000, 86_400_000, 2e6]);
  await engine.dispose();
});

test("an engine fault ends the request with its code, and the next one runs", async () => {
  const { engine } = await open({
    before(step) {
      if (step === 0) throw Object.assign(new Error("no memory"), { code: "ERR_OUT_OF_MEMORY" });
    },
  });
  const error = await failure(engine.generate("hi", { maxTokens: 5 }), "ERR_OUT_OF_MEMORY");
  assert.ok(error.retryable);
  assert.is((await engine.generate("hi", { maxTokens: 5 })).tokens.length, 5);
  await engine.dispose();
});

test("forward: from messages and from ids", async () => {
  const { engine, native } = await open();
  const result = await engine.forward(ask(), { pruning: cuts, scores: true, images: true });
  assert.equal(result.cuts.map(({ kept }) => kept.length), [32, 8]);
  assert.is(result.ids.filter((id) => id < 0).length, 64);
  assert.equal([result.features?.length, result.vision?.length], [1, 1]);
  assert.equal(native.log[0]!.sequences[0]!.study, { logits: "last", hidden: false, scores: true });
  const plain = await engine.forward({ ids: [1, -200, 5], features: [new Float32Array(64 * 128)] });
  assert.equal([plain.ids.length, plain.features], [66, undefined]);
  await engine.dispose();
});

test("a policy given to load is checked there and used by requests", async () => {
  const error = await failure(open({}, { pruning: "himap" }), "ERR_INVALID_ARG");
  assert.match(error.message, "below 5, the depth of this model");
  const { engine } = await open({}, { pruning: "vtw" });
  assert.equal((await engine.generate(ask(), { maxTokens: 1 })).usage.imageTokensPerStage, [64, 0]);
  assert.equal((await engine.generate(ask(), { maxTokens: 1, pruning: "none" })).usage.imageTokensPerStage, [64]);
  assert.equal((await engine.generate("hi", { maxTokens: 1 })).cuts, []);
  await engine.dispose();
});

test("load: progress, a callback that throws, and aborts", async () => {
  const seen: unknown[] = [];
  const module = fakeModule();
  const slow = { ...module, open: async (...args: Parameters<typeof module.open>) => {
    for (let i = 1; i <= 3; i++) if (args[2]?.(i, 3) === false) throw Object.assign(new Error("given up"), { code: "ERR_ABORTED" });
    await turn(20);
    return module.open(...args);
  } };
  const start = (options: LoadOptions): Promise<Engine> => loadWith(() => slow, checkLoad(folder, options));
  await (await start({ onProgress: (progress) => seen.push(progress) })).dispose();
  assert.equal(seen[2], { phase: "read", loaded: 3, total: 3 });
  const cause = new Error("callback");
  const thrown = await failure(start({ onProgress: () => { throw cause; } }), "ERR_INVALID_ARG");
  assert.is(thrown.cause, cause);
  await failure(start({ signal: AbortSignal.abort() }), "ERR_ABORTED");
  const controller = new AbortController();
  const loading = failure(start({ signal: controller.signal }), "ERR_ABORTED");
  await turn(15);
  controller.abort("late");
  assert.is((await loading).cause, "late");
});

test.run();
