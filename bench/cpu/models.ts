/** The model files of the bench, made once: a LLaVA folder of random weights per type, and the same numbers as GGUF. */

import { existsSync, renameSync } from "node:fs";
import path from "node:path";

import { openCheckpoint, type Checkpoint, type WeightType } from "../../lib/checkpoint/index.js";
import { packageRoot } from "../../lib/package.js";
import { makeRandom } from "../../weights-tools/make-random.js";
import { writeDecoder, writeVision } from "./gguf.js";

export interface BenchModel {
  type: WeightType;
  checkpoint: Checkpoint;
  /** The decoder as a GGUF file. */
  decoder: string;
}

/** Runs `make` on a temporary name, so that what is there is whole. */
async function once(target: string, make: (temporary: string) => Promise<unknown>): Promise<string> {
  if (!existsSync(target)) {
    console.error(`making ${target}`);
    await make(`${target}.part`);
    renameSync(`${target}.part`, target);
  }
  return target;
}

/** Of the model that ships: prompts are rendered by it, though the weights know no words. */
const tokenizer = path.join(packageRoot, "models", "pico-llava");

/** @param shape of weights-tools/make-random.ts */
export async function benchModel(shape: string, type: WeightType): Promise<BenchModel> {
  const folder = path.join(packageRoot, "build", "bench-cpu", `${shape}-${type.toLowerCase()}`);
  await once(folder, (to) => makeRandom(to, { shape, type, shards: 1, seed: 0, tokenizer }));
  const checkpoint = await openCheckpoint(folder);
  return { type, checkpoint, decoder: await once(`${folder}.gguf`, (to) => writeDecoder(checkpoint, to)) };
}

/** Tower and projector of a model as a GGUF file. */
export function visionFile({ checkpoint }: BenchModel): Promise<string> {
  return once(`${checkpoint.folder}-vision.gguf`, (to) => writeVision(checkpoint, to));
}
