/** The weights of a folder: one file, or shards and the index that names them. */

import { readdir } from "node:fs/promises";

import { throwIfAborted } from "./abort.js";
import { fault, quote, tensorIn } from "./fault.js";
import { readJsonFile, readWeightsFile, type WeightsFile } from "./files.js";
import { describe, type JsonObject } from "./json.js";
import { canonicalName } from "./names.js";

const single = "model.safetensors";
const index = "model.safetensors.index.json";
const shardLimit = 1000;

/** What to say where there are no safetensors: most often the weights are there in another format. */
async function noWeights(folder: string): Promise<never> {
  const names = await readdir(folder);
  const other = names.sort().find((name) => /\.(?:bin|pt|pth|ckpt|gguf|ggml|msgpack|h5|onnx|npz)$/.test(name));
  if (other !== undefined) {
    fault("ERR_UNSUPPORTED_FILE", other, "safetensors", "the weights", "another format", {
      hint: "save the model with safetensors, or take a published copy that has them",
    });
  }
  return fault("ERR_BAD_CHECKPOINT", folder, `${single} or ${index}`, "the weights", "neither");
}

/** A shard stands beside its index: nothing that leads elsewhere is followed. */
function checkShardName(name: string): void {
  if (!/^[^/\\\0:]+$/.test(name) || name === "." || name === "..") {
    fault("ERR_BAD_CHECKPOINT", index, "plain names of files in the same folder", "weight_map", describe(name));
  }
  if (!name.endsWith(".safetensors")) fault("ERR_UNSUPPORTED_FILE", index, "names of safetensors files", "weight_map", describe(name));
}

/** Reads `weight_map`: shard name -> tensors that it must hold. */
function readWeightMap(object: JsonObject): Map<string, Set<string>> {
  const map = object.get("weight_map");
  if (!(map instanceof Map)) fault("ERR_BAD_CHECKPOINT", index, "an object", "weight_map", describe(map));
  const shards = new Map<string, Set<string>>();
  for (const [tensor, shard] of map) {
    if (typeof shard !== "string") fault("ERR_BAD_CHECKPOINT", index, "a file name", `weight_map ${quote(tensor)}`, describe(shard));
    checkShardName(shard);
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
      if (other !== undefined) fault("ERR_BAD_CHECKPOINT", tensorIn(file, name), "one file", "the tensor", `this file and ${other}`);
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
 * Opens the headers of all weights files, in the order of their names.
 * @throws HimapError ERR_UNSUPPORTED_FILE where the weights are in another format; ERR_TENSOR_MISSING, ERR_TENSOR_EXTRA or
 * ERR_BAD_CHECKPOINT where shards and index disagree.
 */
export async function readWeights(folder: string, signal: AbortSignal | undefined): Promise<WeightsFile[]> {
  const whole = await readWeightsFile(folder, single);
  if (whole !== undefined) return [whole];
  const listed = await readJsonFile(folder, index);
  if (listed === undefined) return noWeights(folder);

  const files: WeightsFile[] = [];
  const shards = readWeightMap(listed.object);
  for (const name of [...shards.keys()].sort()) {
    throwIfAborted(signal);
    const shard = await readWeightsFile(folder, name);
    if (shard === undefined) fault("ERR_BAD_CHECKPOINT", name, `the file that ${index} names`, "the weights", "no such file");
    files.push(shard);
  }
  checkOwners(files);
  for (const shard of files) checkShard(shard, shards.get(shard.name)!);
  return files;
}
