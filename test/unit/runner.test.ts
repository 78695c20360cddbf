import { test } from "uvu";
import * as assert from "uvu/assert";

import type { StepSequence } from "../../lib/binding/native.js";
import { adoptError } from "../../lib/binding/load.js";
import { HimapError } from "../../lib/errors.cjs";
import { PagePool } from "../../lib/schedule/pages.js";
import { Runner } from "../../lib/schedule/runner.js";
import type { Work, WorkStep } from "../../lib/schedule/work.js";
import { FakeEngine, type FakeOptions } from "../helpers/fake-native.js";

const turn = (ms?: number): Promise<void> => new Promise((resolve) => (ms ? setTimeout(resolve, ms) : setImmediate(resolve)));
const aborted = (): HimapError => new HimapError("ERR_ABORTED", "aborted");
const disposed = (): HimapError => new HimapError("ERR_DISPOSED", "disposed");

interface TestWorkOptions {
  pages?: number;
  steps?: number;
  prepare?: (signal: AbortSignal) => Promise<void>;
  throwIn?: "start" | "next" | "accept";
}

/** A work of some steps that notes how it ends. */
class TestWork implements Work {
  readonly pageCount: number;
  readonly ends: ("done" | HimapError)[] = [];
  readonly ended: Promise<void>;
  started = false;
  taken = 0;
  #pages!: Int32Array;
  #end!: () => void;
  readonly #options: TestWorkOptions;

