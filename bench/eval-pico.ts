/**
 * pico-llava on pico-eval under every preset: what pruning costs in answers and saves in work.
 *
 *   npm run eval:pico [-- --limit N] [-- --out FILE]     about 10 minutes on two cores
 *
 * Figures go to bench/results/eval-pico.json, those of fewer questions to a name that tells how many; Markdown is printed.
 * Greedy. Each scene passes the vision tower once; the questions about it then take its embedding, so that prefill times
 * are of the decoder alone. Each question meets all policies in turn, so that the machine's moods meet all alike.
 */

import { readFileSync } from "node:fs";
import path from "node:path";
import { parseArgs } from "node:util";

import { median } from "../lib/cli/output.js";
import { load, presets } from "../lib/index.js";
import { packageRoot } from "../lib/package.js";
import type { Engine, ImageEmbedding, Preset, Pruning } from "../lib/types.js";
import { LoadWatch } from "./cpu/machine.js";
import { caption } from "./cpu/markdown.js";
import { processorSeconds } from "./cpu/text-run.js";
import { markdown } from "./eval/markdown.js";
import { report, type Answered, type Evaluation } from "./eval/report.js";
import { openScenes, sceneSide as side } from "./eval/scenes.js";
import { isRight, type Question } from "./eval/score.js";
import { beginRun, resultFile, unusual } from "./result.js";

/** Longer than any right answer. */
const maxTokens = 64;
const seeds = [0, 1, 2, 3, 4];

/** Every preset; what draws at random, once for each seed. */
const policies = (Object.keys(presets) as Preset[]).flatMap((preset): { preset: Preset; pruning: Pruning }[] =>
  preset === "random" ? seeds.map((seed) => ({ preset, pruning: { preset, seed } })) : [{ preset, pruning: preset }],
);

const { limit, out: given } = parseArgs({ options: { limit: { type: "string" }, out: { type: "string" } } }).values;
const folder = path.join(packageRoot, "bench", "pico-eval");
const all = readFileSync(path.join(folder, "questions.jsonl"), "utf8").trim().split("\n").map((line) => JSON.parse(line) as Question);
const wanted = limit === undefined ? all.length : Math.min(all.length, Number(limit));
if (!(wanted >= 1)) throw new Error(`expected a number of questions for --limit but received ${limit}`);
// Spread over the file, so that few questions still are of every type.
const questions = Array.from({ length: wanted }, (_, i) => all[Math.floor((i * all.length) / wanted)]!);

const out = given ?? resultFile("eval-pico", [unusual(String(wanted), String(all.length), `${wanted}-questions`)]);
const write = await beginRun(out);
const sceneOf = await openScenes();

async function ask(engine: Engine, question: Question, embedding: ImageEmbedding, pruning: Pruning): Promise<Answered> {
  const { text, finishReason, usage, timings, kvBytes } = await engine.generate(
    [{ role: "user", content: [{ type: "image", image: { embedding } }, { type: "text", text: question.question }] }],
    { maxTokens, pruning },
  );
  // Of a whole request: the embedding came for nothing here only because others had paid for it.
  const { stages, flops } = engine.plan({ images: 1, promptTokens: usage.promptTokens - usage.imageTokens, maxTokens, pruning });
  const tokenLayers = stages.reduce((sum, { firstLayer, endLayer, imageTokens }) => sum + (endLayer - firstLayer) * imageTokens, 0);
  return {
    text,
    right: isRight(question, text),
    ended: finishReason === "stop",
    imageTokensPerLayer: tokenLayers / engine.info.layers,
    paperShare: flops.paper / flops.paperUnpruned,
    prefillFlops: flops.prefill,
    prefillShare: flops.prefill / flops.prefillUnpruned,
    prefillMs: timings.prefill,
    kvBytes,
  };
}

const engine = await load(path.join(packageRoot, "models", "pico-llava"));
const { info } = engine;
const answers: Answered[][] = policies.map(() => []);
const blank: Answered[] = [];
const visionMs: number[] = [];
const started = performance.now();
const blankEmbedding = await engine.encodeImage({ pixels: new Uint8Array(side * side * 3).fill(230), width: side, height: side, channels: 3 });
let scene = -1;
let embedding = blankEmbedding;
// Untimed, each way once: the first run touches weights and workspace for the first time.
for (const { pruning } of policies) await ask(engine, questions[0]!, embedding, pruning);
const watch = new LoadWatch();
const processor = processorSeconds();
for (const [i, question] of questions.entries()) {
  if (question.scene !== scene) {
    scene = question.scene;
    const begun = performance.now();
    embedding = await engine.encodeImage(sceneOf(scene));
    visionMs.push(performance.now() - begun);
  }
  // The first to ask changes from question to question.
  for (let turn = 0; turn < policies.length; turn++) {
    const policy = (i + turn) % policies.length;
    answers[policy]!.push(await ask(engine, question, embedding, policies[policy]!.pruning));
  }
  blank.push(await ask(engine, question, blankEmbedding, "none"));
  if (i % 50 === 49 || i === questions.length - 1) {
    const elapsed = (performance.now() - started) / 1000;
    process.stderr.write(`${i + 1} of ${questions.length} questions, ${elapsed.toFixed(0)} s of about ${((elapsed / (i + 1)) * questions.length).toFixed(0)} s\n`);
  }
}
const others = watch.others(processorSeconds() - processor);
await engine.dispose();

const evaluation: Evaluation = {
  ...others,
  simd: info.simd,
  threads: info.threads,
  fingerprint: info.fingerprint,
  questions: questions.length,
  scenes: new Set(questions.map((question) => question.scene)).size,
  layers: info.layers,
  imageTokens: info.imageTokens,
  maxTokens,
  encodeMs: median(visionMs),
  ...report(questions, policies.map(({ preset }, i) => ({ preset, answers: answers[i]! })), blank),
};
const command = `npm run eval:pico${limit === undefined ? "" : ` -- --limit ${limit}`}`;
console.log([caption(command, path.relative(packageRoot, out), write(evaluation), [evaluation]), markdown(evaluation)].join("\n"));
