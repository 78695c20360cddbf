import { test } from "uvu";
import * as assert from "uvu/assert";

import type { StepSequence, StepToken } from "../../lib/binding/native.js";
import { adoptError } from "../../lib/binding/load.js";
import { HimapError } from "../../lib/errors.cjs";
import { limits } from "../../lib/defaults.js";
import type { StepFacts } from "../../lib/schedule/observer.js";
import type { Lease } from "../../lib/schedule/pages.js";
import { Runner, type RunnerOptions } from "../../lib/schedule/runner.js";
import type { Work, WorkDemand, WorkStep } from "../../lib/schedule/work.js";
import { FakeClock } from "../helpers/clock.js";
import { FakeEngine, type FakeOptions } from "../helpers/fake-native.js";

const turn = (ms?: number): Promise<void> => new Promise((resolve) => (ms ? setTimeout(resolve, ms) : setImmediate(resolve)));
const aborted = (): HimapError => new HimapError("ERR_ABORTED", "aborted");
const disposed = (): HimapError => new HimapError("ERR_DISPOSED", "disposed");

interface TestWorkOptions {
  pages?: number;
  /** Tokens that it produces. */
  steps?: number;
  /** Passes that it lets native code make. */
  burst?: number;
  rows?: number;
  images?: number;
  priority?: number;
  standing?: boolean;
  prepare?: (signal: AbortSignal) => Promise<void>;
  throwIn?: "measure" | "start" | "next" | "take" | "accept" | "finish";
}

let works = 0;

/** A work of some tokens that notes how it ends. */
class TestWork implements Work {
  readonly id = `test-${++works}`;
  readonly kind = "generate";
  readonly samples = 1;
  readonly promptTokens = 1;
  readonly imageTokens = 0;
  readonly keptImageTokens = 0;
  readonly ends: ("done" | HimapError)[] = [];
  readonly ended: Promise<void>;
  started = false;
  readonly produced: number[] = [];
  #lease!: Lease;
  #end!: () => void;
  readonly #options: TestWorkOptions;

