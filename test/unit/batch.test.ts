import { setTimeout as sleep } from "node:timers/promises";

import { test } from "uvu";
import * as assert from "uvu/assert";

import { BatchStream } from "../../lib/batch/stream.js";
import { HimapError } from "../../lib/errors.cjs";
import { checkBatch } from "../../lib/request/batch.js";
import type { Batch, BatchOptions, Job, Outcome } from "../../lib/types.js";
import { FakeGenerator } from "../helpers/fake-engine.js";
import { Random } from "../helpers/random.js";

type Jobs = Iterable<Job<number>> | AsyncIterable<Job<number>>;

const batch = (engine: FakeGenerator, jobs: Jobs, options?: BatchOptions): Batch<number> =>
  new BatchStream(engine, checkBatch<number>(jobs, options, 4));

const job = (key: number, messages = `question ${key}`): Job<number> => ({ key, messages });

async function collect(outcomes: AsyncIterable<Outcome<number>>): Promise<{ outcomes: Outcome<number>[]; error?: HimapError }> {
  const list: Outcome<number>[] = [];
  try {
    for await (const outcome of outcomes) list.push(outcome);
  } catch (error) {
    assert.instance(error, HimapError);
    return { outcomes: list, error: error as HimapError };
  }
  return { outcomes: list };
}

/** As AbortSignal.timeout, which does not keep the process alive. */
function after(ms: number): AbortSignal {
  const controller = new AbortController();
  setTimeout(() => controller.abort(), ms);
  return controller.signal;
}

const codeOf = (outcome: Outcome<number> | undefined): string => (!outcome ? "none" : outcome.ok ? "ok" : outcome.error.code);

/** An input that says what happened to it. */
class Input implements AsyncIterable<Job<number>> {
  taken = 0;
  closed = 0;
  constructor(private readonly jobs: readonly Job<number>[], private readonly failAt = Infinity) {}
  [Symbol.asyncIterator](): AsyncIterator<Job<number>> {
    return {
      next: async () => {
        if (this.taken >= this.failAt) throw new Error("the disk is gone");
        const value = this.jobs[this.taken];
        if (!value) return { done: true, value: undefined };
        this.taken += 1;
        return { done: false, value };
      },
      return: async () => {
        this.closed += 1;
        return { done: true, value: undefined };
      },
    };
  }
}

const questions = (count: number): Job<number>[] => Array.from({ length: count }, (_, key) => job(key));

test("every job has one outcome under its key; a bad one is its own failure", async () => {
  const engine = new FakeGenerator();
  const jobs = [job(0), job(1, "fail ERR_BAD_IMAGE"), job(2, "fail ERR_TIMEOUT"), job(3)];
  const run = batch(engine, jobs);
  const { outcomes, error } = await collect(run);
  assert.is(error, undefined);
  const byKey = new Map(outcomes.map((outcome) => [outcome.key, outcome]));
  assert.equal([0, 1, 2, 3].map((key) => codeOf(byKey.get(key))), ["ok", "ERR_BAD_IMAGE", "ERR_TIMEOUT", "ok"]);
  const first = byKey.get(0)!;
  assert.ok(first.ok && first.value.text === "0 noitseuq");
  const { done, failed, inFlight, unread, promptTokens, completionTokens, imageTokens, keptImageTokens, elapsedMs, requestsPerSecond } = run.stats;
  assert.equal([done, failed, inFlight, unread], [2, 2, 0, 0]);
  assert.equal([promptTokens, completionTokens, imageTokens, keptImageTokens], [300, 6, 288, 36]);
  assert.ok(elapsedMs > 0 && requestsPerSecond > 0);
});

test("as they finish, or ordered", async () => {
  const jobs = [job(0, "wait 60"), job(1, "wait 20"), job(2, "wait 1")];
  const keys = async (ordered: boolean): Promise<number[]> => (await collect(batch(new FakeGenerator(), jobs, { ordered }))).outcomes.map(({ key }) => key);
  assert.equal(await keys(false), [2, 1, 0]);
  assert.equal(await keys(true), [0, 1, 2]);
});

test("no more than maxInFlight are taken and not yet read, and nothing before the first is asked for", async () => {
  for (const ordered of [false, true]) {
    const engine = new FakeGenerator();
    const input = new Input(questions(40));
    const run = batch(engine, input, { maxInFlight: 3, ordered });
    await sleep(5);
    assert.is(input.taken, 0);
    const reader = run[Symbol.asyncIterator]();
    for (let read = 1; read <= 40; read++) {
      assert.not((await reader.next()).done);
      await sleep(2);
      assert.is(input.taken, Math.min(40, read + 3), `after ${read}`);
      assert.is(run.stats.inFlight + run.stats.unread, input.taken - read);
    }
    assert.ok((await reader.next()).done && (await reader.next()).done);
    assert.is(engine.peak, 3);
    assert.is(input.closed, 0, "an input that has ended needs no closing");
  }
});

test("nothing in, nothing out", async () => {
  for (const jobs of [[], new Input([])]) assert.equal((await collect(batch(new FakeGenerator(), jobs))).outcomes, []);
});

