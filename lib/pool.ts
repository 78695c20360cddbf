/** How large the KV pool is. */

import type { BackendName, NativeModule } from "./binding/native.js";
import { phrase } from "./check.js";
import type { Checkpoint } from "./checkpoint/index.js";
import { kvShare, limits } from "./defaults.js";
import { HimapError } from "./errors.cjs";
import type { LoadRequest } from "./request/load.js";

export interface Pool {
  kvType: "f32" | "f16" | "bf16";
  /** Bytes of one page, and how many the pool has. */
  pageBytes: number;
  poolPages: number;
}

/**
 * What was asked for; or the device's share of the memory that weights and workspace leave, at most what `maxBatch`
 * prompts of the model's full length take. At least one of these on a CPU, where memory is taken as it is touched, so that a
 * pool larger than the memory of the moment harms nobody who does not fill it, and on a device that does not say what it has.
 * @throws HimapError ERR_INVALID_ARG where not even one page for each layer was asked for, or more than can be counted
 */
export function poolOf(
  { kvType: asked, kvBytes, maxBatch }: LoadRequest, checkpoint: Checkpoint, native: NativeModule, device: BackendName,
): Pool {
  const { config, tensors } = checkpoint;
  const kvType = asked === "auto" ? ownKvType(tensors, device) : asked;
  const pageBytes = native.pageBytes(config.kvHeads, config.headDim, kvType);
  if (kvBytes === "auto") {
    const perPrompt = config.layers * Math.ceil(config.maxPositions / native.pageTokens);
    const free = freeBytes(checkpoint, native, device);
    const share = Math.floor((free ?? 0) * kvShare[device] / pageBytes);
    const least = device === "cpu" || free === undefined ? perPrompt : config.layers;
    return { kvType, pageBytes, poolPages: Math.max(least, Math.min(share, perPrompt * maxBatch)) };
  }
  const poolPages = Math.floor(kvBytes / pageBytes);
  if (poolPages >= config.layers && poolPages <= limits.kvPages) return { kvType, pageBytes, poolPages };
  const expected = poolPages > limits.kvPages
    ? `at most ${limits.kvPages * pageBytes} (${limits.kvPages} pages)`
    : `at least ${config.layers * pageBytes} (${native.pageTokens} tokens in each layer)`;
  throw new HimapError("ERR_INVALID_ARG", `load: ${phrase(expected, "memory.kvBytes", kvBytes)}`);
}

/** Bytes of the device that weights and the largest usual step leave, where the device says what it has. */
function freeBytes({ tensors, manifest }: Checkpoint, native: NativeModule, device: BackendName): number | undefined {
  const free = native.deviceMemory(device)?.free;
  if (free === undefined) return undefined;
  const weights = tensors.reduce((sum, { bytes }) => sum + bytes, 0);
  const { vectors, workspace } = native.memoryOf(manifest, limits.prefillRows, limits.stepImages);
  return Math.max(0, free - weights - vectors - workspace);
}

/** The type that the device computes in (`half_type` of native/engine/engine.cc). */
function ownKvType(tensors: Checkpoint["tensors"], device: BackendName): Pool["kvType"] {
  if (device === "cpu") return "f32";
  return tensors.find(({ name }) => name === "lm_head.weight")?.type === "F16" ? "f16" : "bf16";
}
