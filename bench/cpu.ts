/**
 * The CPU engine against llama.cpp in Node, against the machine's ceilings, and against itself without pruning.
 *
 *   npm run bench:cpu [-- --short] [-- --only text|picture] [-- --vision-rival] [-- --types F16,BF16] [-- --threads 1,2] [-- --shape 1b] [-- --prompt 640] [-- --out FILE]
 *
 * A LLaVA of random weights whose decoder has about a billion, in each float type, and the same numbers as GGUF (22 GB in
 * build/bench-cpu, made once). First a text prompt and some decode steps, engines taking turns; then a picture up to the first
 * token, unpruned and with himap. `--short` measures F16, each once. Figures go to bench/results/cpu.json, those of
 * any other choice to a name that tells it; what is printed at the end is Markdown. Linux x64.
 */

import path from "node:path";

import { packageRoot } from "../lib/package.js";
import { Additions } from "./cpu/machine.js";
import { caption, textTables, visionRivalTable, visionTable } from "./cpu/markdown.js";
import { benchModel, type BenchModel } from "./cpu/models.js";
import { cpuBench } from "./cpu/options.js";
import { installRival } from "./cpu/rivals.js";
import { benchText, type TextRow } from "./cpu/text.js";
import { benchVision, type VisionRow } from "./cpu/vision.js";
import { benchVisionRival, type VisionRivalFigures } from "./cpu/vision-rival.js";
import { beginRun, type RunFacts } from "./result.js";

const args = process.argv.slice(2);
const bench = cpuBench(args);
const { threadCounts, shape, settings, pictureRepetitions, out } = bench;

const rival = installRival("node-llama-cpp");
const models: BenchModel[] = [];
for (const type of bench.types) models.push(await benchModel(shape, type));

const write = await beginRun(out);
const text: TextRow[] = [];
const vision: VisionRow[] = [];
const visionRival: VisionRivalFigures[] = [];
const save = (): RunFacts => write({ shape, settings, pictureRepetitions, rival, text, vision, ...(visionRival.length > 0 && { visionRival }) });

// One for each number of threads, since the shortest sample is the measure of all others.
const watches = threadCounts.map((threads) => ({ threads, additions: Additions.on(threads) }));
const lines = models.flatMap((model) => watches.map((watch) => ({ model, ...watch })));
for (const { model, threads, additions } of bench.parts.includes("text") ? lines : []) {
  text.push(await benchText(model, threads, settings, additions));
  save();
}
for (const { model, threads, additions } of bench.parts.includes("picture") ? lines : []) {
  vision.push(...(await benchVision(model, threads, pictureRepetitions, additions)));
  save();
}
const pictured = models.find(({ type }) => type === "F16") ?? models[0]!;
if (bench.visionRival) visionRival.push(await benchVisionRival(pictured, threadCounts.at(-1)!));

const command = ["npm run bench:cpu", ...(args.length > 0 ? ["--", ...args] : [])].join(" ");
const runs = [text.flatMap(({ himap, rival }) => [...himap.runs, ...rival.runs]), vision.flatMap((row) => row.runs), visionRival].flat();
const file = path.relative(packageRoot, out);
console.log([caption(command, file, save(), runs), textTables(text, rival), visionTable(vision), visionRivalTable(visionRival)].filter(Boolean).join("\n"));
