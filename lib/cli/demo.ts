/** `himap demo`: the shipped model answers questions about the shipped pictures, unpruned and with HiMAP. */

import path from "node:path";

import { renderHeatmap } from "../image/heatmap.js";
import { loadSharp } from "../image/sharp.js";
import { load } from "../load.js";
import { packageRoot } from "../package.js";
import { countText, flopsText, millisecondsText, numberText, percentText, plural, table, wrap } from "../text.js";
import type { Engine, Message, Preset, Result } from "../types.js";
import { Columns } from "./columns.js";
import { defineCommand, type Terminal } from "./command.js";
import { checkOutput, firstTokenMs, median, prefillText, stagesText, tokensPerSecond, writeOutput } from "./output.js";

/** The four pictures, and what is asked about them. */
const scenes: { file: string; shows: string; questions: [question: string, truth: string][] }[] = [
  {
    file: "scene-1.png",
    shows: "red circle top left, blue square right, green star bottom",
    questions: [["What colour is the square?", "blue"], ["Describe the image.", "a red circle, a blue square and a green star"]],
  },
  {
    file: "scene-2.png",
    shows: "yellow star top, purple ring left, black cross centre, orange triangle bottom right",
    questions: [["Where is the black cross?", "centre"], ["What is at the bottom right?", "orange triangle"]],
  },
  {
    file: "scene-3.png",
    shows: "blue triangle top left, blue circle top right, blue star centre, red square bottom left, green ring bottom right",
    questions: [["How many blue objects are there?", "3"], ["What shape is the red object?", "square"]],
  },
  {
    file: "scene-4.png",
    shows: "cyan square top left, orange cross top, purple triangle centre, red ring right, green circle bottom left, yellow square bottom",
    questions: [["What is at the bottom left?", "green circle"], ["How many objects are there?", "6"]],
  },
];

const policies: readonly Preset[] = ["none", "himap"];
const titles = ["unpruned", "HiMAP"];
/** No answer of this model is longer. */
const maxTokens = 64;

export const demo = defineCommand({
  name: "demo",
  summary: "the shipped model on the shipped pictures: unpruned and with HiMAP side by side",
  operands: {},
  options: {
    out: { kind: "text", value: "FILE", help: "the picture of what was kept (default ./himap-demo.png)" },
    threads: { kind: "number", value: "N", help: "threads that compute (default: one per processor that it may keep busy)" },
  },
  async run({ options: { out = "himap-demo.png", threads } }, terminal) {
    const { signal } = terminal;
    await checkOutput(out, "--out");
    const engine = await load(path.join(packageRoot, "models", "pico-llava"), { signal, ...(threads !== undefined && { threads }) });
    try {
      const { info } = engine;
      const size = `${info.layers} layers, ${info.imageTokens} image tokens, ${countText(info.parameters)} parameters`;
      await terminal.write(`pico-llava: ${size}; ${plural(info.threads, "thread")}, ${info.simd}\n`);
      // Untimed: the first prefill touches the weights and the workspace for the first time.
      const warmup = question(pictureOf(scenes[0]!.file), "What is this?");
      for (const pruning of policies) await engine.generate(warmup, { maxTokens: 2, pruning, signal });
      const results: Result[][] = [];
      const pictures: Uint8Array[] = [];
      for (const { file, shows, questions } of scenes) {
        await terminal.write(`\n${wrap(`${file}: ${shows}`, terminal.columns - 1).join("\n")}\n`);
        for (const [text, truth] of questions) results.push(await askBoth(engine, file, text, truth, terminal));
        pictures.push(await renderHeatmap({ path: pictureOf(file) }, results.at(-1)![1]!, { size: 240, signal }));
      }
      await terminal.write(`\n${summary(results)}\n`);
      await writeOutput(out, await stack(pictures), "--out");
      await terminal.write(`\n${path.resolve(out)}: what HiMAP kept for the last question about each picture\n`);
    } finally {
      await engine.dispose();
    }
  },
});

const pictureOf = (file: string): string => path.join(packageRoot, "examples", "images", file);

function question(file: string, text: string): Message[] {
  return [{ role: "user", content: [{ type: "image", image: { path: file } }, { type: "text", text }] }];
}

/** Asks with each policy in turn, so that neither slows the other. */
async function askBoth(engine: Engine, file: string, text: string, truth: string, terminal: Terminal): Promise<Result[]> {
  await terminal.write(`\n${text} (${truth})\n`);
  const columns = new Columns(terminal, titles);
  const results: Result[] = [];
  for (const [i, pruning] of policies.entries()) {
    const generation = engine.generate(question(pictureOf(file), text), { maxTokens, pruning, scores: true, signal: terminal.signal });
    for await (const delta of generation) await columns.add(i, delta.text);
    const result = await generation;
    const rate = tokensPerSecond(result);
    await columns.add(i, "", [
      `image tokens ${stagesText(result, engine.info.layers)}`,
      `first token ${millisecondsText(firstTokenMs(result))}${rate === undefined ? "" : `, then ${numberText(rate)} tokens/s`}`,
      prefillText(result),
    ]);
    results.push(result);
  }
  return results;
}

/** @param results [questions, policies] */
function summary(results: readonly (readonly Result[])[]): string {
  const column = (value: (result: Result) => number, show: (value: number) => string): string[] =>
    policies.map((_, i) => show(median(results.map((pair) => value(pair[i]!)))));
  const rates = policies.map((_, i) => {
    const sum = (value: (result: Result) => number): number => results.reduce((total, pair) => total + value(pair[i]!), 0);
    return numberText((sum(({ usage }) => usage.completionTokens - 1) / sum(({ timings }) => timings.generate)) * 1000);
  });
  const same = results.filter(([left, right]) => left!.text === right!.text).length;
  return [
    ...table([
      [`${results.length} questions`, ...titles],
      ["first token, median", ...column(firstTokenMs, millisecondsText)],
      ["  of which prefill", ...column(({ timings }) => timings.prefill, millisecondsText)],
      ["vision and prefill", ...column(({ flops }) => flops.prefill, flopsText)],
      ["image tokens alone (paper)", ...column(({ flops }) => flops.paper / flops.paperUnpruned, percentText)],
      ["tokens/s after the first", ...rates],
    ]),
    `  ${same} of ${results.length} answers are the same.`,
  ].join("\n");
}

/** Pictures below each other, as one PNG. */
async function stack(pictures: Uint8Array[]): Promise<Uint8Array> {
  const sharp = await loadSharp();
  return sharp(pictures, { join: { across: 1, background: "white", halign: "left" } }).png({ compressionLevel: 9 }).toBuffer();
}
