/**
 * Writes a checkpoint whose weights are pickles as one folder of safetensors. Of LLaVA's original layout the vision tower is
 * a checkpoint of its own, which joins the folder. Tensors are copied byte for byte through one buffer, so memory does not
 * grow with the model; the folder appears under its name only once it is complete and has been opened.
 */

import { randomUUID } from "node:crypto";
import { mkdir, open, rename, rm, stat, writeFile, type FileHandle } from "node:fs/promises";
import path from "node:path";

import { Faults } from "../lib/check.js";
import { readConfig, type Layout } from "../lib/checkpoint/config.js";
import { fault } from "../lib/checkpoint/fault.js";
import { readBoundedFile, readJsonFile, type WeightsFile } from "../lib/checkpoint/files.js";
import { openCheckpoint } from "../lib/checkpoint/index.js";
import { describe } from "../lib/checkpoint/json.js";
import { canonicalName, originalTower } from "../lib/checkpoint/names.js";
import { isOriginal, towerConfigFile } from "../lib/checkpoint/original.js";
import { findWeights, safetensors, shardLimit } from "../lib/checkpoint/shards.js";
import { findTensors } from "../lib/checkpoint/tensors.js";
import { HimapError } from "../lib/errors.cjs";
import type { LoadProgress } from "../lib/types.js";
import { abortedError } from "../lib/watch.js";
import { openSource, readInto } from "./byte-source.js";
import { indexFile, safetensorsHeader, shardIndex, shardName } from "./safetensors-writer.js";
import { torchFormat } from "./torch-file.js";

export interface ConvertOptions {
  /** Folder of the CLIP checkpoint that an original checkpoint was trained with. Not for the Hugging Face layout. */
  vision?: string | undefined;
  /** Bytes of tensors in one file, an integer of at least 1; a tensor that is larger has a file of its own. Default 5,000,000,000. */
  shardBytes?: number | undefined;
  /** Bytes copied so far, and in all. */
  onProgress?: ((progress: Pick<LoadProgress, "loaded" | "total">) => void) | undefined;
  signal?: AbortSignal | undefined;
}

export interface Conversion {
  /** Absolute. */
  folder: string;
  layout: Layout;
  files: { name: string; bytes: number }[];
  tensors: number;
  /** Of all tensors. */
  bytes: number;
}

/** A tensor and where its bytes come from. */
interface Copy {
  /** As it is to be stored. */
  name: string;
  type: string;
  shape: number[];
  bytes: number;
  from: WeightsFile;
  offset: number;
}

const defaultShardBytes = 5e9;
const bufferBytes = 8 << 20;
/** Files that go along unchanged where they are there; of generation_config.json a load takes ids only. */
const companions = [
  "generation_config.json", "tokenizer.model", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
  "added_tokens.json",
];
const processors = ["preprocessor_config.json", "processor_config.json"];
const companionLimit = 64_000_000;

async function readFiles(folder: string, names: readonly string[]): Promise<[name: string, bytes: Uint8Array][]> {
  const files: [string, Uint8Array][] = [];
  for (const name of names) {
    const bytes = await readBoundedFile(folder, name, companionLimit);
    if (bytes !== undefined) files.push([name, bytes]);
  }
  return files;
}

async function requireJson(folder: string): Promise<NonNullable<Awaited<ReturnType<typeof readJsonFile>>>> {
  return (
    (await readJsonFile(folder, "config.json")) ??
    fault("ERR_BAD_CHECKPOINT", folder, "config.json", "the checkpoint", "no such file")
  );
}

async function requireWeights(folder: string, signal: AbortSignal | undefined): Promise<WeightsFile[]> {
  const found = (await findWeights(folder, safetensors, signal)) ?? (await findWeights(folder, torchFormat, signal));
  return (
    found ??
    fault(
      "ERR_BAD_CHECKPOINT",
      folder,
      `${safetensors.single}, ${torchFormat.single} or an index of either`,
      "the weights",
      "neither",
    )
  );
}

/** The vision half of a CLIP checkpoint, under the names that LLaVA gives it. */
function towerFiles(files: WeightsFile[]): WeightsFile[] {
  return files.map((file) => ({
    ...file,
    tensors: file.tensors
      .filter(({ name }) => name.startsWith("vision_model."))
      .map((tensor) => ({ ...tensor, name: originalTower + tensor.name })),
  }));
}

