import { suite } from "uvu";
import * as assert from "uvu/assert";

import type { Candidates, NativeEngine, StepImage, StepSampling, StepSequence, StepToken } from "../../lib/binding/native.js";
import { keyOf } from "../../lib/sampling/philox.js";
import { chooseToken } from "../../lib/sampling/sampler.js";
import { bits, decode, openBench, Pages, prefill, type Bench } from "../helpers/steps.js";

const test = suite("step: bursts, and what they tell on the way");
let bench: Bench;
let engine: NativeEngine;
test.before(async () => {
  bench = await openBench("gqa");
  engine = await bench.open();
});
test.after(() => engine.close());

/** Three prompts that sample, each with its own seed. */
const requests = [["short", "himap"], ["long", "three"], ["turns", "none"]] as const;

const samplingOf = (index: number): StepSampling => ({ temperature: 1.2, topK: 50, topP: 0.97, minP: 0, seed: keyOf(77 + index), sample: index });

/** Pages that those of a new `Pages` do not reach. */
function elsewhere(): Pages {
  const pages = new Pages();
  pages.take(1000);
  return pages;
}

/** With pages for `newTokens` tokens behind each. */
function prompts(pages: Pages, newTokens = 16): { sequences: StepSequence[]; images: StepImage[] } {
  return {
    sequences: requests.map(([name, policy], i) => ({
      ...prefill(bench, bench.prompt(name), bench.cuts(policy), pages, i, newTokens),
      sampling: samplingOf(i),
    })),
    images: requests.map(([name]) => ({ features: bench.prompt(name).features! })),
  };
}

const choose = (candidates: Candidates, sampling: StepSampling, position: number): number =>
  candidates.ids[chooseToken(candidates, sampling, position)]!;

/** Tokens and candidates of each prompt alone, a step per token, chosen in TypeScript. */
async function alone(count: number): Promise<{ tokens: number[]; passes: string[] }[]> {
  const { sequences, images } = prompts(new Pages());
  const answers = [];
  for (const [i, sequence] of sequences.entries()) {
    const own = { ...sequence, spans: sequence.spans.map((value, at) => (at % 3 === 2 ? 0 : value)) };
    let [result] = (await engine.step({ images: [images[i]!], sequences: [own] })).sequences;
    const tokens: number[] = [];
    const passes: string[] = [];
    for (let step = 1; ; step++) {
      const candidates = result!.candidates[0]!;
      passes.push(bits([candidates]));
      if (passes.length === count) break;
      tokens.push(choose(candidates, sequence.sampling, sequence.ids.length + step - 1));
      [result] = (await engine.step({ images: [], sequences: [decode(bench, sequence, tokens.at(-1)!, step)] })).sequences;
    }
    answers.push({ tokens, passes });
  }
  return answers;
}

/** What a step told, by sequence. */
class Told {
  readonly sequences: StepToken[][];
  readonly calls: StepToken[][] = [];
  constructor(count: number) {
    this.sequences = Array.from({ length: count }, () => []);
  }
  readonly take = (tokens: StepToken[]): void => {
    this.calls.push(tokens);
    for (const token of tokens) this.sequences[token.sequence]!.push(token);
  };
  tokens(sequence: number): number[] {
    return this.sequences[sequence]!.flatMap(({ token }) => token ?? []);
  }
}

test("prompts and rows in one step, each for its own number of passes, give the tokens of one at a time", async () => {
  const expected = await alone(14);
  const { sequences, images } = prompts(new Pages());
  // The third prompt is already two tokens along; the other two begin.
  const third = { ...sequences[2]!, spans: Int32Array.of(sequences[2]!.spans[0]!, sequences[2]!.spans[1]!, 0) };
  await engine.step({ images: [images[2]!], sequences: [third] });
  await engine.step({ images: [], sequences: [decode(bench, third, expected[2]!.tokens[0]!, 1)] });
  const stop = expected[1]!.tokens[6]!;
  const mixed = [
    { ...decode(bench, third, expected[2]!.tokens[1]!, 2), burst: 12 },
    { ...sequences[0]!, burst: 4 },
    { ...sequences[1]!, burst: 14, stop: Int32Array.of(stop) },
  ];
  const told = new Told(3);
  const output = await engine.step({ images: [images[0]!, images[1]!], sequences: mixed }, told.take);

  const stoppedAt = expected[1]!.tokens.indexOf(stop) + 1;
  const wanted = [
    { tokens: expected[2]!.tokens.slice(2), passes: expected[2]!.passes.slice(2) },
    { tokens: expected[0]!.tokens.slice(0, 3), passes: expected[0]!.passes.slice(0, 4) },
    { tokens: expected[1]!.tokens.slice(0, stoppedAt), passes: expected[1]!.passes.slice(0, stoppedAt) },
  ];
  wanted.forEach(({ tokens, passes }, i) => {
    const result = output.sequences[i]!;
    assert.equal(Array.from(result.tokens), tokens);
    assert.equal(result.candidates.map((one) => bits([one])), passes);
    assert.equal(told.tokens(i), tokens);
    assert.equal(told.sequences[i]!.map(({ candidates }) => bits([candidates!])), passes);
  });
  // A sequence's last token is the caller's to choose, unless it was a stop id.
  assert.equal(told.sequences.map((passes) => passes.at(-1)!.token), [undefined, undefined, stop]);
  assert.ok(told.sequences.every((passes) => passes.slice(0, -1).every(({ token }) => token !== undefined)));
});