  constructor(options: TestWorkOptions = {}) {
    this.#options = options;
    this.pageCount = options.pages ?? 2;
    this.ended = new Promise((resolve) => (this.#end = resolve));
  }

  get code(): string | undefined {
    const end = this.ends[0];
    return end instanceof HimapError ? end.code : end;
  }

  async prepare(signal: AbortSignal): Promise<void> {
    await this.#options.prepare?.(signal);
  }

  start(pages: Int32Array): void {
    if (this.#options.throwIn === "start") throw new TypeError("start");
    this.started = true;
    this.#pages = pages;
    assert.is(pages.length, this.pageCount);
  }

  next(): WorkStep {
    if (this.#options.throwIn === "next") throw new TypeError("next");
    assert.is(this.ends.length, 0);
    const prefill = this.taken === 0;
    const sequence: StepSequence = {
      phase: prefill ? "prefill" : "decode",
      ids: Int32Array.of(1),
      positions: Int32Array.of(this.taken),
      spans: prefill ? Int32Array.of(0, 0, 0) : new Int32Array(0),
      cuts: [],
      stages: [{ cached: this.taken, blocks: 1, pages: this.#pages }],
      stop: new Int32Array(0),
      burst: 1,
      sampling: { temperature: 0, topK: 0, topP: 1, minP: 0, seed: [0, 0], sample: 0 },
    };
    return { images: [], sequence };
  }

  accept(): boolean {
    if (this.#options.throwIn === "accept") throw new HimapError("ERR_INVALID_ARG", "accept");
    assert.is(this.ends.length, 0, "nothing comes after the end");
    this.taken += 1;
    if (this.taken < (this.#options.steps ?? 3)) return false;
    this.ends.push("done");
    this.#end();
    return true;
  }

  fail(error: HimapError): void {
    this.ends.push(error);
    this.#end();
  }
}

function create(options: FakeOptions = {}, pages = 8): { runner: Runner; engine: FakeEngine } {
  const engine = new FakeEngine(options);
  return { runner: new Runner(engine, pages, adoptError), engine };
}

test("the page pool hands out each page once and takes back only what it gave", () => {
  const pool = new PagePool(5);
  const first = pool.take(3)!;
  const second = pool.take(2)!;
  assert.equal([...first, ...second].sort(), [0, 1, 2, 3, 4]);
  assert.is(pool.take(1), undefined);
  assert.equal([...pool.take(0)!], []);
  pool.give(first);
  assert.is(pool.inUse, 2);
  assert.throws(() => pool.give(first), /in use to be given back/);
  assert.throws(() => pool.give(Int32Array.of(9)), /in use/);
  assert.is(pool.take(4), undefined);
  assert.equal([...pool.take(3)!].sort(), [...first].sort());
});

test("works run in order, one at a time, and give their pages back", async () => {
  const { runner, engine } = create();
  const works = Array.from({ length: 20 }, () => new TestWork());
  const order: number[] = [];
  works.forEach((work, i) => void work.ended.then(() => order.push(i)));
  works.forEach((work) => runner.submit(work));
  await Promise.all(works.map(({ ended }) => ended));
  assert.ok(works.every(({ code }) => code === "done"));
  assert.equal(order, works.map((_, i) => i));
  assert.is(engine.steps, 60);
  assert.ok(engine.log.every(({ sequences }) => sequences.length === 1));
  await turn();
  assert.is(runner.pool.inUse, 0);
});

test("only a few are prepared ahead, and one that is slow does not hold up those behind it", async () => {
  const { runner } = create();
  let preparing = 0;
  let most = 0;
  let release!: () => void;
  const slow = new TestWork({ prepare: () => new Promise((resolve) => (release = resolve)) });
  runner.submit(slow);
  const works = Array.from({ length: 40 }, () => new TestWork({
    prepare: async () => {
      most = Math.max(most, ++preparing);
      await turn();
      preparing -= 1;
    },
  }));
  works.forEach((work) => runner.submit(work));
  await Promise.all(works.map(({ ended }) => ended));
  assert.ok(most <= 8, String(most));
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
  for (const throwIn of ["start", "next", "accept"] as const) {
    const [bad, good] = [new TestWork({ throwIn }), new TestWork()];
    runner.submit(bad);
    runner.submit(good);
    await Promise.all([bad.ended, good.ended]);
    assert.is(bad.code, throwIn === "accept" ? "ERR_INVALID_ARG" : "ERR_INTERNAL");
    assert.is(good.code, "done");
    await turn();
    assert.is(runner.pool.inUse, 0);
  }
});

test("a step that fails ends its work with the engine's code, and the next one runs", async () => {
  const { runner } = create({
    before(step) {
      if (step === 1) throw Object.assign(new Error("no memory"), { code: "ERR_OUT_OF_MEMORY" });
    },
  });
  const [bad, good] = [new TestWork(), new TestWork()];
  runner.submit(bad);
  runner.submit(good);
  await Promise.all([bad.ended, good.ended]);
  assert.equal([bad.code, good.code], ["ERR_OUT_OF_MEMORY", "done"]);
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

test("cancelled at each place: waiting, preparing, ready, running, ended", async () => {
  const { runner, engine } = create({ delay: () => 30 });
  const running = new TestWork();
  runner.submit(running);
  await turn(10);
  assert.ok(running.started);
  const ready = new TestWork();
  let signal: AbortSignal | undefined;
  const preparing = new TestWork({ prepare: (given) => new Promise(() => (signal = given)) });
  const others = Array.from({ length: 6 }, () => new TestWork());
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
  const works = Array.from({ length: 12 }, () => new TestWork());
  works.forEach((work) => runner.submit(work));
  await turn();
  await runner.close(disposed);
  assert.ok(works.every(({ ends, code }) => ends.length === 1 && code === "ERR_DISPOSED"));
  assert.is(runner.pool.inUse, 0);
  const late = new TestWork();
  runner.submit(late);
  assert.is(late.code, "ERR_DISPOSED");
  await runner.close(disposed);
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
  const { runner } = create();
  const thief = new TestWork();
  thief.start = (pages) => runner.pool.give(pages);
  const others = [new TestWork(), new TestWork()];
  for (const work of [thief, ...others]) runner.submit(work);
  await Promise.all(others.map(({ ended }) => ended));
  assert.equal(others.map(({ code }) => code), ["ERR_INTERNAL", "ERR_INTERNAL"]);
  const late = new TestWork();
  runner.submit(late);
  assert.is(late.code, "ERR_INTERNAL");
});

test("2,000 random schedules of submitting, cancelling and closing: each work ends once, no page is lost", async () => {
  let state = 1;
  const random = (below: number): number => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
  const codes = new Map<string, number>();
  const schedule = async (): Promise<void> => {
    const { runner } = create({
      delay: () => random(3),
      before() {
        if (random(20) === 0) throw Object.assign(new Error("fault"), { code: "ERR_OUT_OF_MEMORY" });
      },
    }, 4 + random(4));
    const works: TestWork[] = [];
    let closing: Promise<void> | undefined;
    for (let action = 0; action < 24; action++) {
      switch (random(8)) {
        case 0: case 1: case 2: case 3: {
          const failing = random(10) === 0;
          const work = new TestWork({
            pages: random(6),
            steps: 1 + random(4),
            prepare: async () => {
              for (let turns = random(3); turns > 0; turns--) await turn();
              if (failing) throw new HimapError("ERR_BAD_IMAGE", "bad");
            },
          });
          works.push(work);
          runner.submit(work);
          break;
        }
        case 4: case 5:
          if (works.length > 0) runner.cancel(works[random(works.length)]!, aborted());
          break;
        case 6:
          if (random(12) === 0) closing ??= runner.close(disposed);
          break;
        default:
          await turn(random(2));
      }
    }
    if (random(2) === 0) closing ??= runner.close(disposed);
    await Promise.all(works.map(({ ended }) => ended));
    await closing;
    await runner.close(disposed);
    assert.is(runner.pool.inUse, 0);
    for (const work of works) {
      assert.is(work.ends.length, 1);
      if (work.code === "ERR_INTERNAL") assert.ok(work.pageCount > runner.pool.size, String(work.ends[0]));
      codes.set(work.code!, (codes.get(work.code!) ?? 0) + 1);
    }
  };
  for (let batch = 0; batch < 20; batch++) await Promise.all(Array.from({ length: 100 }, schedule));
  console.log(`NOTE: 2,000 schedules ended works as ${[...codes].sort().map(([code, count]) => `${code} ${count}`).join(", ")}`);
  for (const code of ["done", "ERR_ABORTED", "ERR_DISPOSED", "ERR_BAD_IMAGE", "ERR_OUT_OF_MEMORY", "ERR_INTERNAL"]) assert.ok(codes.has(code), code);
});

test.run();