  constructor(options: TestWorkOptions = {}) {
    this.#options = options;
    this.ended = new Promise((resolve) => (this.#end = resolve));
  }

  get tokens(): number {
    return this.produced.length;
  }
  get priority(): number {
    return this.#options.priority ?? 0;
  }
  get #steps(): number {
    return this.#options.steps ?? 3;
  }

  get code(): string | undefined {
    const end = this.ends[0];
    return end instanceof HimapError ? end.code : end;
  }

  measure(): WorkDemand {
    if (this.#options.throwIn === "measure") throw new HimapError("ERR_TOO_LARGE", "measure");
    const { pages = 2, rows = 1, images = 0, standing = false } = this.#options;
    return { pages, sequences: 1, rows, images, standing };
  }

  async prepare(signal: AbortSignal): Promise<void> {
    await this.#options.prepare?.(signal);
  }

  start(lease: Lease): void {
    if (this.#options.throwIn === "start") throw new TypeError("start");
    this.started = true;
    this.#lease = lease;
    assert.is(lease.pages.length, this.#options.pages ?? 2);
  }

  next(): WorkStep {
    if (this.#options.throwIn === "next") throw new TypeError("next");
    assert.is(this.ends.length, 0);
    const prefill = this.tokens === 0 || this.#options.standing === true;
    const { rows = 1, burst = 1, images = 0 } = this.#options;
    const sequence: StepSequence = {
      phase: prefill ? "prefill" : "decode",
      ids: prefill ? new Int32Array(rows).fill(1) : Int32Array.of(this.produced.at(-1)!),
      positions: prefill ? new Int32Array(rows) : Int32Array.of(rows + this.tokens - 1),
      spans: new Int32Array(0),
      cuts: [],
      stages: [{ cached: prefill ? 0 : rows + this.tokens - 1, blocks: this.#lease.pages.length, pages: this.#lease.pages }],
      stop: new Int32Array(0),
      burst: Math.min(burst, this.#steps - this.tokens),
      sampling: { temperature: 0, topK: 0, topP: 1, minP: 0, seed: [0, 0], sample: 0 },
    };
    return { images: Array.from({ length: prefill ? images : 0 }, () => ({ features: new Float32Array(1) })), sequences: [sequence] };
  }

  take(sequence: number, { token, candidates }: StepToken): boolean {
    if (this.#options.throwIn === "take") throw new HimapError("ERR_BAD_CHECKPOINT", "take");
    assert.is(sequence, 0);
    assert.is(this.ends.length, 0, "nothing comes after the end");
    this.produced.push(token ?? candidates!.ids[0]!);
    return this.tokens >= this.#steps;
  }

  accept(): boolean {
    if (this.#options.throwIn === "accept") throw new HimapError("ERR_INVALID_ARG", "accept");
    assert.is(this.ends.length, 0, "nothing comes after the end");
    return this.tokens >= this.#steps;
  }

  finish(): void {
    if (this.#options.throwIn === "finish") throw new RangeError("finish");
    this.ends.push("done");
    this.#end();
  }

  onFail?: () => void;
  fail(error: HimapError): void {
    this.ends.push(error);
    this.onFail?.();
    this.#end();
  }
}

interface Bench {
  runner: Runner;
  engine: FakeEngine;
  clock: FakeClock;
  steps: StepFacts[];
  submit(...works: TestWork[]): Promise<void>;
}

/** A runner on a fake engine whose steps may be ended early at once, unless the options say otherwise. */
function create(options: FakeOptions = {}, given: Partial<RunnerOptions> = {}): Bench {
  const engine = new FakeEngine({ logits: 4, ...options });
  const clock = new FakeClock();
  const steps: StepFacts[] = [];
  const ignore = (): void => {};
  const observer = { queued: ignore, started: ignore, firstToken: ignore, ended: ignore, stepped: (step: StepFacts) => void steps.push(step) };
  const runner = new Runner(engine, { pages: 8, maxBatch: 4, maxQueue: 1000, clock, toError: adoptError, observer, ...given });
  const submit = async (...list: TestWork[]): Promise<void> => {
    list.forEach((work) => runner.submit(work));
    await Promise.all(list.map(({ ended }) => ended));
    await turn();
  };
  return { runner, engine, clock, steps, submit };
}

const sizes = ({ log }: FakeEngine): number[] => log.map(({ sequences }) => sequences.length);
const codes = (list: TestWork[]): (string | undefined)[] => list.map(({ code }) => code);

test("works join and leave at every step, and give their pages back", async () => {
  const { runner, engine, submit } = create();
  const list = [5, 1, 3, 2, 4].map((steps) => new TestWork({ steps }));
  await submit(...list);
  assert.ok(list.every(({ code }) => code === "done"));
  // Four at once; the fifth joins when the second has left.
  assert.equal(sizes(engine), [4, 4, 3, 2, 2]);
  assert.equal(engine.log[1]!.sequences.map(({ phase }) => phase), ["decode", "decode", "decode", "prefill"]);
  assert.is(runner.pool.inUse, 0);
});

test("never more than maxBatch sequences, in the order of submission", async () => {
  const { engine, submit } = create({}, { maxBatch: 2 });
  const list = Array.from({ length: 20 }, () => new TestWork());
  const order: number[] = [];
  list.forEach((work, i) => void work.ended.then(() => order.push(i)));
  await submit(...list);
  assert.equal(order, list.map((_, i) => i));
  assert.ok(sizes(engine).every((size) => size <= 2));
});

test("the same tokens alone, in a batch, and in bursts", async () => {
  const tokensOf = async (burst: number, others: number): Promise<number[]> => {
    const { submit } = create();
    const work = new TestWork({ steps: 9, burst });
    await submit(work, ...Array.from({ length: others }, (_, i) => new TestWork({ steps: 2 + i, burst: 1 + i })));
    return work.produced;
  };
  const alone = await tokensOf(1, 0);
  for (const burst of [1, 4, 100]) for (const others of [0, 2, 5]) assert.equal(await tokensOf(burst, others), alone);
});

test("a burst goes on without JavaScript, until a newcomer is ready to join or one is cancelled", async () => {
  const { runner, engine, clock, submit } = create({}, { pages: 64 });
  await submit(new TestWork({ steps: 40, burst: 1000, rows: 3 }));
  assert.equal([engine.steps, engine.yields], [1, 0]);

  const [second, late] = [new TestWork({ steps: 400, burst: 1000, pages: 13 }), new TestWork({ steps: 2, burst: 1000 })];
  runner.submit(second);
  while (second.tokens < 5) await turn();
  runner.submit(late);
  await turn();
  assert.is(engine.yields, 0, "not before the step has run for a moment");
  clock.advance(limits.burstMs);
  while (late.tokens < 2) await turn();
  assert.ok(engine.yields > 0);
  assert.is(late.ends.length, 0, "its burst is over, the step is not");
  clock.advance(limits.burstMs);
  await late.ended;
  assert.ok(second.tokens < 400, String(second.tokens));

  await turn();
  clock.advance(limits.burstMs);
  const [yields, interrupts] = [engine.yields, engine.interrupts];
  const third = new TestWork({ steps: 40, burst: 1000 });
  runner.submit(third);
  while (third.tokens < 3) await turn();
  clock.advance(limits.burstMs);
  runner.cancel(third, aborted());
  assert.ok(engine.yields > yields + 1 && engine.interrupts === interrupts, "others run on");
  while (second.tokens < 100) await turn();
  assert.is(runner.pool.inUse, 13);
  runner.cancel(second, aborted());
  assert.is(engine.interrupts, interrupts + 1, "nobody waits for it any more");
  await turn();
  await turn();
  assert.is(runner.pool.inUse, 0);
});

test("a newcomer for which there is no room ends no step", async () => {
  const { runner, engine, clock } = create({}, { maxBatch: 1 });
  const [long, next] = [new TestWork({ steps: 30, burst: 1000 }), new TestWork({ burst: 1000 })];
  runner.submit(long);
  while (long.tokens < 2) await turn();
  clock.advance(1000);
  runner.submit(next);
  await Promise.all([long.ended, next.ended]);
  assert.equal([engine.steps, codes([long, next])], [2, ["done", "done"]]);
});

test("a step prefills within its budget of rows and of images, the first prompt whatever its length", async () => {
  const { steps, submit } = create({}, { pages: 1000, maxBatch: 64 });
  const half = limits.prefillRows / 2;
  await submit(...[half * 3, half, half, 1, 1].map((rows) => new TestWork({ rows, pages: 100, steps: 1 })));
  assert.equal(steps.map(({ prefillRows }) => prefillRows), [half * 3, half * 2, 2]);
  steps.length = 0;
  await submit(...Array.from({ length: 2 * limits.stepImages }, () => new TestWork({ images: 1, steps: 1 })));
  assert.equal(steps.map(({ images }) => images), [limits.stepImages, limits.stepImages]);
});

test("works that prefill in every step share one budget, and let others in", async () => {
  const { steps, submit } = create({}, { pages: 1000, maxBatch: 64 });
  const rows = Math.ceil(limits.prefillRows / 2) + 1;
  const standing = (): TestWork => new TestWork({ rows, pages: 100, standing: true, steps: 3 });
  const list = [standing(), standing(), new TestWork({ steps: 1 })];
  await submit(...list);
  assert.equal(steps.map(({ prefills }) => prefills), [2, 1, 1, 1, 1, 1]);
  assert.equal(codes(list), ["done", "done", "done"]);
});

test("a higher priority starts first, and waiting makes up for it", async () => {
  const { runner, clock } = create({}, { maxBatch: 1 });
  const order: string[] = [];
  const make = (name: string, priority: number): TestWork => {
    const work = new TestWork({ priority, steps: 1 });
    void work.ended.then(() => order.push(name));
    return work;
  };
  const first = make("first", 0);
  runner.submit(first);
  const old = make("old", 0);
  runner.submit(old);
  clock.advance(2 * limits.ageingMs + 1);
  const list = [make("low", -1), make("plain", 0), make("two", 2), make("three", 3)];
  list.forEach((work) => runner.submit(work));
  await Promise.all([first, old, ...list].map(({ ended }) => ended));
  assert.equal(order, ["three", "first", "old", "two", "plain", "low"]);
});

test("a large work is overtaken for a while only", async () => {
  const { runner } = create({}, { pages: 8, maxBatch: 8 });
  const blocker = new TestWork({ pages: 4, steps: 30 });
  const large = new TestWork({ pages: 8 });
  runner.submit(blocker);
  runner.submit(large);
  let before = 0;
  let stop = false;
  // Small works come without end.
  const flood = (async () => {
    while (!stop) {
      const small = new TestWork({ pages: 2, steps: 2 });
      void small.ended.then(() => (before += large.started ? 0 : 1));
      runner.submit(small);
      await turn();
    }
  })();
  await large.ended;
  stop = true;
  await flood;
  assert.is(large.code, "done");
  assert.ok(before > 0 && before <= limits.overtakes, String(before));
  await runner.close(disposed, disposed);
});

test("the queue has an end", async () => {
  const { runner } = create({}, { maxBatch: 1, maxQueue: 5 });
  const list = Array.from({ length: 9 }, () => new TestWork());
  list.forEach((work) => runner.submit(work));
  assert.equal(codes(list).slice(5), new Array(4).fill("ERR_QUEUE_FULL"));
  assert.ok((list[5]!.ends[0] as HimapError).retryable);
  await Promise.all(list.map(({ ended }) => ended));
  assert.equal(codes(list).slice(0, 5), new Array(5).fill("done"));
  const later = new TestWork();
  runner.submit(later);
  await later.ended;
  assert.is(later.code, "done");
});

test("only a few are prepared ahead, and one that is slow does not hold up those behind it", async () => {
  const { runner } = create();
  let preparing = 0;
  let most = 0;
  let release!: () => void;
  const slow = new TestWork({ prepare: () => new Promise((resolve) => (release = resolve)) });
  runner.submit(slow);
  const list = Array.from({ length: 80 }, () => new TestWork({
    prepare: async () => {
      most = Math.max(most, ++preparing);
      await turn();
      preparing -= 1;
    },
  }));
  list.forEach((work) => runner.submit(work));
  await Promise.all(list.map(({ ended }) => ended));
  assert.ok(most > 1 && most <= limits.preparedAhead, String(most));
  assert.is(slow.ends.length, 0);
  release();
  await slow.ended;
  assert.is(slow.code, "done");
});

test("a preparation that fails ends its work, typed", async () => {
  const { runner } = create();
  const typed = new TestWork({ prepare: () => Promise.reject(new HimapError("ERR_BAD_IMAGE", "bad")) });
  const other = new TestWork({ prepare: () => Promise.reject(new RangeError("bug")) });
  const good = new TestWork();
  for (const work of [typed, other, good]) runner.submit(work);
  await Promise.all([typed.ended, other.ended, good.ended]);
  assert.equal([typed.code, other.code, good.code], ["ERR_BAD_IMAGE", "ERR_INTERNAL", "done"]);
});

test("what a work throws while it runs ends that work alone", async () => {
  const { runner } = create();
  const expected = { measure: "ERR_TOO_LARGE", start: "ERR_INTERNAL", next: "ERR_INTERNAL", take: "ERR_BAD_CHECKPOINT", accept: "ERR_INVALID_ARG", finish: "ERR_INTERNAL" };
  for (const throwIn of ["measure", "start", "next", "take", "accept", "finish"] as const) {
    const [bad, good] = [new TestWork({ throwIn }), new TestWork()];
    runner.submit(bad);
    runner.submit(good);
    await Promise.all([bad.ended, good.ended]);
    assert.is(bad.code, expected[throwIn]);
    assert.is(good.code, "done");
    await turn();
    assert.is(runner.pool.inUse, 0);
  }
});

test("a step that fails ends those that took part with the engine's code, and the next one runs", async () => {
  const { runner } = create({
    before(step) {
      if (step === 1) throw Object.assign(new Error("no memory"), { code: "ERR_OUT_OF_MEMORY" });
    },
  });
  const [bad, short, good] = [new TestWork(), new TestWork({ steps: 1 }), new TestWork()];
  runner.submit(bad);
  runner.submit(short);
  await Promise.all([bad.ended, short.ended]);
  runner.submit(good);
  await good.ended;
  assert.equal(codes([bad, short, good]), ["ERR_OUT_OF_MEMORY", "done", "done"]);
  await turn();
  assert.is(runner.pool.inUse, 0);
});

for (const code of ["ERR_INVALID_ARG", "ERR_OUT_OF_MEMORY"]) {
  test(`a step that fails with ${code} is tried again in parts, so that only the part it fails for ends`, async () => {
    const { runner, engine } = create({
      before(_, { sequences }) {
        if (sequences.some(({ ids }) => ids.length === 7)) throw Object.assign(new Error("refused"), { code });
      },
    });
    const [running, bad, good, left] = [new TestWork({ steps: 6 }), new TestWork({ rows: 7 }), new TestWork({ rows: 2 }), new TestWork()];
    runner.submit(running);
    while (running.tokens < 2) await turn();
    bad.onFail = () => runner.cancel(left, aborted());
    for (const work of [bad, good, left]) runner.submit(work);
    await Promise.all([running, bad, good, left].map(({ ended }) => ended));
    assert.equal(codes([running, bad, good, left]), ["done", code, "done", "ERR_ABORTED"]);
    assert.is(engine.log.filter(({ sequences }) => sequences.some(({ ids }) => ids.length === 7)).length, 2, "with its neighbours, and alone");
    await turn();
    assert.is(runner.pool.inUse, 0);
    assert.is(runner.state.running, 0);
  });
}

test("a step that fails when it has told tokens is not tried again", async () => {
  const { runner, engine, submit } = create({
    after(step) {
      if (step === 0) throw Object.assign(new Error("no memory"), { code: "ERR_OUT_OF_MEMORY" });
    },
  });
  const works = [new TestWork({ burst: 2 }), new TestWork({ burst: 2 })];
  await submit(...works);
  assert.equal(codes(works), ["ERR_OUT_OF_MEMORY", "ERR_OUT_OF_MEMORY"]);
  assert.is(engine.steps, 1);
  await turn();
  assert.is(runner.pool.inUse, 0);
});

test("a work that the pool can never hold ends, and does not block", async () => {
  const { runner } = create();
  const [bad, good] = [new TestWork({ pages: 9 }), new TestWork({ pages: 8 })];
  runner.submit(bad);
  runner.submit(good);
  await Promise.all([bad.ended, good.ended]);
  assert.equal([bad.code, good.code], ["ERR_INTERNAL", "done"]);
});

test("requests without pictures go past pictures that never come, and pictures are counted one by one", async () => {
  const { runner } = create();
  let begun = 0;
  const stalled = Array.from({ length: limits.preparedAhead }, () => new TestWork({
    images: 2,
    prepare: () => {
      begun += 1;
      return new Promise(() => undefined);
    },
  }));
  for (const work of stalled) runner.submit(work);
  const text = new TestWork();
  runner.submit(text);
  await text.ended;
  assert.is(text.code, "done");
  assert.is(begun, limits.preparedAhead / 2);
  for (const work of stalled) runner.cancel(work, aborted());
  const large = new TestWork({ images: limits.preparedAhead + 1 });
  runner.submit(large);
  await large.ended;
  assert.is(large.code, "done");
  assert.equal({ ...runner.state, pages: 0 }, { waiting: 0, preparing: 0, ready: 0, running: 0, sequences: 0, pagesInUse: 0, pages: 0 });
});

test("cancelled at each place: waiting, preparing, ready, running, ended", async () => {
  const { runner, engine } = create({ delay: () => 30 }, { maxBatch: 1 });
  const running = new TestWork();
  runner.submit(running);
  await turn(10);
  assert.ok(running.started);
  const ready = new TestWork();
  let signal: AbortSignal | undefined;
  const preparing = new TestWork({ prepare: (given) => new Promise(() => (signal = given)) });
  const others = Array.from({ length: limits.preparedAhead - 2 }, () => new TestWork({ steps: 1 }));
  const waiting = new TestWork();
  for (const work of [ready, preparing, ...others, waiting]) runner.submit(work);
  await turn();
  for (const work of [waiting, preparing, ready]) {
    runner.cancel(work, aborted());
    assert.is(work.code, "ERR_ABORTED");
    assert.not.ok(work.started);
  }
  assert.ok(signal?.aborted);
  assert.is(engine.interrupts, 0);
  runner.cancel(running, aborted());
  runner.cancel(running, aborted());
  assert.is(engine.interrupts, 1);
  assert.is(running.ends.length, 1);
  await Promise.all(others.map(({ ended }) => ended));
  assert.ok(others.every(({ code }) => code === "done"));
  runner.cancel(others[0]!, aborted());
  assert.is(others[0]!.ends.length, 1);
  await turn();
  assert.is(runner.pool.inUse, 0);
});

test("close ends everything, waits for the step under way, and refuses what comes later", async () => {
  const { runner } = create({ delay: () => 10_000 });
  const list = Array.from({ length: 50 }, () => new TestWork());
  list.forEach((work) => runner.submit(work));
  await turn();
  await turn();
  assert.ok(list[0]!.started);
  await runner.close(disposed, aborted);
  assert.ok(list.every(({ ends, code }) => ends.length === 1 && code === "ERR_ABORTED"));
  assert.is(runner.pool.inUse, 0);
  const late = new TestWork();
  runner.submit(late);
  assert.is(late.code, "ERR_DISPOSED");
  await runner.close(disposed, aborted);
});

test("drain takes no more, and resolves when those accepted have ended", async () => {
  const { runner } = create();
  const list = Array.from({ length: 12 }, () => new TestWork());
  list.forEach((work) => runner.submit(work));
  const drained = runner.drain(disposed);
  const late = new TestWork();
  runner.submit(late);
  assert.is(late.code, "ERR_DISPOSED");
  await drained;
  assert.ok(list.every(({ code }) => code === "done"));
  assert.is(runner.pool.inUse, 0);
  await runner.drain(disposed);
});

test("a work whose own end throws harms no other", async () => {
  const { runner } = create();
  const defect = new TestWork({ throwIn: "next" });
  defect.fail = () => {
    throw new RangeError("fail must not throw");
  };
  const other = new TestWork();
  for (const work of [defect, other]) runner.submit(work);
  await other.ended;
  assert.is(other.code, "done");
});

test("when the accounts are wrong, nothing is left waiting", async () => {
  const { runner } = create({}, { maxBatch: 1 });
  const thief = new TestWork();
  thief.start = ({ pages }) => runner.pool.give(pages);
  const others = [new TestWork(), new TestWork()];
  for (const work of [thief, ...others]) runner.submit(work);
  await Promise.all(others.map(({ ended }) => ended));
  assert.equal(others.map(({ code }) => code), ["ERR_INTERNAL", "ERR_INTERNAL"]);
  const late = new TestWork();
  runner.submit(late);
  assert.is(late.code, "ERR_INTERNAL");
});

test.run();
