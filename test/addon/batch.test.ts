/** `himap batch` from the shell, on the shipped model. */

import { spawn, spawnSync, type ChildProcess } from "node:child_process";
import { appendFileSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";

import { test } from "uvu";
import * as assert from "uvu/assert";

import type { ItemRecord } from "../../lib/batch/records.js";
import { load } from "../../lib/index.js";
import type { Job, Outcome } from "../../lib/types.js";

const root = fileURLToPath(new URL("../..", import.meta.url));
const model = `${root}models/pico-llava`;
const pictures = `${root}examples/images`;
const compiled = `${root}dist/lib/cli/main.js`;
const program = existsSync(compiled) ? [compiled] : ["--import", fileURLToPath(import.meta.resolve("tsx")), `${root}lib/cli/main.ts`];

/** The one that was started last. */
let lastChild: ChildProcess | undefined;

interface End {
  code: number | null;
  signal: NodeJS.Signals | null;
  out: string;
  err: string;
}

/** Runs the program behind `before` (a shell's limits), killed after two minutes. */
function himap(args: string[], cwd: string, { before, onError }: { before?: string; onError?: (child: ChildProcess, err: string) => void } = {}): Promise<End> {
  return new Promise((resolve) => {
    const command = [process.execPath, ...program, ...args];
    const [file, ...rest] = before === undefined ? command : ["bash", "-c", `${before}; exec "$@"`, "bash", ...command];
    const child = spawn(file!, rest, { cwd, stdio: ["ignore", "pipe", "pipe"], timeout: 120_000, env: { ...process.env, NO_COLOR: "1" } });
    lastChild = child;
    const end = { out: "", err: "" };
    child.stdout.setEncoding("utf8").on("data", (text: string) => (end.out += text));
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      end.err += text;
      onError?.(child, end.err);
    });
    child.on("close", (code, signal) => resolve({ code, signal, ...end }));
  });
}

const recordsOf = (file: string): ItemRecord[] => readFileSync(file, "utf8").trimEnd().split("\n").slice(1).map((line) => JSON.parse(line) as ItemRecord);

