/** The weights of a folder: one file, or shards and the index that names them. */

import { readdir } from "node:fs/promises";

import { throwIfAborted } from "./abort.js";
import type { Layout } from "./config.js";
import { fault, quote, tensorIn } from "./fault.js";
import { readJsonFile, readWeightsFile, type WeightsFile } from "./files.js";
import { describe, type JsonObject } from "./json.js";
import { canonicalName } from "./names.js";

/** A form in which weights are published: one file, or an index that names several. */
export interface WeightsFormat {
  single: string;
  index: string;
  /** What every file's name ends in. */
  suffix: string;
  /** Undefined where there is no such file. */
  read(folder: string, name: string): Promise<WeightsFile | undefined>;
}

export const safetensors: WeightsFormat = {
  single: "model.safetensors",
  index: "model.safetensors.index.json",
  suffix: ".safetensors",
  read: readWeightsFile,
};

/** Files of one checkpoint. */
export const shardLimit = 1000;

/** What to say where there are no safetensors: most often the weights are there in another format. */
async function noWeights(folder: string, layout: Layout): Promise<never> {
  const names = await readdir(folder);
  const other = names.sort().find((name) => /\.(?:bin|pt|pth|ckpt|gguf|ggml|msgpack|h5|onnx|npz)$/.test(name));
  if (other !== undefined) {
    const vision = layout === "original" ? " --vision CLIP_FOLDER" : "";
    fault("ERR_UNSUPPORTED_FILE", other, "safetensors", "the weights", "another format", {
      hint: other.endsWith(".bin")
        ? `convert it once: himap weights convert ${folder} OUT${vision}`
        : "save the model with safetensors, or take a published copy that has them",
    });
  }
  return fault("ERR_BAD_CHECKPOINT", folder, `${safetensors.single} or ${safetensors.index}`, "the weights", "neither");
}

/** A shard stands beside its index: nothing that leads elsewhere is followed. */
function checkShardName(name: string, { index, suffix }: WeightsFormat): void {
  if (!/^[^/\\\0:]+$/.test(name) || name === "." || name === "..") {
    fault("ERR_BAD_CHECKPOINT", index, "plain names of files in the same folder", "weight_map", describe(name));
  }
  if (!name.endsWith(suffix)) fault("ERR_UNSUPPORTED_FILE", index, `names that end in ${suffix}`, "weight_map", describe(name));
}

/** Reads `weight_map`: shard name -> tensors that it must hold. */
export function readWeightMap(object: JsonObject, format: WeightsFormat): Map<string, Set<string>> {
  const { index } = format;
  const map = object.get("weight_map");
  if (!(map instanceof Map)) fault("ERR_BAD_CHECKPOINT", index, "an object", "weight_map", describe(map));
  const shards = new Map<string, Set<string>>();
  for (const [tensor, shard] of map) {
    if (typeof shard !== "string") {
      fault("ERR_BAD_CHECKPOINT", index, "a file name", `weight_map ${quote(tensor)}`, describe(shard));
    }
    checkShardName(shard, format);
    const tensors = shards.get(shard);
    if (tensors === undefined) shards.set(shard, new Set([tensor]));
    else tensors.add(tensor);
  }
  if (shards.size === 0) fault("ERR_BAD_CHECKPOINT", index, "at least one tensor", "weight_map", "none");
  if (shards.size > shardLimit) fault("ERR_TOO_LARGE", index, `at most ${shardLimit} files`, "weight_map", `${shards.size}`);
  return shards;
}

/** A tensor stands in one shard only. */
function checkOwners(files: WeightsFile[]): void {
  const owner = new Map<string, string>();
  for (const { name: file, tensors } of files) {
    for (const { name } of tensors) {
      const other = owner.get(name);
      if (other !== undefined) {
        fault("ERR_BAD_CHECKPOINT", tensorIn(file, name), "one file", "the tensor", `this file and ${other}`);
      }
      owner.set(name, file);
    }
  }
}

/** A shard holds what the index says of it: nothing less, and nothing more but ignored buffers. */
function checkShard(shard: WeightsFile, wanted: Set<string>): void {
  const present = new Set(shard.tensors.map(({ name }) => name));
  for (const name of wanted) {
    if (!present.has(name)) {
      fault("ERR_TENSOR_MISSING", tensorIn(shard.name, name), "the tensor that the index puts here", "this shard", "none");
    }
  }
  for (const name of present) {
    if (!wanted.has(name) && canonicalName(name) !== undefined) {
      fault("ERR_TENSOR_EXTRA", tensorIn(shard.name, name), "only tensors that the index puts here", "this shard", "one more");
    }
  }
}

/**
 * Opens the headers of all weights files of one format, in the order of their names; undefined where the folder has neither
 * the one file nor the index.
 * @throws HimapError ERR_TENSOR_MISSING, ERR_TENSOR_EXTRA or ERR_BAD_CHECKPOINT where shards and index disagree.
 */
export async function findWeights(
  folder: string,
  format: WeightsFormat,
  signal: AbortSignal | undefined,
): Promise<WeightsFile[] | undefined> {
  const whole = await format.read(folder, format.single);
  if (whole !== undefined) return [whole];
  const listed = await readJsonFile(folder, format.index);
  if (listed === undefined) return undefined;

  const files: WeightsFile[] = [];
  const shards = readWeightMap(listed.object, format);
  for (const name of [...shards.keys()].sort()) {
    throwIfAborted(signal);
    const shard = await format.read(folder, name);
    if (shard === undefined) {
      fault("ERR_BAD_CHECKPOINT", name, `the file that ${format.index} names`, "the weights", "no such file");
    }
    files.push(shard);
  }
  checkOwners(files);
  for (const shard of files) checkShard(shard, shards.get(shard.name)!);
  return files;
}

/**
 * Opens the headers of a folder's safetensors.
 * @throws HimapError as `findWeights`; ERR_UNSUPPORTED_FILE where the weights are in another format.
 */
export async function readWeights(folder: string, layout: Layout, signal: AbortSignal | undefined): Promise<WeightsFile[]> {
  return (await findWeights(folder, safetensors, signal)) ?? noWeights(folder, layout);
}
