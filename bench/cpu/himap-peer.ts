/** Our engine, through the native step alone: no tokenizer and no scheduler in between. */

import { createHash } from "node:crypto";

import { loadNative } from "../../lib/binding/load.js";
import type { Candidates, NativeCut, NativeEngine, NativeStage, StepOutput, StepSequence } from "../../lib/binding/native.js";
import { openCheckpoint, type Checkpoint } from "../../lib/checkpoint/index.js";
import { loadDefaults } from "../../lib/defaults.js";
import { prepareImage } from "../../lib/image/prepare.js";
import { presets } from "../../lib/pruning/presets.cjs";
import { compileCuts } from "../../lib/pruning/compile.js";
import { resolvePruning } from "../../lib/pruning/resolve.js";
import { firstPositions, pageTables } from "../../lib/schedule/layout.js";
import { serve } from "./peer.js";
import { processorSeconds, type TextJob, type TextOpen, type TextRun } from "./text-run.js";
import type { VisionJob, VisionRun } from "./vision-run.js";

const native = loadNative();
let checkpoint: Checkpoint;
let engine: NativeEngine;

/** A prompt's prefill, and where its tokens go afterwards. */
interface Prompt {
  sequence: StepSequence;
  stages: NativeStage[];
  pages: Int32Array;
}

function promptOf(ids: Int32Array, spans: number[], cuts: NativeCut[], newTokens: number): Prompt {
  const imageTokens = (spans.length / 3) * checkpoint.config.imageTokens;
  const stages = native.plan({ layers: checkpoint.config.layers, length: ids.length, imageTokens, newTokens, cuts });
  const pages = Int32Array.from({ length: stages.reduce((sum, { first, end, blocks }) => sum + (end - first) * blocks, 0) }, (_, i) => i);
  const sequence: StepSequence = {
    phase: "prefill",
    ids,
    positions: firstPositions(ids.length),
    spans: Int32Array.from(spans),
    cuts,
    stages: pageTables(stages, pages),
    stop: new Int32Array(0),
    burst: 1,
    sampling: { temperature: 0, topK: 0, topP: 1, minP: 0, seed: [0, 0], sample: 0 },
  };
  return { sequence, stages, pages };
}

/** The sequence one token further: `generated` tokens stand behind the prompt, the last of them is `id`. */
function nextOf({ sequence, stages, pages }: Prompt, id: number, generated: number): StepSequence {
  return {
    ...sequence,
    phase: "decode",
    ids: Int32Array.of(id),
    positions: Int32Array.of(sequence.ids.length + generated - 1),
    spans: new Int32Array(0),
    cuts: [],
    stages: pageTables(stages, pages, generated - 1),
  };
}

function hashOf({ ids, logits, logSumExp }: Candidates): string {
  return createHash("sha256").update(ids).update(logits).update(Float32Array.of(logSumExp)).digest("hex").slice(0, 16);
}

const lastOf = (output: StepOutput): Candidates => output.sequences[0]!.candidates.at(-1)!;
const best = (output: StepOutput): number => lastOf(output).ids[0]!;

const handlers = {
  async open({ model, threads, positions }: TextOpen) {
    checkpoint = await openCheckpoint(model);
    const kvPages = checkpoint.config.layers * Math.ceil(positions / native.pageTokens);
    engine = await native.open(checkpoint.manifest, { backend: "cpu", threads, weights: "map", kvType: "f32", kvPages });
    return engine.info;
  },

  async text({ prompt: ids, steps }: TextJob): Promise<TextRun> {
    const processor = processorSeconds();
    const started = performance.now();
    const prompt = promptOf(Int32Array.from(ids), [], [], steps);
    let output = await engine.step({ images: [], sequences: [prompt.sequence] });
    const tokens = [best(output)];
    const prefilled = performance.now();
    const prefillProcessor = processorSeconds() - processor;
    while (tokens.length <= steps) {
      output = await engine.step({ images: [], sequences: [nextOf(prompt, tokens.at(-1)!, tokens.length)] });
      tokens.push(best(output));
    }
    const ended = performance.now();
    return {
      prefill: (prefilled - started) / 1000,
      decode: (ended - prefilled) / 1000,
      processor: processorSeconds() - processor,
      prefillProcessor,
      tokens,
      logits: hashOf(lastOf(output)),
    };
  },

  async vision({ picture, before, after, preset }: VisionJob): Promise<VisionRun> {
    const { imageTokens, layers, vision } = checkpoint.config;
    const { imageAspectRatio, mean, std } = checkpoint.preprocessing;
    const cuts = resolvePruning({ cuts: presets[preset].cuts(layers, 0) }, { layers, imageTokens });
    const processor = processorSeconds();
    const started = performance.now();
    const { pixels, decodeMs } = await prepareImage(
      { path: picture },
      {
        geometry: imageAspectRatio, side: vision.imageSize, patch: vision.patchSize, mean, std,
        maxPixels: loadDefaults.maxPixels, autoOrient: false,
      },
      native,
    );
    const ids = Int32Array.from([...before, ...new Array<number>(imageTokens).fill(-1), ...after]);
    const { sequence } = promptOf(ids, [before.length, imageTokens, 0], compileCuts(cuts), 1);
    const output = await engine.step({ images: [{ pixels }], sequences: [sequence] });
    const token = best(output);
    const total = (performance.now() - started) / 1000;
    return {
      picture: decodeMs / 1000,
      vision: output.timings.vision / 1000,
      prefill: output.timings.prefill / 1000,
      total,
      processor: processorSeconds() - processor,
      token,
      kept: output.sequences[0]!.cuts.map(({ kept }) => kept.length),
      logits: hashOf(lastOf(output)),
    };
  },

  async close(_: null) {
    await engine.close();
  },
};

export type HimapPeer = typeof handlers;
serve(handlers);