test("a full queue is waited out", async () => {
  const engine = new FakeGenerator();
  engine.room = 2;
  const { outcomes, error } = await collect(batch(engine, questions(30), { maxInFlight: 8 }));
  assert.is(error, undefined);
  assert.equal(outcomes.map(codeOf), Array.from({ length: 30 }, () => "ok"));
  assert.equal([engine.started, engine.refused, engine.peak], [30, 0, 2], "each is submitted once");
  assert.equal(engine.texts, questions(30).map(({ messages }) => messages), "first come, first served");
});

test("a queue that others fill is tried again by and by", async () => {
  const engine = new FakeGenerator();
  engine.room = 0;
  setTimeout(() => (engine.room = 1), 40);
  assert.equal((await collect(batch(engine, [job(0)]))).outcomes.map(codeOf), ["ok"]);
});

test("an input that fails: what was taken is answered, then the failure", async () => {
  const input = new Input(questions(9), 5);
  const { outcomes, error } = await collect(batch(new FakeGenerator(), input));
  assert.equal(outcomes.map(({ key }) => key).sort(), [0, 1, 2, 3, 4]);
  assert.is(error!.code, "ERR_INVALID_ARG");
  assert.match(error!.message, "the disk is gone");
  assert.is((error!.cause as Error).message, "the disk is gone");
  assert.is(input.closed, 0);
});

test("an input that cannot even be opened", async () => {
  const jobs = { [Symbol.iterator]: () => { throw new Error("no") } } as Iterable<Job<number>>;
  assert.is((await collect(batch(new FakeGenerator(), jobs))).error!.code, "ERR_INVALID_ARG");
});

test("a job that is none is its own failure", async () => {
  const thrower = { get key(): number { throw new Error("never"); }, messages: "x" };
  const jobs = [null, 7, thrower, { messages: "x" }, job(1)] as unknown as Job<number>[];
  const { outcomes, error } = await collect(batch(new FakeGenerator(), jobs, { ordered: true }));
  assert.is(error, undefined);
  assert.equal(outcomes.map(codeOf), ["ERR_INVALID_ARG", "ERR_INVALID_ARG", "ERR_INVALID_ARG", "ERR_INVALID_ARG", "ok"]);
  assert.equal(outcomes.slice(0, 4).map((outcome) => (outcome.ok ? "" : outcome.error.message)), [
    "batch: expected an object that can be read for jobs[0] but received null",
    "batch: expected an object that can be read for jobs[1] but received 7",
    "batch: expected an object that can be read for jobs[2] but received an object",
    "batch: expected a key for jobs[3].key but received undefined",
  ]);
});

test("bad jobs without end, read without waiting: timers and signals still fire", async () => {
  function* endless(): Generator<Job<number>> {
    for (;;) yield null as unknown as Job<number>;
  }
  let fired = false;
  setTimeout(() => (fired = true), 5);
  const { outcomes, error } = await collect(batch(new FakeGenerator(), endless(), { signal: AbortSignal.timeout(30) }));
  assert.is(error!.code, "ERR_ABORTED");
  assert.ok(fired && outcomes.length > 64);
});

test("leaving while the event loop has its turn closes the input, and what its end throws is told", async () => {
  for (let count = 60; count < 70; count++) {
    function* jobs(): Generator<Job<number>> {
      try {
        for (;;) yield null as unknown as Job<number>;
      } finally {
        throw new Error("could not close");
      }
    }
    const reader = batch(new FakeGenerator(), jobs())[Symbol.asyncIterator]();
    for (let read = 0; read < count; read++) await reader.next();
    // Time for microtasks to end, and no turn.
    for (let i = 0; i < 20; i++) await null;
    assert.match(((await reader.return!().catch((cause: unknown) => cause)) as HimapError).message, "could not close");
  }
});

test("the signal ends what runs, each with its outcome, then the batch", async () => {
  const engine = new FakeGenerator();
  const controller = new AbortController();
  const input = new Input([job(0), job(1, "hang"), job(2, "hang"), job(3, "hang"), job(4)]);
  const reason = new Error("enough");
  const outcomes: string[] = [];
  let error: HimapError | undefined;
  try {
    for await (const outcome of batch(engine, input, { maxInFlight: 3, signal: controller.signal })) {
      outcomes.push(codeOf(outcome));
      if (outcome.key === 0) setTimeout(() => controller.abort(reason), 5);
    }
  } catch (cause) {
    error = cause as HimapError;
  }
  assert.equal(outcomes, ["ok", "ERR_ABORTED", "ERR_ABORTED", "ERR_ABORTED"]);
  assert.is(error!.code, "ERR_ABORTED");
  assert.is(error!.cause, reason);
  assert.equal([engine.running, input.closed, input.taken], [0, 1, 4]);
});

test("a signal that fired before: nothing is taken", async () => {
  const input = new Input(questions(2));
  const { outcomes, error } = await collect(batch(new FakeGenerator(), input, { signal: AbortSignal.abort() }));
  assert.equal([outcomes.length, error!.code, input.taken], [0, "ERR_ABORTED", 0]);
});

