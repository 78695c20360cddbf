/**
 * A file of `torch.save`, torch 1.6 or newer: a zip archive of one pickle that describes the tensors and one stored entry
 * for each of their storages. A tensor is a range of the file, so nothing but the pickle is read.
 */

import path from "node:path";

import { fault, quote, tensorIn } from "../lib/checkpoint/fault.js";
import { withFile, type WeightsFile } from "../lib/checkpoint/files.js";
import { lfsPointerBytes, refuseLfsPointer } from "../lib/checkpoint/lfs.js";
import { safetensorsLimits, type StoredTensor } from "../lib/checkpoint/safetensors.js";
import type { WeightsFormat } from "../lib/checkpoint/shards.js";
import { fileSource, type ByteSource } from "./byte-source.js";
import { describePickled, numberOfKey, PickledDict, PickledTensor, pickleLimits, unpickle, type PickleValue } from "./pickle.js";
import { readZip, type ZipEntry } from "./zip.js";

const resave = "load it with a newer torch and save it with safetensors";

/** A file that is no zip archive may be one of the older forms, which is worth saying. */
async function checkMagic(source: ByteSource): Promise<void> {
  const start = await source.read(0, Math.min(source.size, lfsPointerBytes));
  if (start[0] === 0x50 && start[1] === 0x4b) return;
  // The pickle of the magic number 0x1950a86a20f9469cfc6c, protocol 2.
  const legacy = [0x80, 2, 0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
  if (legacy.every((byte, i) => start[i] === byte)) {
    fault("ERR_UNSUPPORTED_FILE", source.name, "a file of torch 1.6 or newer", "the weights", "the form before it", {
      hint: resave,
    });
  }
  refuseLfsPointer(start, source.name);
  fault("ERR_BAD_CHECKPOINT", source.name, "a zip archive", "the weights", "something else");
}

/** The archive's one folder: where `data.pkl` stands. */
function archiveFolder(entries: Map<string, ZipEntry>, name: string): string {
  const pickles = [...entries.keys()].filter((entry) => /^[^/]+\/data\.pkl$/.test(entry));
  if (pickles.length !== 1) {
    const other = pickles.length === 0 ? "none" : pickles.slice(0, 3).map(quote).join(", ");
    fault("ERR_BAD_CHECKPOINT", name, "one data.pkl", "the archive", other);
  }
  const folder = pickles[0]!.slice(0, -"data.pkl".length);
  for (const entry of entries.keys()) {
    if (!entry.startsWith(folder)) fault("ERR_BAD_CHECKPOINT", name, `names under ${quote(folder)}`, "the archive", quote(entry));
  }
  const script = [...entries.keys()].find((entry) => entry === `${folder}constants.pkl` || entry.startsWith(`${folder}code/`));
  if (script !== undefined) {
    fault("ERR_UNSUPPORTED_FILE", name, "a state dict", "the archive", `TorchScript, with ${quote(script)}`, { hint: resave });
  }
  return folder;
}

async function checkByteOrder(source: ByteSource, entry: ZipEntry | undefined): Promise<void> {
  if (entry === undefined) return;
  const order = entry.bytes > 16 ? "" : Buffer.from(await source.read(entry.offset, entry.bytes)).toString("latin1");
  if (order !== "little") fault("ERR_UNSUPPORTED_FILE", source.name, '"little"', "byteorder", quote(order));
}

/** The state dict itself, or the one that a training script put into another dict. */
function stateDict(result: PickleValue, where: string): PickledDict {
  if (!(result instanceof PickledDict)) {
    fault("ERR_UNSUPPORTED_FILE", where, "a dict of tensors", "the pickle", describePickled(result));
  }
  if ([...result.entries.values()].some((value) => value instanceof PickledTensor)) return result;
  for (const key of ["state_dict", "model"]) {
    const inner = result.entries.get(key);
    if (inner instanceof PickledDict) return inner;
  }
  return result;
}

function storedTensor(name: string, value: PickleValue, file: string, offsetOf: (key: string) => number): StoredTensor {
  const number = numberOfKey(name);
  if (number !== undefined) fault("ERR_UNSUPPORTED_FILE", file, "strings", "the keys of the state dict", number);
  if (Buffer.byteLength(name) > safetensorsLimits.nameBytes) {
    fault("ERR_TOO_LARGE", file, `at most ${safetensorsLimits.nameBytes} bytes`, "a tensor's name", `${Buffer.byteLength(name)}`);
  }
  if (!(value instanceof PickledTensor)) {
    fault("ERR_UNSUPPORTED_FILE", tensorIn(file, name), "a tensor", "its value", describePickled(value));
  }
  const { storage, offset, shape, elements } = value;
  return {
    name,
    type: storage.type,
    shape: [...shape],
    offset: offsetOf(storage.key) + offset * storage.size,
    bytes: elements * storage.size,
  };
}

/**
 * Finds the tensors of a `torch.save` archive.
 * @returns In the order of the state dict; two may share bytes.
 * @throws HimapError as `readZip` and `unpickle`; ERR_UNSUPPORTED_FILE for files of before torch 1.6, TorchScript, and anything
 * but a dict of tensors.
 */
export async function readTorchTensors(source: ByteSource): Promise<StoredTensor[]> {
  await checkMagic(source);
  const entries = await readZip(source);
  const folder = archiveFolder(entries, source.name);
  await checkByteOrder(source, entries.get(`${folder}byteorder`));
  const pickle = entries.get(`${folder}data.pkl`)!;
  const where = `${source.name}, data.pkl`;
  if (pickle.bytes > pickleLimits.bytes) {
    fault("ERR_TOO_LARGE", where, `at most ${pickleLimits.bytes} bytes`, "the pickle", `${pickle.bytes}`);
  }
  const entryOf = (key: string): ZipEntry | undefined => entries.get(`${folder}data/${key}`);
  const result = unpickle(await source.read(pickle.offset, pickle.bytes), where, (key) => entryOf(key)?.bytes);
  const { entries: items } = stateDict(result, where);
  if (items.size > safetensorsLimits.tensors) {
    fault("ERR_TOO_LARGE", where, `at most ${safetensorsLimits.tensors}`, "the tensors", `${items.size}`);
  }
  return Array.from(items, ([name, value]) => storedTensor(name, value, source.name, (key) => entryOf(key)!.offset));
}

/** Pickled weights of a checkpoint folder; only the converter reads them. */
export const torchFormat: WeightsFormat = {
  single: "pytorch_model.bin",
  index: "pytorch_model.bin.index.json",
  suffix: ".bin",
  read: (folder, name) =>
    withFile(folder, name, async (file, bytes): Promise<WeightsFile> => ({
      name,
      path: path.resolve(folder, name),
      bytes,
      tensors: await readTorchTensors(fileSource(file, bytes, name)),
      header: new Uint8Array(0),
    })),
};
