/** Reads a small safetensors file of F32 tensors whole: reference outputs, not checkpoints. */

import { readFileSync } from "node:fs";

export interface Tensor {
  shape: number[];
  data: Float32Array;
}

export function readTensors(path: string): Map<string, Tensor> {
  const bytes = readFileSync(path);
  const headerBytes = Number(bytes.readBigUInt64LE(0));
  const header = JSON.parse(bytes.toString("utf8", 8, 8 + headerBytes)) as Record<string, { dtype: string; shape: number[]; data_offsets: [number, number] }>;
  const tensors = new Map<string, Tensor>();
  for (const [name, entry] of Object.entries(header)) {
    if (name === "__metadata__") continue;
    if (entry.dtype !== "F32") throw new Error(`${path}: ${name} is ${entry.dtype}`);
    const [begin, end] = entry.data_offsets;
    const copy = bytes.buffer.slice(bytes.byteOffset + 8 + headerBytes + begin, bytes.byteOffset + 8 + headerBytes + end);
    tensors.set(name, { shape: entry.shape, data: new Float32Array(copy) });
  }
  return tensors;
}
