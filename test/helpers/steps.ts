/** Sequences for the native `step`, straight from a golden case: no scheduler in between. */

import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

import type { Candidates, NativeCut, NativeEngine, NativeEngineOptions, NativeModule, StepSequence } from "../../lib/binding/native.js";
import { loadNative } from "../../lib/binding/load.js";
import { openCheckpoint } from "../../lib/checkpoint/index.js";
import type { Checkpoint } from "../../lib/checkpoint/types.js";
import { readTensors } from "./safetensors.js";

export interface GoldenPrompt {
  ids: number[];
  features: Float32Array | undefined;
}

export interface Bench {
  native: NativeModule;
  checkpoint: Checkpoint;
  open(options?: Partial<NativeEngineOptions>): Promise<NativeEngine>;
  prompt(request: string): GoldenPrompt;
  /** Cuts of the case's policies. */
  cuts(policy: string): NativeCut[];
}

const folder = (name: string): string => fileURLToPath(new URL(`../golden/${name}/`, import.meta.url));

export async function openBench(name: string): Promise<Bench> {
  const native = loadNative();
  const checkpoint = await openCheckpoint(`${folder(name)}checkpoint`);
  const golden = JSON.parse(readFileSync(`${folder(name)}case.json`, "utf8"));
  return {
    native,
    checkpoint,
    open: (options) => native.open(checkpoint.manifest, { backend: "cpu", threads: 2, weights: "map", kvType: "f32", kvPages: 4096, ...options }),
    prompt(request) {
      const found = golden.requests.find((one: { name: string }) => one.name === request);
      return { ids: found.ids, features: readTensors(`${folder(name)}${request}.safetensors`).get("image_features")?.data };
    },
    cuts: (policy) => golden.policies[policy].cuts.map((cut: { before: number; rows: NativeCut["voters"]; heads: "mean" | "max"; keep: number }) =>
      ({ before: cut.before, keep: cut.keep, voters: cut.rows, heads: cut.heads })),
  };
}

/** Hands out pages of the pool, one sequence after another, with gaps, so that no table is contiguous. */
export class Pages {
  #next = 0;
  take(count: number): Int32Array {
    return Int32Array.from({ length: count }, () => {
      this.#next += 1 + (this.#next % 3);
      return this.#next;
    });
  }
}

/** A prompt as a prefill sequence; `image` is the index of its picture in the step. */
export function prefill(bench: Bench, prompt: GoldenPrompt, cuts: NativeCut[], pages: Pages, image = 0, newTokens = 16): StepSequence {
  const { config } = bench.checkpoint;
  const ids: number[] = [];
  const spans: number[] = [];
  for (const id of prompt.ids) {
    if (id !== -200) {
      ids.push(id);
      continue;
    }
    spans.push(ids.length, config.imageTokens, image++);
    for (let i = 0; i < config.imageTokens; i++) ids.push(-1);
  }
  const imageTokens = (spans.length / 3) * config.imageTokens;
  const stages = bench.native.plan({ layers: config.layers, length: ids.length, imageTokens, newTokens, cuts: imageTokens ? cuts : [] });
  return {
    phase: "prefill",
    ids: Int32Array.from(ids),
    positions: Int32Array.from(ids, (_, i) => i),
    spans: Int32Array.from(spans),
    cuts: imageTokens ? cuts : [],
    stages: stages.map(({ first, end, blocks }) => ({ cached: 0, blocks, pages: pages.take((end - first) * blocks) })),
    stop: new Int32Array(0),
    burst: 1,
    sampling: { temperature: 0, topK: 0, topP: 1, minP: 0, seed: [0, 0], sample: 0 },
  };
}

/** The sequence one token further: `generated` tokens stand behind the prompt, the last of them is `id`. */
export function decode(bench: Bench, after: StepSequence, id: number, generated: number, burst = 1): StepSequence {
  const { config } = bench.checkpoint;
  const imageTokens = (after.spans.length / 3) * config.imageTokens;
  const stages = bench.native.plan({ layers: config.layers, length: after.ids.length, imageTokens, newTokens: 0, cuts: after.cuts });
  return {
    ...after,
    phase: "decode",
    ids: Int32Array.of(id),
    positions: Int32Array.of(after.ids.length + generated - 1),
    spans: new Int32Array(0),
    cuts: [],
    stages: after.stages.map(({ blocks, pages }, i) => ({ cached: stages[i]!.tokens + generated - 1, blocks, pages })),
    burst,
  };
}

/** Everything of candidates as bytes, to compare bit for bit. */
export function bits(candidates: readonly Candidates[]): string {
  return candidates.map(({ ids, logits, logSumExp }) => `${Buffer.from(ids.buffer).toString("hex")} ${Buffer.from(logits.buffer).toString("hex")} ${logSumExp}`).join("\n");
}
