/** Files of a checkpoint folder: regular ones only (a pipe would never end), links followed, as the Hub's cache has them. */

import type { FileHandle } from "node:fs/promises";
import path from "node:path";

import { HimapError } from "../errors.cjs";
import { openToRead } from "../open-file.js";
import { fault } from "./fault.js";
import { parseJsonObject, type JsonObject } from "./json.js";
import { refuseLfsPointer } from "./lfs.js";
import { readSafetensorsHeader, readStart, type StoredTensor } from "./safetensors.js";

/** An index of 100,000 tensors takes about 12 MB and 100,000 values. */
const jsonLimits = { bytes: 32_000_000, depth: 64, values: 1_000_000, objects: 10_000 };

/** Whether an error only says that nothing is there. */
function isAbsent(error: unknown): boolean {
  return (error as NodeJS.ErrnoException).code === "ENOENT";
}

/** What the file system says against reading `name`, as a fault of the checkpoint. */
export function unreadable(name: string, cause: unknown): never {
  const received = (cause as NodeJS.ErrnoException).code ?? String(cause);
  return fault("ERR_BAD_CHECKPOINT", name, "a readable file", "the checkpoint", received, { cause });
}

/** Opens `name` in `folder`, hands it to `use`, and closes it; undefined where there is no such file. */
export async function withFile<T>(folder: string, name: string, use: (file: FileHandle, bytes: number) => Promise<T>): Promise<T | undefined> {
  let file: FileHandle;
  try {
    file = await openToRead(path.join(folder, name));
  } catch (cause) {
    if (isAbsent(cause)) return undefined;
    return unreadable(name, cause);
  }
  try {
    const stat = await file.stat();
    if (!stat.isFile()) {
      const received = stat.isDirectory() ? "a directory" : "a device or pipe";
      fault("ERR_BAD_CHECKPOINT", name, "a regular file", "the checkpoint", received);
    }
    return await use(file, stat.size);
  } catch (cause) {
    if (cause instanceof HimapError) throw cause;
    return unreadable(name, cause);
  } finally {
    await file.close();
  }
}

/** A whole file of at most `limit` bytes; undefined where there is none. */
export function readBoundedFile(folder: string, name: string, limit: number): Promise<Uint8Array | undefined> {
  return withFile(folder, name, async (file, bytes) => {
    if (bytes > limit) fault("ERR_TOO_LARGE", name, `at most ${limit} bytes`, "the file", `${bytes}`);
    const content = await readStart(file, bytes, name);
    refuseLfsPointer(content, name);
    return content;
  });
}

/** A JSON file of the folder, and its text for the fingerprint; undefined where there is none. */
export async function readJsonFile(folder: string, name: string): Promise<{ object: JsonObject; text: Uint8Array } | undefined> {
  const text = await readBoundedFile(folder, name, jsonLimits.bytes);
  return text && { object: parseJsonObject(text, name, jsonLimits), text };
}

/** A weights file, opened no further than its header. */
export interface WeightsFile {
  name: string;
  /** Absolute. */
  path: string;
  bytes: number;
  /** In the order of their bytes. */
  tensors: StoredTensor[];
  /** The bytes that declare them. */
  header: Uint8Array;
}

/** The header of a safetensors file of the folder; undefined where there is none. */
export function readWeightsFile(folder: string, name: string): Promise<WeightsFile | undefined> {
  return withFile(folder, name, async (file, bytes) => ({
    name,
    path: path.resolve(folder, name),
    bytes,
    ...(await readSafetensorsHeader(file, bytes, name)),
  }));
}