test("candidates that nobody wants stay away, the tokens are the same", async () => {
  const expected = await alone(9);
  const { sequences, images } = prompts(new Pages());
  const told = new Told(3);
  const last = sequences.map((sequence) => ({ ...sequence, burst: 9, candidates: "last" as const }));
  const output = await engine.step({ images, sequences: last }, told.take);
  output.sequences.forEach((result, i) => {
    assert.equal(Array.from(result.tokens), expected[i]!.tokens);
    assert.equal(result.candidates.map((one) => bits([one])), [expected[i]!.passes.at(-1)]);
    assert.equal(told.sequences[i]!.map(({ candidates }) => candidates !== undefined), [...Array<boolean>(8).fill(false), true]);
  });
});

test("yield ends the running step at its next token and no other; what follows is the same answer", async () => {
  const longest = 1500;
  const { sequences, images } = prompts(new Pages(), longest);
  engine.yield(); // nothing runs, so nothing comes of it
  const told = new Told(3);
  const first = engine.step({ images, sequences: sequences.map((sequence) => ({ ...sequence, burst: longest })) }, (tokens) => {
    told.take(tokens);
    if (told.calls.length === 1) engine.yield();
  });
  const second = engine.step({ images, sequences: prompts(elsewhere()).sequences.map((sequence) => ({ ...sequence, burst: 12 })) });
  const ended = (await first).sequences;
  const passes = ended[0]!.candidates.length;
  assert.ok(passes < longest, `${passes} passes`);
  assert.ok((await second).sequences.every(({ tokens }) => tokens.length === 11));
  const whole = await engine.step({ images, sequences: prompts(elsewhere(), longest).sequences.map((sequence) => ({ ...sequence, burst: passes + 3 })) });
  const expected = whole.sequences.map(({ candidates }) => candidates.map((one) => bits([one])));
  ended.forEach(({ tokens, candidates }, i) => {
    assert.is(tokens.length, passes - 1);
    assert.equal(told.tokens(i), Array.from(tokens));
    assert.equal(candidates.map((one) => bits([one])), expected[i]!.slice(0, passes));
  });

  // The token that was left is chosen here, and the answer goes on.
  const rows = sequences.map((sequence, i) => {
    const id = choose(ended[i]!.candidates.at(-1)!, sequence.sampling, sequence.ids.length + passes - 1);
    return decode(bench, sequence, id, passes, 3);
  });
  const after = await engine.step({ images: [], sequences: rows });
  after.sequences.forEach(({ candidates }, i) => assert.equal(candidates.map((one) => bits([one])), expected[i]!.slice(passes)));
});

test("while JavaScript is busy the engine goes on: what it made meanwhile comes at once", async () => {
  const { sequences, images } = prompts(new Pages(), 1000);
  const told = new Told(3);
  const burst = (length: number) => ({
    images,
    sequences: sequences.map((sequence) => ({ ...sequence, burst: length, candidates: "last" as const })),
  });
  const spent = ({ user, system }: NodeJS.CpuUsage): number => user + system;
  let before = process.cpuUsage();
  await engine.step(burst(20));
  const enough = spent(process.cpuUsage(before));
  const step = engine.step(burst(1000), told.take);
  // Nothing else of this process works, so what the processors do for it now the engine does: as much as for twenty passes.
  const sleep = new Int32Array(new SharedArrayBuffer(4));
  before = process.cpuUsage();
  while (spent(process.cpuUsage(before)) < enough) Atomics.wait(sleep, 0, 0, 2);
  engine.yield();
  assert.is(told.calls.length, 0);
  await step;
  assert.ok(told.calls[0]!.length > 3 * 5, `${told.calls[0]!.length} tokens in the first call`);
});

test("what onTokens throws ends in the promise, and the engine goes on", async () => {
  const { sequences, images } = prompts(new Pages());
  const input = { images, sequences: sequences.map((sequence) => ({ ...sequence, burst: 12 })) };
  let calls = 0;
  const thrown = new RangeError("on purpose");
  const outcome = await engine.step(input, () => {
    calls += 1;
    throw thrown;
  }).then(() => undefined, (error: Error) => error);
  assert.is(outcome?.cause, thrown);
  assert.is(calls, 1);
  assert.is((await engine.step(input)).sequences[0]!.tokens.length, 11);
});

