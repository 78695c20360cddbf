/** A checkpoint folder as it is published -> the one description that everything else works from. */

import { stat } from "node:fs/promises";
import path from "node:path";

import { llava } from "../families/llava.js";
import { throwIfAborted } from "./abort.js";
import { readConfig } from "./config.js";
import { fault } from "./fault.js";
import { readJsonFile } from "./files.js";
import { fingerprintOf } from "./fingerprint.js";
import type { JsonObject } from "./json.js";
import { writeManifest } from "./manifest.js";
import { isOriginal, towerConfigFile } from "./original.js";
import { readPreprocessing } from "./preprocessing.js";
import { readWeights } from "./shards.js";
import { findTensors } from "./tensors.js";
import type { Checkpoint, TensorEntry } from "./types.js";

export type { Checkpoint, ModelConfig, TensorEntry, WeightType } from "./types.js";

async function checkFolder(folder: string): Promise<void> {
  const found = await stat(folder).catch((cause: NodeJS.ErrnoException) => {
    const hint = cause.code === "ENOENT" ? absentHint(folder) : undefined;
    return fault("ERR_INVALID_ARG", folder, "a checkpoint folder", "folder", cause.code ?? cause.message, { cause, hint });
  });
  if (!found.isDirectory()) fault("ERR_INVALID_ARG", folder, "a checkpoint folder", "folder", "a file", { hint: fileHint(folder) });
}

/** Most often the name of a model on the Hub. */
function absentHint(folder: string): string {
  const hub = /^[\w.-]+\/[\w.-]+$/.test(folder);
  const how = hub ? `: hf download ${folder} --local-dir ${path.basename(folder)}` : "";
  return `nothing is fetched: download the checkpoint first and name the folder that it lies in${how}`;
}

function fileHint(file: string): string {
  return /\.(?:gguf|ggml)$/i.test(file)
    ? "GGUF is not read: name the folder of the model as Hugging Face has it, config.json and safetensors"
    : "name the folder that holds config.json and the weights";
}

/** The processor's settings: a file of their own, or, as newer versions save them, a part of processor_config.json. */
async function readProcessor(folder: string): Promise<{ object: JsonObject | undefined; file: string; text?: Uint8Array | undefined }> {
  const file = "preprocessor_config.json";
  const own = await readJsonFile(folder, file);
  if (own !== undefined) return { ...own, file };
  const shared = "processor_config.json";
  const found = await readJsonFile(folder, shared);
  const nested = found?.object.get("image_processor");
  return nested instanceof Map ? { object: nested, file: `${shared}, image_processor`, text: found?.text } : { object: undefined, file };
}

/**
 * Opens a LLaVA checkpoint, in the Hugging Face layout or converted from the original one: reads config and headers, checks
 * all of them against each other, and says where each tensor lies. Of the weights only what the fingerprint wants is read.
 *
 * @param folder The folder as it is published; files may be links, as in the Hub's cache.
 * @throws HimapError
 * - ERR_INVALID_ARG: there is no such folder.
 * - ERR_BAD_CHECKPOINT: a file is absent, damaged, or contradicts another; ERR_TOO_LARGE: it is beyond a limit.
 * - ERR_TENSOR_MISSING, ERR_TENSOR_EXTRA, ERR_TENSOR_SHAPE: the weights are not those that config.json implies.
 * - ERR_UNSUPPORTED_MODEL, ERR_UNSUPPORTED_FILE: another model, or another file format.
 * - ERR_ABORTED: `options.signal` fired.
 */
export async function openCheckpoint(folder: string, options: { signal?: AbortSignal | undefined } = {}): Promise<Checkpoint> {
  const { signal } = options;
  throwIfAborted(signal);
  await checkFolder(folder);
  const config = await readJsonFile(folder, "config.json");
  if (config === undefined) {
    fault(
      "ERR_BAD_CHECKPOINT", folder, "config.json", "the checkpoint", "no such file",
      { hint: "name the folder that holds config.json and the weights" },
    );
  }
  const generation = await readJsonFile(folder, "generation_config.json");
  const original = isOriginal(config.object);
  const tower = original ? await readJsonFile(folder, towerConfigFile) : undefined;
  // Most likely not converted yet, which is to be said before anything else.
  if (original && tower === undefined) await readWeights(folder, "original", signal);
  const facts = readConfig(config.object, generation?.object, tower?.object);
  const processor = await readProcessor(folder);
  const preprocessing = readPreprocessing(processor.object, processor.file, facts.model.vision.imageSize);

  throwIfAborted(signal);
  const weights = await readWeights(folder, facts.layout, signal);
  throwIfAborted(signal);
  const tensors = findTensors(facts, weights);
  const files = weights.map(({ path, bytes }) => ({ path, bytes }));
  return {
    folder: path.resolve(folder),
    family: llava.name,
    config: facts.model,
    files,
    tensors,
    manifest: writeManifest({ config: facts.model, files, tensors }),
    parameters: countParameters(tensors),
    tokens: facts.tokens,
    preprocessing: { ...preprocessing, imageAspectRatio: facts.imageAspectRatio ?? preprocessing.imageAspectRatio },
    template: llava.templates[facts.layout],
    fingerprint: await fingerprintOf({
      folder,
      configurations: [config, generation, tower, processor].flatMap((file) => file?.text ?? []),
      weights,
      tensors,
      signal,
    }),
  };
}

/** Elements of all tensors, one that two names share counted once. */
function countParameters(tensors: TensorEntry[]): number {
  const elements = (shape: number[]): number => shape.reduce((product, side) => product * side, 1);
  const counts = new Map(tensors.map(({ file, offset, shape }) => [`${file}:${offset}`, elements(shape)]));
  return [...counts.values()].reduce((sum, count) => sum + count, 0);
}