/** What is to be written: files with their contents, and tensors. */
interface Job {
  layout: Layout;
  texts: [name: string, bytes: Uint8Array][];
  tensors: Copy[];
}

/** Reads configs and headers, and checks that together they are a complete model. */
async function plan(folder: string, { vision, signal }: ConvertOptions): Promise<Job> {
  const config = await requireJson(folder);
  const original = isOriginal(config.object);
  if (original && vision === undefined) {
    fault("ERR_INVALID_ARG", "weights convert", "the folder of a CLIP checkpoint", "vision", "nothing", {
      hint: `LLaVA's original layout has its vision tower apart; this one's is ${describe(config.object.get("mm_vision_tower"))}`,
    });
  }
  if (!original && vision !== undefined) {
    fault("ERR_INVALID_ARG", "weights convert", "no folder", "vision", JSON.stringify(vision), {
      hint: `${folder} has a vision tower of its own`,
    });
  }
  const tower = vision === undefined ? undefined : await requireJson(vision);
  const generation = await readJsonFile(folder, "generation_config.json");
  const facts = readConfig(config.object, generation?.object, tower?.object);

  let files = await requireWeights(folder, signal);
  if (vision !== undefined && config.object.get("unfreeze_mm_vision_tower") !== true) {
    // LLaVA's code loads the separate tower even where a copy was saved, unless the tower was trained.
    const own = files.map((file) => ({
      ...file,
      tensors: file.tensors.filter(({ name }) => !name.startsWith("model.vision_tower.")),
    }));
    files = [...own, ...towerFiles(await requireWeights(vision, signal))];
  }
  const stored = new Map(files.flatMap(({ tensors }) => tensors.map(({ name }) => [canonicalName(name), name] as const)));
  const tensors = findTensors(facts, files).map((entry): Copy => ({
    ...entry,
    name: stored.get(entry.name) ?? entry.name,
    from: files[entry.file]!,
  }));
  return {
    layout: facts.layout,
    texts: [
      ["config.json", config.text],
      ...(tower ? [[towerConfigFile, tower.text] as [string, Uint8Array]] : []),
      ...(await readFiles(folder, companions)),
      ...(await readFiles(vision ?? folder, processors)),
    ],
    // A tied head has no bytes of its own.
    tensors: tensors.filter(({ name }) => !(facts.tiedHead && canonicalName(name) === "lm_head.weight")),
  };
}

function checkShardBytes(value: number): number {
  const faults = new Faults();
  const bytes = faults.number(value, "shardBytes", { min: 1, max: Number.MAX_SAFE_INTEGER, integer: true });
  faults.raise("weights convert");
  return bytes!;
}

/** Runs of tensors of at most `shardBytes`, within each the wider types first, so that every tensor is aligned. */
function shardsOf(tensors: Copy[], shardBytes: number): Copy[][] {
  const shards: Copy[][] = [[]];
  let bytes = 0;
  for (const tensor of tensors) {
    if (bytes > 0 && bytes + tensor.bytes > shardBytes) {
      shards.push([]);
      bytes = 0;
    }
    shards.at(-1)!.push(tensor);
    bytes += tensor.bytes;
  }
  if (shards.length > shardLimit) {
    fault("ERR_INVALID_ARG", "weights convert", `at most ${shardLimit} files`, `shardBytes ${shardBytes}`, `${shards.length}`);
  }
  const width = ({ type }: Copy): number => (type === "F32" ? 4 : 2);
  return shards.map((shard) => [...shard].sort((left, right) => width(right) - width(left)));
}

async function writeAll(file: FileHandle, bytes: Uint8Array): Promise<void> {
  for (let written = 0; written < bytes.length; ) written += (await file.write(bytes, written)).bytesWritten;
}