/** Runs in a folder of its own, with a job file of these lines. */
async function inFolder(lines: readonly unknown[], use: (folder: string) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(path.join(os.tmpdir(), "himap-batch-"));
  try {
    writeFileSync(path.join(folder, "jobs.jsonl"), lines.map((line) => `${typeof line === "string" ? line : JSON.stringify(line)}\n`).join(""));
    await use(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

const job = ["--input", "jobs.jsonl", "--output", "results.jsonl"];
const scene = `${pictures}/scene-1.png`;

test("answers as `generate` gives them, failures of items beside them, and the figures of the run", () =>
  inFolder(
    [
      { id: "square", prompt: "What colour is the square?", image: scene },
      { id: "pruned", prompt: "What colour is the square?", image: scene, options: { pruning: "himap", maxTokens: 5 } },
      { id: 3, prompt: "Hello" },
      { id: "missing", prompt: "What?", image: "missing.png" },
      "no JSON",
      { id: "odd", prompt: "What?", options: { topP: 7 } },
    ],
    async (folder) => {
      const { code, out, err } = await himap(["batch", model, ...job, "--max-tokens", "20"], folder);
      assert.is(code, 1, err);
      assert.match(out, /^results\.jsonl: 6 of 6 items, 3 failed \(--retry-failed runs them again\)\n(?:  . ERR_.*\n){2}this run: 6 items in .* 162 of 288 image tokens kept \(56 %\)\n$/);
      assert.match(out, /\n  2 ERR_INVALID_ARG, the first: .*\n/);
      assert.match(out, /\n  1 ERR_BAD_IMAGE: generate: messages\[0\]\.content\[0\]\.image: missing\.png: .*ENOENT\n/);
      const records = new Map(recordsOf(`${folder}/results.jsonl`).map((record) => [record.id, record]));
      const codes = [...records].filter(([, record]) => !record.ok).map(([id, record]) => [id, record.ok || record.error.code]);
      assert.equal(codes.sort(), [["#5", "ERR_INVALID_ARG"], ["missing", "ERR_BAD_IMAGE"], ["odd", "ERR_INVALID_ARG"]]);
      const engine = await load(model);
      const message = { role: "user" as const, content: [{ type: "image" as const, image: { path: scene } }, { type: "text" as const, text: "What colour is the square?" }] };
      for (const [id, pruning] of [["square", "none"], ["pruned", "himap"]] as const) {
        const { text, usage } = await engine.generate([message], { maxTokens: 20, pruning });
        const record = records.get(id)!;
        assert.ok(record.ok);
        if (record.ok) assert.equal([record.text, record.usage, record.kept], [text, usage, usage.imageTokensPerStage.at(-1)]);
      }
      await engine.dispose();
      assert.equal(readdirSync(folder).sort(), ["jobs.jsonl", "results.jsonl"]);

      const again = await himap(["batch", model, ...job, "--max-tokens", "20", "--json"], folder);
      const { total, ended, stats, failures } = JSON.parse(again.out) as { total: number; ended: number; stats: { done: number }; failures: { code: string; count: number }[] };
      assert.equal([again.code, total, ended, stats.done], [1, 6, 6, 0]);
      assert.equal(failures.map(({ code, count }) => [code, count]).sort(), [["ERR_BAD_IMAGE", 1], ["ERR_INVALID_ARG", 2]]);
      const other = await himap(["batch", model, ...job, "--max-tokens", "21"], folder);
      assert.is(other.code, 1);
      assert.match(other.err, /^himap: ERR_INVALID_ARG results\.jsonl was begun otherwise: expected maxTokens 20 but received 21\nhimap: go on with/);
    },
  ));

test("pictures of a folder in shards: each is asked once", () =>
  inFolder([], async (folder) => {
    const args = (shard: string): string[] => ["batch", model, "--images", pictures, "--prompt", "How many objects are there?", "--output", `${shard[0]}.jsonl`, "--shard", shard];
    const ends = await Promise.all(["1/3", "2/3", "3/3"].map((shard) => himap(args(shard), folder)));
    assert.equal(ends.map(({ code }) => code), [0, 0, 0], ends.map(({ err }) => err).join());
    const ids = ["1", "2", "3"].map((shard) => recordsOf(`${folder}/${shard}.jsonl`).map(({ id }) => id).sort());
    assert.equal(ids, [["scene-1.png", "scene-4.png"], ["scene-2.png"], ["scene-3.png"]]);
    const { code, err } = await himap([...args("1/3").slice(0, -1), "2/3"], folder);
    assert.is(code, 1);
    assert.match(err, /expected shard "1\/3" but received "2\/3"/);
  }));

test("shards of a job file: empty lines do not count, and an edited file is refused where items could change their shard", () =>
  inFolder([{ id: 0, prompt: "Hi" }, "", "", { id: 1, prompt: "Hi" }, { id: 2, prompt: "Hi" }], async (folder) => {
    const run = (output: string, ...args: string[]): Promise<End> =>
      himap(["batch", model, "--input", "jobs.jsonl", "--output", output, "--max-tokens", "2", ...args], folder);
    const ids = (output: string): unknown[] => recordsOf(path.join(folder, output)).map(({ id }) => id).sort();
    const ends = await Promise.all([run("1.jsonl", "--shard", "1/2"), run("2.jsonl", "--shard", "2/2"), run("all.jsonl")]);
    assert.equal(ends.map(({ code }) => code), [0, 0, 0], ends.map(({ err }) => err).join());
    assert.equal([ids("1.jsonl"), ids("2.jsonl"), ids("all.jsonl")], [[0, 2], [1], [0, 1, 2]]);
    appendFileSync(path.join(folder, "jobs.jsonl"), '{"id":3,"prompt":"Hi"}\n');
    const [shard, all] = await Promise.all([run("1.jsonl", "--shard", "1/2"), run("all.jsonl")]);
    assert.is(shard.code, 1);
    assert.match(shard.err, /1\.jsonl was begun otherwise: expected input "[0-9a-f]{12}" but received "[0-9a-f]{12}"/);
    assert.equal([all.code, ids("all.jsonl")], [0, [0, 1, 2, 3]], all.err);
  }));

test("what keeps a run from beginning: one line, exit code 1, and no file", () =>
  inFolder([{ prompt: "x" }], async (folder) => {
    writeFileSync(`${folder}/empty`, "");
    const cases: [args: string[], expected: RegExp][] = [
      [["--input", "none.jsonl", "--output", "r"], /a file of jobs for --input but received "none\.jsonl" \(ENOENT\)/],
      [["--input", folder, "--output", "r"], /a pipe or directory will not do/],
      [["--images", "*.png", "--prompt", "x", "--output", "r"], /a pattern that files match for --images/],
      [["--input", "jobs.jsonl", "--output", folder], /a file that can be written for --output .*EISDIR/],
      [["--input", "jobs.jsonl", "--output", "/no/such/folder/r"], /a file that can be written for --output .*ENOENT/],
      [["--input", "jobs.jsonl", "--output", "jobs.jsonl"], /jobs\.jsonl: expected results of himap batch, or no file, for --output but received another file/],
    ];
    for (const [args, expected] of cases) {
      const { code, out, err } = await himap(["batch", model, ...args], folder);
      assert.is(code, 1, args.join(" "));
      assert.match(err, expected);
      assert.is(out, "");
      assert.not(readdirSync(folder).some((name) => name.endsWith(".journal") || name.endsWith(".new")), args.join(" "));
    }
    assert.is(readFileSync(`${folder}/jobs.jsonl`, "utf8"), '{"prompt":"x"}\n');
    const none = await himap(["batch", model, "--input", "empty", "--output", "r2"], folder);
    assert.equal([none.code, none.out.split("\n")[0]], [0, "r2: 0 of 0 items"]);
  }));

test("a command line that is not as its help says: exit code 2, nothing is run and nothing written", () =>
  inFolder([{ prompt: "x" }], async (folder) => {
    const cases: [args: string[], expected: RegExp][] = [
      [["--input", "a"], /expected a file for --output/],
      [["--output", "r"], /either --input or --images/],
      [["--input", "a", "--images", "b", "--prompt", "x", "--output", "r"], /either --input or --images/],
      [["--images", "b", "--output", "r"], /--prompt with --images/],
      [["--input", "a", "--prompt", "x", "--output", "r"], /--prompt with --images, and only there/],
      [["--input", "a", "--output", "r", "--shard", "3/2"], /I\/N with I from 1 to N for --shard but received "3\/2"/],
      [["--input", "a", "--output", "r", "--shard", "0/2"], /for --shard/],
      [["--input", "a", "--output", "r", "--max-crashes", "0"], /at least 1, or off, for --max-crashes but received "0"/],
      [["--input", "a", "--output", "r", "--pruning", "[x"], /JSON for --pruning/],
      [["--input", "jobs.jsonl", "--output", "r", "--n", "2", "--cache", "redecide"], /expected 1, as cache: "redecide" decides for one answer, for --n but received 2/],
      [["--input", "jobs.jsonl", "--output", "r", "--kv-bytes", "1"], /at least \d+ .* for --kv-bytes but received 1/],
      [["--input", "jobs.jsonl", "--output", "r", "--embedding-bytes", "-1", "--max-batch", "0"], / for --embedding-bytes .*\n.* for --max-batch/],
      [["--input", "jobs.jsonl", "--output", "r", "--top-p", "7"], /number from 0 to 1 for --top-p but received 7/],
      [["--input", "jobs.jsonl", "--output", "r", "--pruning", "hi"], /"himap".*for --pruning but received "hi"/],
      [["--input", "jobs.jsonl", "--output", "r", "--max-in-flight", "0"], /for --max-in-flight but received 0/],
    ];
    for (const [args, expected] of cases) {
      const { code, err } = await himap(["batch", model, ...args], folder);
      assert.is(code, 2, args.join(" "));
      assert.match(err, expected);
      assert.equal(readdirSync(folder), ["jobs.jsonl"]);
    }
  }));

/** Long enough to be met in the middle: every answer has as many tokens as it may. */
const slow = Array.from({ length: 40 }, (_, id) => ({ id, prompt: "Describe the image.", image: scene, options: { minTokens: 400, maxTokens: 400 } }));

/** Calls back once the results have more records than before. */
function onRecord(file: string, before: number, act: () => void): () => void {
  const timer = setInterval(() => {
    if (!existsSync(file) || readFileSync(file, "utf8").split("\n").length < before + 3) return;
    clearInterval(timer);
    act();
  }, 5);
  return () => clearInterval(timer);
}

test("the first Ctrl-C finishes what is in flight, exit code 130; the same command goes on", () =>
  inFolder(slow, async (folder) => {
    const file = `${folder}/results.jsonl`;
    const args = ["batch", model, ...job, "--max-in-flight", "3"];
    for (const [signal, expected] of [["SIGINT", 130], ["SIGTERM", 143]] as const) {
      const before = existsSync(file) ? recordsOf(file).length : 0;
      const running = himap(args, folder);
      const stop = onRecord(file, before, () => lastChild!.kill(signal));
      const { code, err, out } = await running;
      stop();
      assert.is(code, expected, err);
      assert.match(err, /finishing what is in flight/);
      assert.match(out, /^results\.jsonl: \d+ of 40 items\n/);
      const count = recordsOf(file).length;
      assert.ok(count > before && count < 40, `${before}, then ${count}`);
      assert.equal(readdirSync(folder).sort(), ["jobs.jsonl", "results.jsonl"]);
    }
  }));

test("the second Ctrl-C stops at once, and what was in flight is no suspect", () =>
  inFolder(slow.map((line) => ({ ...line, options: { minTokens: 3000, maxTokens: 3000 } })), async (folder) => {
    let sent = 0;
    const started = himap(["batch", model, ...job], folder, {
      onError: (child, err) => {
        if (sent === 1 && err.includes("finishing")) child.kill("SIGINT");
        if (err.includes("finishing")) sent = 2;
      },
    });
    const child = lastChild!;
    while (!existsSync(`${folder}/results.jsonl.journal`) || !readFileSync(`${folder}/results.jsonl.journal`, "utf8").includes("start")) {
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    sent = 1;
    child.kill("SIGINT");
    const { code, err } = await started;
    assert.is(code, 130, err);
    assert.match(readFileSync(`${folder}/results.jsonl.journal`, "utf8"), /\{"end":true\}\n$/);
    assert.is(readFileSync(`${folder}/results.jsonl`, "utf8").split("\n").length, 2, "the header, and no record");
  }));

test("two processes on one output: the second is refused, the first goes on", () =>
  inFolder(slow.slice(0, 8), async (folder) => {
    const first = himap(["batch", model, ...job], folder);
    while (!existsSync(`${folder}/results.jsonl`)) await new Promise((resolve) => setTimeout(resolve, 10));
    const second = await himap(["batch", model, ...job], folder);
    assert.is(second.code, 1);
    assert.match(second.err, /^himap: ERR_INVALID_ARG expected an --output that no other process writes but received "results\.jsonl"\nhimap: another himap batch/);
    const { code, err } = await first;
    assert.is(code, 0, err);
    assert.is(recordsOf(`${folder}/results.jsonl`).length, 8);
  }));

test("a disk that is full ends the run; what was written stands, and the rest comes when there is room", () =>
  inFolder(Array.from({ length: 60 }, (_, id) => ({ id, prompt: "What colour is the square?", image: scene })), async (folder) => {
    const args = ["batch", model, ...job, "--max-tokens", "4", "--max-crashes", "off"];
    // The limit is counted in kilobytes, and a write beyond it fails as one on a full disk does.
    const full = await himap(args, folder, { before: "ulimit -f 4" });
    assert.is(full.code, 1);
    assert.match(full.err, /himap: ERR_INVALID_ARG expected a file that can be read and written for --output but received "results\.jsonl" \(EFBIG\)\n/);
    const count = recordsOf(`${folder}/results.jsonl`).length;
    assert.ok(count > 2 && count < 60, String(count));
    assert.ok(readFileSync(`${folder}/results.jsonl`, "utf8").endsWith("\n"), "no half line");
    const { code, err } = await himap(args, folder);
    assert.is(code, 0, err);
    assert.is(recordsOf(`${folder}/results.jsonl`).length, 60);
  }));

test("engine.batch on the real engine: the same answers as one by one, in order where asked", async () => {
  const engine = await load(model);
  const questions = ["What colour is the square?", "What is at the top left?", "How many objects are there?", "Describe the image."];
  const jobs = Array.from({ length: 24 }, (_, key): Job<number> => ({
    key,
    messages: [{ role: "user", content: [{ type: "image", image: { path: `${pictures}/scene-${1 + (key % 4)}.png` } }, { type: "text", text: questions[key % 3]! }] }],
    options: { maxTokens: 12, ...(key % 2 === 0 && { pruning: "himap" as const }), ...(key === 7 && { topK: -1 }) },
  }));
  for (const ordered of [true, false]) {
    const run = engine.batch(jobs, { ordered, maxInFlight: 6 });
    const outcomes: Outcome<number>[] = [];
    for await (const outcome of run) outcomes.push(outcome);
    if (ordered) assert.equal(outcomes.map(({ key }) => key), jobs.map(({ key }) => key));
    assert.equal([run.stats.done, run.stats.failed], [23, 1]);
    for (const outcome of outcomes) {
      const { messages, options } = jobs[outcome.key]!;
      if (outcome.ok) assert.equal([...outcome.value.tokens], [...(await engine.generate(messages, options)).tokens]);
      else assert.equal([outcome.key, outcome.error.code], [7, "ERR_INVALID_ARG"]);
    }
  }
  assert.throws(() => engine.batch("jobs" as never), /an iterable or async iterable for jobs/);
  const running = engine.batch(jobs);
  const reader = running[Symbol.asyncIterator]();
  await reader.next();
  await engine.dispose();
  const ends: string[] = [];
  try {
    for (let step = await reader.next(); !step.done; step = await reader.next()) ends.push(step.value.ok ? "ok" : step.value.error.code);
  } catch (error) {
    ends.push((error as { code: string }).code);
  }
  assert.is(ends.at(-1), "ERR_DISPOSED");
  assert.throws(() => engine.batch([]), /disposed/);
});

(existsSync(compiled) ? test : test.skip)("the examples run", () =>
  inFolder([], async (folder) => {
    const jobs = `${root}examples/batch/jobs.jsonl`;
    const { code, err } = await himap(["batch", model, "--input", jobs, "--output", "results.jsonl", "--pruning", "himap"], folder);
    assert.is(code, 1, err);
    assert.equal(recordsOf(`${folder}/results.jsonl`).map(({ id, ok }) => [id, ok]).sort(), [
      ["count", true], ["cross", true], ["describe", true], ["missing", false], ["square", true],
    ]);
    const { stdout, stderr } = spawnSync(process.execPath, [`${root}examples/batch/captions.mjs`], { encoding: "utf8" });
    assert.match(stdout, /scene-1\.png: a red circle, a blue square and a green star\n/, stderr);
    assert.match(stdout, /4 done, 0 failed/);
  }));

test("a queue that holds less than the batch is waited out", async () => {
  const engine = await load(model, { maxBatch: 2, maxQueue: 1 });
  const jobs = Array.from({ length: 30 }, (_, key): Job<number> => ({ key, messages: `Hello ${key}`, options: { maxTokens: 3, minTokens: 3 } }));
  const run = engine.batch(jobs, { maxInFlight: 12 });
  for await (const outcome of run) assert.ok(outcome.ok, outcome.ok ? "" : outcome.error.message);
  assert.equal([run.stats.done, run.stats.failed, run.stats.completionTokens], [30, 0, 90]);
  assert.equal(engine.stats().requests.ended, { done: 30 }, "none was refused on the way");
  await engine.dispose();
});

test.run();
