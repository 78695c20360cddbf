/**
 * A 7B-shaped checkpoint in 24 GB: how long it takes to open from a warm disk, what a text prompt and one more step take,
 * whether `inspect` foretold the memory; then a question about a picture, unpruned and with himap, and its peak of memory.
 *
 *   npm run bench:memory [-- FOLDER]     default: build/llava-7b, made of random weights if it is not there (14 GB)
 *
 * Anonymous memory is read from /proc/self/status every 5 ms, so it runs on Linux only.
 */

import { spawnSync } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

import { load, type Engine } from "../lib/index.js";
import type { Preset } from "../lib/types.js";
import { inspect } from "../weights-tools/inspect.js";
import { processorSeconds } from "./cpu/text-run.js";
import { LoadWatch } from "./cpu/machine.js";
import { beginRun, resultFile } from "./result.js";

const root = fileURLToPath(new URL("..", import.meta.url));
const [given] = process.argv.slice(2);
const folder = given ?? `${root}build/llava-7b`;
const promptWords = 60;
const picture = { path: `${root}examples/images/scene-1.png` };
const question = "What is in this picture, and where is each of the things that you can see in it?";
const answerTokens = 8;

function status(field: string): number {
  return Number(new RegExp(`^${field}:\\s+(\\d+) kB`, "m").exec(readFileSync("/proc/self/status", "utf8"))![1]) * 1024;
}

/** Begins the resident peak anew, at what is resident now. */
function resetPeak(): void {
  writeFileSync("/proc/self/clear_refs", "5");
}

async function askAboutPicture(engine: Engine, pruning: Preset): Promise<object> {
  resetPeak();
  const watch = new LoadWatch();
  const [processor, started] = [processorSeconds(), performance.now()];
  const { timings, usage, kvBytes } = await engine.generate(
    [{ role: "user", content: [{ type: "image", image: picture }, { type: "text", text: question }] }],
    { pruning, minTokens: answerTokens, maxTokens: answerTokens },
  );
  const seconds = (performance.now() - started) / 1000;
  return {
    pruning,
    promptTokens: usage.promptTokens,
    imageTokensPerStage: usage.imageTokensPerStage,
    answerTokens: usage.completionTokens,
    visionSeconds: timings.vision / 1000,
    prefillSeconds: timings.prefill / 1000,
    secondsPerFurtherToken: timings.generate / 1000 / (usage.completionTokens - 1),
    seconds,
    kvBytes,
    peakResidentBytes: status("VmHWM"),
    ...watch.others(processorSeconds() - processor),
  };
}

async function timed<T>(work: () => Promise<T>): Promise<[T, seconds: number]> {
  const start = performance.now();
  const value = await work();
  return [value, (performance.now() - start) / 1000];
}

if (!existsSync(folder)) {
  const made = spawnSync(process.execPath, ["--import", "tsx", "weights-tools/make-random.ts", folder, "--shape", "7b", "--dtype", "f16", "--shards", "3"], { cwd: root, stdio: "inherit" });
  if (made.status !== 0) process.exit(made.status ?? 1);
}

const write = await beginRun(resultFile("memory", [given === undefined ? "7b" : path.basename(given)]));
// Twice: the first opening warms the disk's cache.
const [, coldSeconds] = await timed(async () => (await load(folder)).dispose());
const before = status("RssAnon");
let peak = before;
const timer = setInterval(() => (peak = Math.max(peak, status("RssAnon"))), 5);
// Without a place for remembered pictures: the second question about the picture is to pay for its encoding too.
const [engine, openSeconds] = await timed(() => load(folder, { memory: { embeddingBytes: 0 } }));

const prompt = Array.from({ length: promptWords }, (_, i) => ["how", "many", "red", "shapes"][i % 4]).join(" ");
const result = await engine.generate(prompt, { maxTokens: 2 });
clearInterval(timer);
const growth = peak - before;
const report = await inspect(folder, { images: 0, promptTokens: result.usage.promptTokens, maxTokens: 2 });
const predicted = report.policies[0]!.anonymousBytes;

const textPeak = status("VmHWM");
const pictures: object[] = [];
for (const pruning of ["none", "himap"] as const) pictures.push(await askAboutPicture(engine, pruning));

const figures = {
  simd: engine.info.simd,
  threads: engine.info.threads,
  parameters: engine.info.parameters,
  firstOpenSeconds: coldSeconds,
  warmOpenSeconds: openSeconds,
  promptTokens: result.usage.promptTokens,
  prefillSeconds: result.timings.prefill / 1000,
  secondTokenSeconds: result.timings.generate / 1000,
  mappedBytes: { predicted: report.memory.mappedBytes, measured: engine.info.memory.mappedBytes },
  anonymousBytes: { predicted, measured: growth, ratio: predicted / growth },
  peakResidentBytes: textPeak,
  pictures,
};
await engine.dispose();
console.log(JSON.stringify({ ...write(figures), ...figures }, null, 2));