test("a signal ends a batch whose input or queue never comes", async () => {
  const never = { [Symbol.asyncIterator]: () => ({ next: () => new Promise<never>(() => {}) }) };
  assert.is((await collect(batch(new FakeGenerator(), never, { signal: after(20) }))).error!.code, "ERR_ABORTED");
  const engine = new FakeGenerator();
  engine.room = 0;
  const { outcomes, error } = await collect(batch(engine, [job(0)], { signal: after(20) }));
  assert.equal([outcomes.map(codeOf), error!.code], [["ERR_ABORTED"], "ERR_ABORTED"]);
});

test("leaving early aborts what runs and closes the input", async () => {
  const engine = new FakeGenerator();
  const input = new Input([job(0), job(1, "hang"), job(2, "hang"), job(3)]);
  const run = batch(engine, input, { maxInFlight: 3 });
  for await (const outcome of run) {
    assert.is(outcome.key, 0);
    break;
  }
  assert.equal([engine.running, input.closed], [0, 1]);
  assert.equal([run.stats.inFlight, run.stats.unread], [0, 0]);
  const stuck = { [Symbol.asyncIterator]: () => {
    let count = 0;
    return { next: () => (count++ === 0 ? Promise.resolve({ done: false as const, value: job(0) }) : new Promise<never>(() => {})), return: () => new Promise<never>(() => {}) };
  } };
  for await (const { key } of batch(engine, stuck)) {
    assert.is(key, 0);
    break;
  }
});

test("a generator as input sees its end; what its end throws is told", async () => {
  let ended = false;
  async function* jobs(): AsyncGenerator<Job<number>> {
    try {
      for (let key = 0; ; key++) yield job(key);
    } finally {
      ended = true;
      throw new Error("could not close");
    }
  }
  const reader = batch(new FakeGenerator(), jobs())[Symbol.asyncIterator]();
  assert.not((await reader.next()).done);
  await sleep(10);
  const error: unknown = await reader.return!().catch((cause: unknown) => cause);
  assert.ok(ended);
  assert.match((error as HimapError).message, "could not close");
});

test("an engine that is gone ends the batch instead of failing every job", async () => {
  const engine = new FakeGenerator();
  const input = new Input([job(0), job(1, "fail ERR_DEVICE_LOST"), ...questions(1000)]);
  const { outcomes, error } = await collect(batch(engine, input));
  assert.is(error!.code, "ERR_DEVICE_LOST");
  assert.ok(outcomes.length < 12 && outcomes.map(codeOf).includes("ERR_DEVICE_LOST"));
  assert.is(input.closed, 1);
});

test("one reader only", async () => {
  const run = batch(new FakeGenerator(), questions(1));
  run[Symbol.asyncIterator]();
  assert.throws(() => run[Symbol.asyncIterator](), /one reader .* second/);
});

test("every fault of the call in one error", () => {
  const fault = (jobs: unknown, options?: unknown): HimapError => {
    try {
      checkBatch(jobs, options, 1);
    } catch (error) {
      return error as HimapError;
    }
    throw new Error("expected a fault");
  };
  const { code, faults } = fault("jobs", { maxInFlight: 0, ordered: 1, signal: {}, orderd: true });
  assert.is(code, "ERR_INVALID_ARG");
  assert.is(faults!.length, 5);
  for (const jobs of [undefined, null, 7, {}, "text"]) assert.match(fault(jobs).message, "an iterable or async iterable for jobs");
});

test("random batches: each job that is taken has exactly one outcome", async () => {
  const random = new Random(7);
  for (let round = 0; round < 300; round++) {
    const engine = new FakeGenerator();
    engine.room = 1 + random.below(6);
    const count = random.below(30);
    const jobs = Array.from({ length: count }, (_, key) => job(key, random.pick(["x", "wait 1", "wait 2", "fail ERR_BAD_IMAGE", "fail ERR_INTERNAL"])));
    const input = new Input(jobs, random.below(4) === 0 ? random.below(30) : Infinity);
    const controller = new AbortController();
    const ends = random.pick(["runs", "runs", "aborts", "leaves"]);
    const at = random.below(20);
    const seen: number[] = [];
    const maxInFlight = 1 + random.below(8);
    const run = batch(engine, input, { maxInFlight, ordered: random.below(2) === 0, signal: controller.signal });
    let error: unknown;
    try {
      for await (const { key } of run) {
        seen.push(key);
        if (seen.length === at && ends === "aborts") controller.abort();
        if (seen.length === at && ends === "leaves") break;
        assert.ok(input.taken - seen.length <= maxInFlight);
      }
    } catch (cause) {
      error = cause;
    }
    assert.is(new Set(seen).size, seen.length);
    assert.is(engine.running, 0);
    const left = ends === "leaves" && seen.length === at && at > 0;
    // One that the input was making when the signal came is not taken any more.
    if (!left) assert.ok(seen.length === input.taken || (ends === "aborts" && seen.length === input.taken - 1), `round ${round}`);
    const failed = input.taken < count && !left;
    if (!error && !left) assert.is(seen.length, count);
    if (failed) assert.instance(error, HimapError);
  }
});

test.run();
