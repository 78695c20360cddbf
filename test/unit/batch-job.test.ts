import { appendFileSync, chmodSync, existsSync, mkdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { stat } from "node:fs/promises";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

import { test } from "uvu";
import * as assert from "uvu/assert";

import { lineItems, type Shard } from "../../lib/batch/items.js";
import { runJob, type JobEnd, type JobProgress } from "../../lib/batch/job.js";
import { Journal } from "../../lib/batch/journal.js";
import { LineFile, readLines } from "../../lib/batch/lines.js";
import type { Header, ItemRecord } from "../../lib/batch/records.js";
import { Results } from "../../lib/batch/results.js";
import { HimapError } from "../../lib/errors.cjs";
import type { Batch, BatchOptions, Generation, Job, Message } from "../../lib/types.js";
import { FakeGenerator } from "../helpers/fake-engine.js";
import { Random } from "../helpers/random.js";
import { withFolder } from "../helpers/tiny-checkpoint.js";

const header: Header = { fingerprint: "f1", settings: { pruning: "himap", maxTokens: 8, prompt: undefined } };
/** The same as a file has it. */
const first = '{"himap":"batch","format":1,"fingerprint":"f1","settings":{"pruning":"himap","maxTokens":8}}\n';

/** The process as it ends all of a sudden: nothing that was under way is heard of again. */
class Crash extends Error {}

/** Crashes a moment after an item has been begun whose text says `crash`. */
class CrashingEngine extends FakeGenerator {
  crash!: (error: Crash) => void;
  readonly #crashed = new Promise<never>((_, reject) => (this.crash = reject));
  /** Crash at the nth request from now. */
  in = Infinity;

  constructor() {
    super();
    this.#crashed.catch(() => {});
  }

  override generate(messages: string | Message[]): Generation {
    const generation = super.generate(messages);
    if (this.texts.at(-1)?.startsWith("crash") || --this.in === 0) setTimeout(() => this.crash(new Crash()), 1);
    return generation;
  }

  override batch<K>(jobs: Iterable<Job<K>> | AsyncIterable<Job<K>>, options?: BatchOptions): Batch<K> {
    const inner = super.batch(jobs, options);
    const reader = inner[Symbol.asyncIterator]();
    // No process is there any more to go on with it.
    this.#crashed.catch(() => reader.return!());
    return {
      get stats() { return inner.stats; },
      [Symbol.asyncIterator]: () => ({ next: () => Promise.race([this.#crashed, reader.next()]) }),
    };
  }
}

interface Options {
  engine?: FakeGenerator;
  shard?: Shard;
  header?: Header;
  retryFailed?: boolean;
  maxCrashes?: number | undefined;
  maxInFlight?: number;
  drain?: AbortSignal;
  signal?: AbortSignal;
  onProgress?: (progress: JobProgress) => void;
}

/** One process's work on a job. */
async function work(input: string, output: string, options: Options = {}): Promise<JobEnd> {
  const never = new AbortController().signal;
  const journal = await Journal.open(output, () => true);
  let how: "forget" | "end" | "crash" = "end";
  try {
    const results = await Results.open(output, options.header ?? header, options.retryFailed ?? false);
    try {
      const end = await runJob({
        engine: options.engine ?? new FakeGenerator(),
        items: () => lineItems(input, { options: {} }),
        shard: options.shard ?? { number: 1, count: 1 },
        results, journal,
        maxCrashes: "maxCrashes" in options ? options.maxCrashes : 2,
        maxInFlight: options.maxInFlight ?? 4,
        drain: options.drain ?? never,
        signal: options.signal ?? never,
        ...(options.onProgress && { onProgress: options.onProgress }),
      });
      if (end.suspects === 0) how = "forget";
      return end;
    } finally {
      await results.close();
    }
  } catch (cause) {
    if (cause instanceof Crash) how = "crash";
    throw cause;
  } finally {
    await journal.close(how);
  }
}

async function crash(work: Promise<unknown>): Promise<void> {
  const error = await work.catch((cause: unknown) => cause);
  if (!(error instanceof Crash)) throw new Error(`expected a crash but received ${String(error)}`);
}

async function refusal(work: Promise<unknown>): Promise<HimapError> {
  const error: unknown = await work.catch((cause: unknown) => cause);
  assert.instance(error, HimapError);
  return error as HimapError;
}

const jobLines = (texts: readonly string[]): string => texts.map((prompt, i) => `${JSON.stringify({ id: `i${i}`, prompt })}\n`).join("");

const recordsOf = (output: string): ItemRecord[] => readFileSync(output, "utf8").trimEnd().split("\n").slice(1).map((line) => JSON.parse(line) as ItemRecord);

const stateOf = (output: string): Record<string, string> =>
  Object.fromEntries(recordsOf(output).map((record) => [record.id, record.ok ? record.text : record.error.code]));

/** A folder with a job of these prompts. */
const withJob = (texts: readonly string[], use: (input: string, output: string) => Promise<void>): Promise<void> =>
  withFolder(async (folder) => {
    const input = path.join(folder, "jobs.jsonl");
    writeFileSync(input, jobLines(texts));
    await use(input, path.join(folder, "results.jsonl"));
  });

test("a job: every item has its record, nothing else is left", () =>
  withJob(["one", "fail ERR_BAD_IMAGE", "three"], async (input, output) => {
    appendFileSync(input, "nonsense\n");
    const progress: JobProgress[] = [];
    const end = await work(input, output, { onProgress: (step) => progress.push(step) });
    assert.equal([end.total, end.ended, end.failed, end.strangers, end.suspects], [4, 4, 2, 0, 0]);
    assert.equal([end.stats.done, end.stats.failed, end.stats.keptImageTokens], [2, 2, 36]);
    const counts = ({ failures }: JobEnd): string[] => failures.map(({ code, count }) => `${count} ${code}`).sort();
    assert.equal(counts(end), ["1 ERR_BAD_IMAGE", "1 ERR_INVALID_ARG"]);
    assert.equal(stateOf(output), { i0: "eno", i1: "ERR_BAD_IMAGE", i2: "eerht", "#4": "ERR_INVALID_ARG" });
    assert.is(readFileSync(output, "utf8").split("\n")[0], '{"himap":"batch","format":1,"fingerprint":"f1","settings":{"pruning":"himap","maxTokens":8}}');
    const [first] = recordsOf(output).filter(({ id }) => id === "i0");
    assert.equal(Object.keys(first!), ["id", "job", "ok", "text", "finishReason", "usage", "kept"]);
    assert.not(existsSync(`${output}.journal`));
    assert.equal(progress.map(({ ended }) => ended).slice(0, 1).concat(progress.at(-1)!.ended), [0, 4]);
    // Once more: there is nothing to do.
    const engine = new FakeGenerator();
    const again = await work(input, output, { engine });
    assert.equal([again.ended, counts(again)], [4, counts(end)]);
    assert.is(engine.started, 0);
  }));

test("an empty input is a job that is done", () =>
  withJob([], async (input, output) => {
    assert.equal((await work(input, output)).total, 0);
    assert.is(readFileSync(output, "utf8").split("\n").length, 2);
  }));

test("--retry-failed forgets failures and nothing else", () =>
  withJob(["one", "fail ERR_TIMEOUT", "three"], async (input, output) => {
    await work(input, output);
    const kept = readFileSync(output, "utf8").split("\n").filter((line) => !line.includes("ERR_TIMEOUT"));
    writeFileSync(input, readFileSync(input, "utf8").replace("fail ERR_TIMEOUT", "two"));
    assert.match((await refusal(work(input, output))).hint!, "--retry-failed");
    const engine = new FakeGenerator();
    const end = await work(input, output, { engine, retryFailed: true });
    assert.equal([engine.texts, end.failed, end.failures, end.ended], [["two"], 0, [], 3]);
    assert.equal(stateOf(output), { i0: "eno", i1: "owt", i2: "eerht" });
    for (const line of kept) assert.ok(readFileSync(output, "utf8").includes(line));
    assert.not(existsSync(`${output}.new`));
  }));

test("what a process left that ended while it wrote the file anew is taken away", () =>
  withJob(["one"], async (input, output) => {
    await work(input, output);
    for (const left of ["", '{"himap":"ba', '{"himap":"batch","format":1,"fing']) {
      writeFileSync(`${output}.new`, left);
      assert.is((await work(input, output)).ended, 1);
      assert.not(existsSync(`${output}.new`), left);
    }
  }));

test("what somebody else keeps beside the output stays", () =>
  withJob(["fail ERR_TIMEOUT"], async (input, output) => {
    writeFileSync(`${output}.new`, "notes");
    await work(input, output);
    assert.match((await refusal(work(input, output, { retryFailed: true }))).message, /\.new" \(EEXIST\)$/);
    assert.is(readFileSync(`${output}.new`, "utf8"), "notes");
    assert.equal(stateOf(output), { i0: "ERR_TIMEOUT" });
    for (const content of ["notes", '{"start":"i0"}\n', "nonsense\n\n7\nnull\n", "\0\0\0"]) {
      writeFileSync(`${output}.journal`, content);
      assert.match((await refusal(work(input, output))).message, /^expected a journal of himap batch, or no file, for the journal beside --output/);
      assert.is(readFileSync(`${output}.journal`, "utf8"), content);
    }
  }));

test("a file keeps its permissions, begun and written anew", () =>
  withJob(["fail ERR_TIMEOUT"], async (input, output) => {
    for (const mode of [0o600, 0o666]) {
      writeFileSync(output, "");
      chmodSync(output, mode);
      await work(input, output);
      await work(input, output, { retryFailed: true });
      assert.is(statSync(output).mode & 0o777, mode);
    }
  }));

test("a header that a crash cut short is written anew", () =>
  withJob(["one"], async (input, output) => {
    for (const length of [1, 10, 40, first.length - 1]) {
      writeFileSync(output, first.slice(0, length));
      assert.is((await work(input, output)).ended, 1);
      assert.is(recordsOf(output).length, 1);
    }
  }));

test("a link as output stays one", () =>
  withJob(["fail ERR_TIMEOUT"], async (input, output) => {
    writeFileSync(`${output}.real`, "");
    symlinkSync(`${output}.real`, output);
    await work(input, output);
    await work(input, output, { retryFailed: true });
    assert.equal(stateOf(`${output}.real`), { i0: "ERR_TIMEOUT" });
    assert.equal(readFileSync(output), readFileSync(`${output}.real`));
  }));

test("a torn last line is cut off and its item run again, wherever it was torn", () =>
  withJob(["one", "two"], async (input, output) => {
    await work(input, output);
    const whole = readFileSync(output);
    const last = whole.lastIndexOf(10, whole.length - 2) + 1;
    for (let end = last; end < whole.length; end += 7) {
      writeFileSync(output, whole.subarray(0, end));
      const engine = new FakeGenerator();
      await work(input, output, { engine });
      assert.is(engine.started, 1);
      assert.equal(readFileSync(output), whole, `cut at ${end}`);
    }
  }));

test("another model, other options, another shard: refused, and every difference named", () =>
  withJob(["one"], async (input, output) => {
    await work(input, output);
    const before = readFileSync(output);
    const other: Header = { fingerprint: "f2", settings: { pruning: "none", maxTokens: 8, prompt: "x" } };
    const { message, faults, hint } = await refusal(work(input, output, { header: other }));
    assert.match(message, /^results\.jsonl was begun otherwise: expected the model with fingerprint "f1" but received "f2"; pruning "himap" but received "none"; prompt not given but received "x"$/);
    assert.is(faults!.length, 3);
    assert.match(hint!, "another --output");
    assert.equal(readFileSync(output), before);
    // The order of names in a policy is no difference.
    const policy = (keep: object): Header => ({ fingerprint: "f1", settings: { pruning: [keep] } });
    const twin = `${output}2`;
    await work(input, twin, { header: policy({ ratio: 1, before: 2 }) });
    await work(input, twin, { header: policy({ before: 2, ratio: 1 }) });
  }));

test("an item that has changed since: refused; items that are gone: said", () =>
  withJob(["one", "two"], async (input, output) => {
    await work(input, output);
    writeFileSync(input, jobLines(["one"]));
    assert.is((await work(input, output)).strangers, 1);
    writeFileSync(input, jobLines(["one", "three"]));
    assert.match((await refusal(work(input, output))).message, /for item "i1" but received "another one"/);
  }));

test("files that are none of ours are not touched", () =>
  withJob(["one"], async (input, output) => {
    const cases: [content: string, expected: RegExp][] = [
      ["my notes", /expected results of himap batch, or no file, for --output but received another file/],
      ["my notes\n", /another file/],
      ['{"himap":"batch"}\n', /another file/],
      ['{"himap":"batch","format":2,"fingerprint":"f1","settings":{}}\n', /another file/],
      [`${first}my notes\n`, /expected an item's record in line 2 but received something else/],
      [`${first}{"id":1,"job":"a","ok":false}\n`, /expected an item's record in line 2 but received something else/],
      [`${first}{"id":1,"job":"a","ok":true}\n{"id":"1","job":"a","ok":true}\n`, /in line 3 but received a second one of item "1"/],
    ];
    for (const [content, expected] of cases) {
      writeFileSync(output, content);
      assert.match((await refusal(work(input, output))).message, expected);
      assert.is(readFileSync(output, "utf8"), content);
      assert.not(existsSync(`${output}.journal`), content);
    }
  }));

test("an output that cannot be had", () =>
  withJob(["one"], async (input, output) => {
    mkdirSync(output);
    for (const file of [output, "/dev/full", path.join(input, "x"), "/no/such/folder/x"]) {
      assert.match((await refusal(Results.open(file, header, false))).message, /^expected a (regular file|file that can be read and written) for --output/, file);
    }
    assert.match((await refusal(Journal.open("/no/such/folder/x", () => true))).message, "the journal beside --output");
  }));

test("two processes on one output: the second is refused", () =>
  withJob(["one"], async (_, output) => {
    const { message, hint } = await refusal(Journal.open(output, () => false));
    assert.match(message, "an --output that no other process writes");
    assert.match(hint!, "another himap batch");
  }));

test("a journal that is taken away while it is waited for is not the lock", () =>
  withJob(["one"], async (_, output) => {
    const first = await Journal.open(output, () => true);
    let calls = 0;
    // The second opens the file, and gets its lock only because the first has taken it away and gone.
    const second = await Journal.open(output, () => {
      if (calls++ === 0) void first.close("forget");
      return true;
    });
    assert.ok(calls >= 1);
    await sleep(5);
    if (calls > 1) assert.ok((await stat(`${output}.journal`)).isFile());
    await second.close("forget").catch(() => undefined);
  }));

test("draining finishes what is in flight and begins nothing; the rest comes next time", () =>
  withJob(Array.from({ length: 30 }, () => "wait 3"), async (input, output) => {
    const drain = new AbortController();
    const engine = new FakeGenerator();
    const end = await work(input, output, { engine, drain: drain.signal, onProgress: ({ ended }) => ended === 5 && drain.abort() });
    assert.ok(end.ended >= 5 && end.ended < 12);
    assert.is(engine.started, end.ended);
    assert.is(recordsOf(output).length, end.ended);
    assert.not(existsSync(`${output}.journal`));
    assert.is((await work(input, output)).ended, 30);
    assert.is(recordsOf(output).length, 30);
  }));

test("an abort records nothing of what was in flight, and leaves no suspects", () =>
  withJob(["one", "hang", "hang", "four"], async (input, output) => {
    const stop = new AbortController();
    const error = await refusal(work(input, output, { signal: stop.signal, onProgress: ({ ended }) => ended === 2 && stop.abort() }));
    assert.is(error.code, "ERR_ABORTED");
    assert.equal(stateOf(output), { i0: "eno", i3: "ruof" });
    const engine = new FakeGenerator();
    writeFileSync(input, readFileSync(input, "utf8").replaceAll("hang", "wait 30"));
    await work(input, output, { engine });
    assert.is(engine.peak, 2, "both at once: neither is suspected");
  }));

test("an engine that is lost ends the run; what was in flight has no record", () =>
  withJob(["one", "fail ERR_DEVICE_LOST", "three"], async (input, output) => {
    assert.is((await refusal(work(input, output, { maxInFlight: 1 }))).code, "ERR_DEVICE_LOST");
    assert.equal(Object.keys(stateOf(output)), ["i0"]);
  }));

test("an item that crashes the process is found, given up, and the others are done", () =>
  withJob(["one", "two", "crash", "four", "five", "six"], async (input, output) => {
    let crashes = 0;
    for (;;) {
      const engine = new CrashingEngine();
      try {
        await work(input, output, { engine });
        break;
      } catch (error) {
        assert.instance(error, Crash);
        crashes += 1;
        assert.ok(crashes < 6);
      }
    }
    // Once among others, and twice alone.
    assert.is(crashes, 3);
    assert.equal(stateOf(output), { i0: "eno", i1: "owt", i2: "ERR_CRASHED", i3: "ruof", i4: "evif", i5: "xis" });
    const { error } = recordsOf(output).find(({ id }) => id === "i2") as { error: { message: string; retryable: boolean } };
    assert.equal(error, { code: "ERR_CRASHED", message: "the process ended 2 times while this item alone was in flight", retryable: false });
    assert.not(existsSync(`${output}.journal`));
    // Tried again it has its chances again.
    for (let i = 0; i < 2; i++) await crash(work(input, output, { engine: new CrashingEngine(), retryFailed: true }));
    await work(input, output, { engine: new CrashingEngine() });
    assert.is(stateOf(output).i2, "ERR_CRASHED");
  }));

test("after a crash the suspects are tried one at a time, and cleared", () =>
  withJob(Array.from({ length: 8 }, () => "wait 20"), async (input, output) => {
    const engine = new CrashingEngine();
    engine.in = 4;
    await crash(work(input, output, { engine, maxInFlight: 4 }));
    assert.is(recordsOf(output).length, 0);
    const next = new FakeGenerator();
    const order: number[] = [];
    const generate = next.generate.bind(next);
    next.generate = (messages, options) => {
      const generation = generate(messages, options);
      order.push(next.running);
      return generation;
    };
    await work(input, output, { engine: next });
    assert.equal(order.slice(0, 4), [1, 1, 1, 1]);
    assert.is(next.peak, 4, "the others run together");
    assert.is(recordsOf(output).length, 8);
  }));

test("crashes with several in flight accuse nobody; off looks into none", () =>
  withJob(Array.from({ length: 4 }, () => "wait 300"), async (input, output) => {
    for (let round = 0; round < 4; round++) {
      const engine = new CrashingEngine();
      engine.in = 4;
      await crash(work(input, output, { engine, maxCrashes: undefined }));
    }
    assert.is((await work(input, output, { maxCrashes: undefined })).failed, 0);
    assert.is(recordsOf(output).length, 4);
  }));

test("a torn or strange journal costs nothing", () =>
  withJob(["one", "two"], async (input, output) => {
    const begun = '{"suspects":{"i0":1,"gone":5}}\n{"start":"i0"}\n';
    for (const text of ['{"susp', `${begun}{"sta`, `${begun}nonsense\n\n7\nnull\n`, `${begun}{"start":"i1"}\n{"end":true}\n`]) {
      writeFileSync(`${output}.journal`, text);
      writeFileSync(output, "");
      assert.is((await work(input, output)).ended, 2, text);
    }
  }));

test("random crashes: nothing is lost, nothing is there twice", async () => {
  const random = new Random(11);
  for (let round = 0; round < 20; round++) {
    const texts = Array.from({ length: 1 + random.below(25) }, () => random.pick(["x", "wait 1", "fail ERR_BAD_IMAGE", "yz"]));
    await withJob(texts, async (input, output) => {
      for (let run = 0; ; run++) {
        const engine = new CrashingEngine();
        engine.in = run > 30 ? Infinity : 1 + random.below(12);
        try {
          await work(input, output, { engine, maxCrashes: undefined, maxInFlight: 1 + random.below(6) });
          break;
        } catch (error) {
          assert.instance(error, Crash);
        }
        const whole = readFileSync(output);
        // What a crash may leave of the line that was being written.
        if (random.below(2) === 0) appendFileSync(output, Buffer.from('{"id":"i0","job":"0123').subarray(0, random.below(22)));
        else if (whole.length > 200 && random.below(4) === 0) writeFileSync(output, whole.subarray(0, whole.length - random.below(40)));
      }
      const ids = recordsOf(output).map(({ id }) => id);
      assert.equal([...ids].sort(), texts.map((_, i) => `i${i}`).sort());
    });
  }
});

test("lines of any length across the bounds of what is read at once", () =>
  withFolder(async (folder) => {
    const random = new Random(3);
    const file = path.join(folder, "lines");
    const lengths = Array.from({ length: 300 }, () => random.pick([0, 1, 50, 5000, (1 << 18) - 1, 1 << 18, 1 << 19]));
    const texts = lengths.map((length, i) => String.fromCharCode(97 + (i % 26)).repeat(length));
    writeFileSync(file, texts.join("\n"));
    const lineFile = await LineFile.open(file, "x");
    let end = 0;
    const last = texts.length - (texts.at(-1) === "" ? 1 : 0);
    let count = 0;
    for await (const line of readLines(lineFile.handle, 300_000)) {
      const text = texts[count++]!;
      end += text.length + (count < texts.length ? 1 : 0);
      assert.equal([line.number, line.end, line.ended], [count, end, count < texts.length]);
      assert.is(line.bytes?.toString(), text.length > 300_000 ? undefined : text);
    }
    assert.is(count, last);
    await lineFile.close();
  }));

test("a write that fails is said, is sticky, and leaves no half line", async () =>
  withFolder(async (folder) => {
    const file = path.join(folder, "lines");
    const lineFile = await LineFile.open(file, "--output");
    await lineFile.append("one\n");
    const { handle } = lineFile;
    const write = handle.write.bind(handle) as (bytes: Buffer, offset: number, length: number) => Promise<{ bytesWritten: number }>;
    let calls = 0;
    Object.assign(handle, {
      write: (bytes: Buffer, offset: number, length: number) => {
        if (calls++ < 2) return write(bytes, offset, Math.min(2, length));
        return Promise.reject(Object.assign(new Error("no space left"), { code: "ENOSPC" }));
      },
    });
    await lineFile.append("tw\n");
    assert.match((await refusal(lineFile.append("three\n"))).message, /for --output but received .*lines" \(ENOSPC\)/);
    assert.is((await refusal(lineFile.append("four\n"))).code, "ERR_INVALID_ARG");
    await lineFile.close();
    assert.is(readFileSync(file, "utf8"), "one\ntw\n");
  }));

test.run();