test("everything told comes before the step settles, also where it ends early", async () => {
  for (const end of ["interrupt", "close"] as const) {
    const own = await bench.open();
    const { sequences, images } = prompts(new Pages());
    const told = new Told(3);
    let settled = false;
    let late = 0;
    const step = own.step({ images, sequences: sequences.map((sequence) => ({ ...sequence, burst: 16 })) }, (tokens) => {
      if (settled) late += 1;
      told.take(tokens);
      void own[end]();
    }).then(() => "done", (error: { code: string }) => error.code).finally(() => (settled = true));
    const outcome = await step;
    assert.ok(["done", "ERR_ABORTED"].includes(outcome), outcome);
    await own.close();
    assert.is(late, 0);
    assert.ok(told.calls.length >= 1);
  }
});

test("a copied page carries a sequence on like the page itself", async () => {
  const expected = await alone(6);
  const pages = new Pages();
  const { sequences, images } = prompts(pages);
  const start = await engine.step({ images, sequences });
  // A second sample of each prompt: whole pages are shared, the one that is written next is its own.
  const copies: number[] = [];
  const samples = sequences.map((sequence, i) => {
    const row = decode(bench, sequence, choose(start.sequences[i]!.candidates[0]!, sequence.sampling, sequence.ids.length), 1, 5);
    const stages = row.stages.map(({ cached, blocks, pages: table }) => {
      const own = table.slice();
      for (let at = 0; at < own.length; at++) {
        if (at % blocks < Math.floor(cached / bench.native.pageTokens)) continue;
        own[at] = pages.take(1)[0]!;
        copies.push(table[at]!, own[at]!);
      }
      return { cached, blocks, pages: own };
    });
    return { ...row, stages };
  });
  const output = await engine.step({ images: [], sequences: samples, copies: Int32Array.from(copies) });
  output.sequences.forEach(({ candidates }, i) => assert.equal(candidates.map((one) => bits([one])), expected[i]!.passes.slice(1)));
  // The first sample's pages are as they were.
  const rows = sequences.map((sequence, i) => decode(bench, sequence, expected[i]!.tokens[0]!, 1, 5));
  const first = await engine.step({ images: [], sequences: rows });
  first.sequences.forEach(({ candidates }, i) => assert.equal(candidates.map((one) => bits([one])), expected[i]!.passes.slice(1)));
});

test("what is malformed is refused before anything runs", async () => {
  const { sequences, images } = prompts(new Pages());
  const good = { images, sequences };
  const bad: [string, () => Promise<unknown>][] = [
    ["onTokens", () => engine.step(good, 5 as never)],
    ["copies of another type", () => engine.step({ ...good, copies: [0, 1] as never })],
    ["half a copy", () => engine.step({ ...good, copies: Int32Array.of(1, 2, 3) })],
    ["a copy from beyond the pool", () => engine.step({ ...good, copies: Int32Array.of(4096, 1) })],
    ["a copy to a negative page", () => engine.step({ ...good, copies: Int32Array.of(1, -1) })],
    ["a page written twice", () => engine.step({ ...good, copies: Int32Array.of(1, 3, 2, 3) })],
    ["a page read and written", () => engine.step({ ...good, copies: Int32Array.of(1, 2, 2, 3) })],
    ["a page onto itself", () => engine.step({ ...good, copies: Int32Array.of(1, 1) })],
    ["unknown candidates", () => engine.step({ images, sequences: sequences.map((one) => ({ ...one, candidates: "none" as "all" })) })],
  ];
  for (const [what, call] of bad) {
    const code = await (async () => call())().then(() => "done", (error: { code: string }) => error.code);
    assert.is(code, "ERR_INVALID_ARG", what);
  }
});

test("a step says how long the engine waited for it", async () => {
  const own = await bench.open();
  const { sequences, images } = prompts(new Pages());
  assert.is((await own.step({ images, sequences })).timings.idle, 0);
  assert.ok((await own.step({ images, sequences })).timings.idle > 0);
  await own.close();
});

test("the memory of a device", () => {
  const memory = bench.native.deviceMemory("cpu")!;
  assert.ok(memory.free > 0 && memory.free <= memory.total && Number.isInteger(memory.free));
  assert.throws(() => bench.native.deviceMemory("abacus" as "cpu"), (error: { code: string }) => error.code === "ERR_INVALID_ARG");
  const card = bench.native.deviceMemory("cuda");
  assert.is(card !== undefined, bench.native.backends().some(({ name, usable }) => name === "cuda" && usable));
});

test.run();
