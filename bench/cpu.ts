/**
 * The CPU engine against llama.cpp in Node, against the machine's ceilings, and against itself without pruning.
 *
 *   npm run bench:cpu [-- --short] [-- --vision-rival] [-- --types F16,BF16] [-- --threads 1,2] [-- --shape 1b] [-- --prompt 640] [-- --out FILE]
 *
 * A LLaVA of random weights whose decoder has about a billion, in each float type, and the same numbers as GGUF (22 GB in
 * build/bench-cpu, made once). First a text prompt and some decode steps, engines taking turns; then a picture up to the first
 * token, unpruned and with himap. `--short` measures each once, pictures in F16 alone. Linux x64.
 */

import { mkdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import { parseArgs } from "node:util";

import type { WeightType } from "../lib/checkpoint/types.js";
import { packageRoot, packageVersion } from "../lib/package.js";
import { describeMachine, loadBefore } from "./cpu/machine.js";
import { textTables, visionTable } from "./cpu/markdown.js";
import { benchModel, type BenchModel } from "./cpu/models.js";
import { installRival } from "./cpu/rivals.js";
import { benchText, type TextRow } from "./cpu/text.js";
import { benchVision, type VisionRow } from "./cpu/vision.js";
import { benchVisionRival, type VisionRivalFigures } from "./cpu/vision-rival.js";

const { values } = parseArgs({
  options: {
    "short": { type: "boolean", default: false },
    "vision-rival": { type: "boolean", default: false },
    "types": { type: "string", default: "F32,F16,BF16" },
    "threads": { type: "string", default: "1,2" },
    "shape": { type: "string", default: "1b" },
    "prompt": { type: "string", default: "640" },
    "out": { type: "string" },
  },
});
const types = values.types.toUpperCase().split(",") as WeightType[];
const threadCounts = values.threads.split(",").map(Number);
const settings = { prompt: Number(values.prompt), steps: 32, repetitions: values.short ? { count: 1, most: 1 } : { count: 3, most: 9 } };
const out = values.out ?? path.join(packageRoot, "bench", "results", values.short ? "cpu-short.json" : "cpu.json");

const rival = installRival("node-llama-cpp");
const models: BenchModel[] = [];
for (const type of types) models.push(await benchModel(values.shape, type));

const machine = { ...describeMachine(), before: await loadBefore() };
const text: TextRow[] = [];
const vision: VisionRow[] = [];
const visionRival: VisionRivalFigures[] = [];
const save = (): void => {
  mkdirSync(path.dirname(out), { recursive: true });
  const whole = { version: packageVersion, machine, shape: values.shape, settings, rival, text, vision, ...(visionRival.length > 0 && { visionRival }) };
  writeFileSync(out, `${JSON.stringify(whole, null, 2)}\n`);
};

for (const model of models) {
  for (const threads of threadCounts) {
    text.push(await benchText(model, threads, settings));
    save();
  }
}
const pictured = models.find(({ type }) => type === "F16") ?? models[0]!;
for (const model of values.short ? [pictured] : models) {
  for (const threads of threadCounts) {
    vision.push(...(await benchVision(model, threads, settings.repetitions)));
    save();
  }
}
if (values["vision-rival"]) {
  for (const threads of threadCounts.slice(-1)) {
    visionRival.push(await benchVisionRival(pictured, threads));
    save();
  }
}
console.log(`${textTables(text, rival)}\n${visionTable(vision)}`);
if (visionRival.length > 0) console.log(JSON.stringify(visionRival, null, 2));
