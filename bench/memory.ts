/**
 * A 7B-shaped checkpoint in 24 GB: how long it takes to open from a warm disk, what a text prompt and one more step take,
 * and whether `inspect` foretold the memory.
 *
 *   npm run bench:memory [-- FOLDER]     default: build/llava-7b, made of random weights if it is not there (14 GB)
 *
 * Anonymous memory is read from /proc/self/status every 5 ms, so it runs on Linux only.
 */

import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { fileURLToPath } from "node:url";

import { load } from "../lib/index.js";
import { inspect } from "../weights-tools/inspect.js";

const root = fileURLToPath(new URL("..", import.meta.url));
const folder = process.argv[2] ?? `${root}build/llava-7b`;
const promptWords = 60;

function status(field: string): number {
  return Number(new RegExp(`^${field}:\\s+(\\d+) kB`, "m").exec(readFileSync("/proc/self/status", "utf8"))![1]) * 1024;
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

// Twice: the first opening warms the disk's cache.
const [, coldSeconds] = await timed(async () => (await load(folder)).dispose());
const before = status("RssAnon");
let peak = before;
const timer = setInterval(() => (peak = Math.max(peak, status("RssAnon"))), 5);
const [engine, openSeconds] = await timed(() => load(folder));

const prompt = Array.from({ length: promptWords }, (_, i) => ["how", "many", "red", "shapes"][i % 4]).join(" ");
const result = await engine.generate(prompt, { maxTokens: 2 });
clearInterval(timer);
const growth = peak - before;
const report = await inspect(folder, { images: 0, promptTokens: result.usage.promptTokens, maxTokens: 2 });
const predicted = report.memory.policies[0]!.anonymousBytes;

const figures = {
  machine: `${cpus()[0]!.model}, ${cpus().length} processors`,
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
  peakResidentBytes: status("VmHWM"),
};
await engine.dispose();
mkdirSync(`${root}bench/results`, { recursive: true });
writeFileSync(`${root}bench/results/memory-7b.json`, `${JSON.stringify(figures, null, 2)}\n`);
console.log(JSON.stringify(figures, null, 2));
