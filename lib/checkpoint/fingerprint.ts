/** What tells one model from another: two fine-tunes of one architecture share names, shapes, and often every configuration. */

import { createHash } from "node:crypto";
import path from "node:path";

import { packageVersion } from "../package.js";
import { readVocabulary } from "../tokenizer/index.js";
import { throwIfAborted } from "./abort.js";
import { fault } from "./fault.js";
import { withFile, type WeightsFile } from "./files.js";
import type { TensorEntry } from "./types.js";

/** Bytes that are read from the middle of each tensor; all of a 7B model's together are 3 MB. */
const sampleBytes = 4096;

export interface FingerprintParts {
  folder: string;
  /** The bytes of each configuration file that is there. */
  configurations: readonly Uint8Array[];
  weights: readonly WeightsFile[];
  tensors: readonly TensorEntry[];
  signal?: AbortSignal | undefined;
}

/**
 * SHA-256, hexadecimal, over the package version, the configurations, the vocabulary, each weights file's name and header, and
 * 4 KiB of every tensor. Weights that differ only elsewhere are not told apart.
 * @throws HimapError ERR_BAD_CHECKPOINT, ERR_TOO_LARGE, ERR_ABORTED
 */
export async function fingerprintOf({ folder, configurations, weights, tensors, signal }: FingerprintParts): Promise<string> {
  const digest = createHash("sha256");
  // Framed by their lengths, so that no two lists of parts give the same bytes.
  const add = (part: Uint8Array | string): void => void digest.update(`${Buffer.byteLength(part)}:`).update(part);
  add(packageVersion);
  configurations.forEach(add);
  const vocabulary = await readVocabulary(folder);
  if (vocabulary !== undefined) add(vocabulary.bytes);
  for (const [index, { name, header, path: file }] of weights.entries()) {
    throwIfAborted(signal);
    add(name);
    add(header);
    const found = await withFile(path.dirname(file), path.basename(file), async (handle) => {
      const sample = new Uint8Array(sampleBytes);
      for (const tensor of tensors) {
        if (tensor.file !== index) continue;
        const length = Math.min(sampleBytes, tensor.bytes);
        const { bytesRead } = await handle.read(sample, 0, length, tensor.offset + Math.floor((tensor.bytes - length) / 2));
        add(sample.subarray(0, bytesRead));
      }
      return true;
    });
    if (found === undefined) fault("ERR_BAD_CHECKPOINT", name, "a file that stays while it is read", "the checkpoint", "no such file");
  }
  return digest.digest("hex");
}
