/** The beginning of a safetensors file, as the usual writer makes it, and the names of several. */

export interface TensorToWrite {
  name: string;
  /** As the format names it: `F32`, `F16`, ... */
  type: string;
  shape: readonly number[];
  bytes: number;
}

/**
 * The length, the header and its padding, so that the data begin at a multiple of 8 bytes. The data follow in the order given.
 */
export function safetensorsHeader(tensors: readonly TensorToWrite[]): Uint8Array {
  const header: Record<string, unknown> = { __metadata__: { format: "pt" } };
  let end = 0;
  for (const { name, type, shape, bytes } of tensors) header[name] = { dtype: type, shape, data_offsets: [end, (end += bytes)] };
  const json = Buffer.from(JSON.stringify(header));
  const padded = Math.ceil(json.length / 8) * 8;
  const start = Buffer.alloc(8 + padded, " ");
  start.writeBigUInt64LE(BigInt(padded));
  json.copy(start, 8);
  return start;
}

/** Where the tensors lie that several files share out. */
export const indexFile = "model.safetensors.index.json";

/** Name of one file of `count`, as published checkpoints have it. */
export function shardName(index: number, count: number): string {
  const number = (value: number): string => String(value).padStart(5, "0");
  return count === 1 ? "model.safetensors" : `model-${number(index + 1)}-of-${number(count)}.safetensors`;
}

/** Text of the index of several files. */
export function shardIndex(weightMap: Record<string, string>, totalBytes: number): string {
  return `${JSON.stringify({ metadata: { total_size: totalBytes }, weight_map: weightMap }, undefined, 2)}\n`;
}