/** Copies tensors into one new file through `buffer`. */
async function writeShard(to: string, shard: Copy[], buffer: Uint8Array, onBytes: (bytes: number) => void): Promise<number> {
  const file = await open(to, "wx");
  const sources = new Map<string, FileHandle>();
  try {
    const header = safetensorsHeader(shard);
    await writeAll(file, header);
    for (const { from, offset, bytes } of shard) {
      const source = sources.get(from.path) ?? (await openSource(from.path, from.path));
      sources.set(from.path, source);
      for (let done = 0; done < bytes; ) {
        const piece = buffer.subarray(0, Math.min(buffer.length, bytes - done));
        await readInto(source, piece, offset + done, from.path);
        await writeAll(file, piece);
        done += piece.length;
        onBytes(piece.length);
      }
    }
    await file.sync();
    return header.length + shard.reduce((sum, { bytes }) => sum + bytes, 0);
  } finally {
    for (const handle of [file, ...sources.values()]) await handle.close();
  }
}

async function write(
  into: string,
  texts: Job["texts"],
  shards: Copy[][],
  { onProgress, signal }: ConvertOptions,
): Promise<Conversion["files"]> {
  for (const [name, bytes] of texts) await writeFile(path.join(into, name), bytes, { flag: "wx" });
  const total = shards.flat().reduce((sum, { bytes }) => sum + bytes, 0);
  const buffer = new Uint8Array(bufferBytes);
  const weightMap: Record<string, string> = {};
  const files: Conversion["files"] = [];
  let loaded = 0;
  for (const [index, shard] of shards.entries()) {
    const name = shardName(index, shards.length);
    const bytes = await writeShard(path.join(into, name), shard, buffer, (count) => {
      if (signal?.aborted) throw abortedError("weights convert", signal.reason);
      onProgress?.({ loaded: (loaded += count), total });
    });
    files.push({ name, bytes });
    for (const tensor of shard) weightMap[tensor.name] = name;
  }
  if (shards.length > 1) await writeFile(path.join(into, indexFile), shardIndex(weightMap, total), { flag: "wx" });
  return files;
}

/** What the file system says against writing, said as a failure of this package; reading has its own. */
function adoptWriteError(cause: unknown, out: string): unknown {
  const code = (cause as NodeJS.ErrnoException).code;
  if (cause instanceof HimapError || typeof code !== "string") return cause;
  const expected = code === "ENOTEMPTY" || code === "EEXIST" ? "no such folder yet" : "a place that can be written";
  const message = `${out}: expected ${expected} for the converted folder but received ${code}`;
  return new HimapError("ERR_INVALID_ARG", message, { cause });
}

/**
 * Converts a folder: LLaVA's original layout with its separate CLIP checkpoint, or the Hugging Face layout saved as pickles.
 * Configs, tokenizer and names of tensors stay what they are, so the result is prepared for, prompted and padded as before.
 * @param folder The checkpoint; pickles are described by a restricted reader, nothing in them is run.
 * @param out A folder that does not exist yet.
 * @throws HimapError as `openCheckpoint` and `readTorchTensors`; ERR_BAD_CHECKPOINT also where a source cannot be read to its
 * end; ERR_INVALID_ARG where `out` exists or cannot be written, `vision` is missing or superfluous, or `shardBytes` is no
 * integer of at least 1 or asks for more than 1000 files; ERR_ABORTED: `options.signal` fired.
 */
export async function convertCheckpoint(folder: string, out: string, options: ConvertOptions = {}): Promise<Conversion> {
  const shardBytes = checkShardBytes(options.shardBytes ?? defaultShardBytes);
  const target = path.resolve(out);
  const exists = await stat(target).then(() => true, () => false);
  if (exists) {
    fault("ERR_INVALID_ARG", out, "no such folder yet", "the converted folder", "one that exists", {
      hint: "nothing is overwritten",
    });
  }
  const { layout, texts, tensors } = await plan(folder, options);
  const shards = shardsOf(tensors, shardBytes);
  const partial = `${target}.partial-${randomUUID()}`;
  try {
    await mkdir(partial);
    const files = await write(partial, texts, shards, options);
    await openCheckpoint(partial, { signal: options.signal });
    await rename(partial, target);
    return {
      folder: target,
      layout,
      files,
      tensors: tensors.length,
      bytes: tensors.reduce((sum, { bytes }) => sum + bytes, 0),
    };
  } catch (cause) {
    await rm(partial, { recursive: true, force: true });
    throw adoptWriteError(cause, out);
  }
}
