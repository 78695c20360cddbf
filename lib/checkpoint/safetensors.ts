/**
 * The safetensors container: u64 length N, N bytes of JSON, data to the end of the file. Every rule of the format is
 * enforced here, because the ranges found are later mapped and read without another look at the JSON.
 */

import type { FileHandle } from "node:fs/promises";

import { fault, quote, tensorIn } from "./fault.js";
import { describe, parseJsonObject, type JsonValue } from "./json.js";
import { lfsPointerBytes, refuseLfsPointer } from "./lfs.js";

/** Limits of this package; the format itself has only the first. */
export const safetensorsLimits = { headerBytes: 100_000_000, tensors: 100_000, rank: 8, nameBytes: 1024 } as const;

/** Bits of an element. Only some types are computed from; all of them may stand in a file. */
const typeBits = new Map<string, number>([
  ["F4", 4], ["F6_E2M3", 6], ["F6_E3M2", 6],
  ["BOOL", 8], ["U8", 8], ["I8", 8], ["F8_E5M2", 8], ["F8_E4M3", 8], ["F8_E8M0", 8], ["F8_E4M3FNUZ", 8], ["F8_E5M2FNUZ", 8],
  ["I16", 16], ["U16", 16], ["F16", 16], ["BF16", 16],
  ["I32", 32], ["U32", 32], ["F32", 32],
  ["C64", 64], ["F64", 64], ["I64", 64], ["U64", 64],
]);

/** A tensor as the file declares it. */
export interface StoredTensor {
  /** As in the file, of whatever generation. */
  name: string;
  /** As in the file: `F16`, `I64`, ... */
  type: string;
  shape: number[];
  /** Bytes from the start of the file. */
  offset: number;
  bytes: number;
}

/** Checks the length that a file begins with; returns N. */
function headerLength(prefix: Uint8Array, fileBytes: number, where: string): number {
  if (fileBytes < 8 || prefix.length < 8) {
    fault("ERR_BAD_CHECKPOINT", where, "at least 8 bytes", "a safetensors file", `${Math.min(fileBytes, prefix.length)}`);
  }
  const declared = new DataView(prefix.buffer, prefix.byteOffset, 8).getBigUint64(0, true);
  if (declared > BigInt(fileBytes - 8)) {
    fault("ERR_BAD_CHECKPOINT", where, `at most ${fileBytes - 8} bytes, what is left of the file`, "the header", `${declared}`);
  }
  if (declared > BigInt(safetensorsLimits.headerBytes)) {
    fault("ERR_TOO_LARGE", where, `at most ${safetensorsLimits.headerBytes} bytes`, "the header", `${declared}`);
  }
  return Number(declared);
}

/** A whole number from 0 that a double holds exactly. */
function size(value: JsonValue | undefined, where: string, subject: string): number {
  if (typeof value !== "number" || !Number.isSafeInteger(value) || value < 0) {
    fault("ERR_BAD_CHECKPOINT", where, "a whole number from 0 to 2^53 - 1", subject, describe(value));
  }
  return value;
}

/** Bytes that a shape takes; products beyond 2^53 are an error, not a rounded number. */
function tensorBytes(shape: number[], bits: number, where: string): number {
  const total = [...shape, bits].reduce((product, factor) => {
    const next = product * factor;
    if (!Number.isSafeInteger(next)) fault("ERR_BAD_CHECKPOINT", where, "less than 2^53 bits", "the tensor", `shape [${shape}]`);
    return next;
  }, 1);
  if (total % 8 !== 0) fault("ERR_BAD_CHECKPOINT", where, "whole bytes", "the tensor", `${total} bits`);
  return total / 8;
}

const tensorKeys = ["dtype", "shape", "data_offsets"];

/** Reads one entry; offsets are still relative to the data. */
function readTensor(name: string, entry: JsonValue, file: string): StoredTensor {
  if (Buffer.byteLength(name) > safetensorsLimits.nameBytes) {
    fault(
      "ERR_TOO_LARGE", file, `at most ${safetensorsLimits.nameBytes} bytes`, "a tensor's name",
      `${quote(name)} of ${Buffer.byteLength(name)}`,
    );
  }
  const where = tensorIn(file, name);
  if (!(entry instanceof Map)) fault("ERR_BAD_CHECKPOINT", where, "an object", "its header entry", describe(entry));
  for (const key of entry.keys()) {
    if (!tensorKeys.includes(key)) fault("ERR_BAD_CHECKPOINT", where, tensorKeys.join(", "), "its header entry", describe(key));
  }
  const type = entry.get("dtype");
  const bits = typeof type === "string" ? typeBits.get(type) : undefined;
  if (typeof type !== "string" || bits === undefined) {
    fault("ERR_BAD_CHECKPOINT", where, "a type of safetensors", "dtype", describe(type));
  }

  const dimensions = entry.get("shape");
  if (!Array.isArray(dimensions)) fault("ERR_BAD_CHECKPOINT", where, "an array", "shape", describe(dimensions));
  if (dimensions.length > safetensorsLimits.rank) {
    fault("ERR_TOO_LARGE", where, `at most ${safetensorsLimits.rank} dimensions`, "shape", `${dimensions.length}`);
  }
  const shape = dimensions.map((dimension) => size(dimension, where, "a dimension of shape"));
  const bytes = tensorBytes(shape, bits, where);

  const range = entry.get("data_offsets");
  if (!Array.isArray(range) || range.length !== 2) fault("ERR_BAD_CHECKPOINT", where, "[begin, end]", "data_offsets", describe(range));
  const begin = size(range[0], where, "data_offsets[0]");
  const end = size(range[1], where, "data_offsets[1]");
  if (end - begin !== bytes) {
    fault(
      "ERR_BAD_CHECKPOINT", where, `${bytes} bytes, as ${type} [${shape}] takes`, "data_offsets",
      `${begin} to ${end}, ${end - begin} bytes`,
    );
  }
  return { name, type, shape, offset: begin, bytes };
}

function checkMetadata(metadata: JsonValue, where: string): void {
  if (!(metadata instanceof Map)) fault("ERR_BAD_CHECKPOINT", where, "an object", "__metadata__", describe(metadata));
  for (const [key, value] of metadata) {
    if (typeof value !== "string") fault("ERR_BAD_CHECKPOINT", where, "a string", `__metadata__ ${describe(key)}`, describe(value));
  }
}

/**
 * Checks a header against the file that it describes.
 * @param bytes The file's first 8 + N bytes; more may follow.
 * @param fileBytes Size of the whole file.
 * @param where The file's name, for messages.
 * @returns The tensors in the order of their bytes: contiguous from the end of the header to the end of the file.
 * @throws HimapError ERR_BAD_CHECKPOINT for anything against the format, ERR_TOO_LARGE beyond `safetensorsLimits`.
 */
export function parseSafetensorsHeader(bytes: Uint8Array, fileBytes: number, where: string): StoredTensor[] {
  const length = headerLength(bytes, fileBytes, where);
  if (bytes.length < 8 + length) fault("ERR_BAD_CHECKPOINT", where, `${8 + length} bytes`, "the header", `${bytes.length}`);
  const text = bytes.subarray(8, 8 + length);
  if (text[0] !== 0x7b) {
    fault(
      "ERR_BAD_CHECKPOINT", where, "`{`", "the first byte of the header",
      length === 0 ? "an empty header" : `0x${text[0]!.toString(16).padStart(2, "0")}`,
    );
  }
  // Per tensor: the entry, its type, two arrays, two offsets, at most 8 dimensions; the rest is for __metadata__.
  const { tensors: most } = safetensorsLimits;
  const header = parseJsonObject(text, where, { depth: 3, values: 20 * most, objects: most + 2 });
  const padding = text.lastIndexOf(0x7d) + 1;
  if (text.subarray(padding).some((byte) => byte !== 0x20)) {
    fault("ERR_BAD_CHECKPOINT", where, "spaces only", "the padding after the header", "other white space");
  }

  const metadata = header.get("__metadata__");
  if (metadata !== undefined) {
    checkMetadata(metadata, where);
    header.delete("__metadata__");
  }
  if (header.size > safetensorsLimits.tensors) {
    fault("ERR_TOO_LARGE", where, `at most ${safetensorsLimits.tensors} tensors`, "the header", `${header.size}`);
  }

  const tensors = Array.from(header, ([name, entry]) => readTensor(name, entry, where));
  // Tensors without bytes stand before the one that begins at the same place.
  tensors.sort((left, right) => left.offset - right.offset || left.bytes - right.bytes);
  let end = 0;
  for (const tensor of tensors) {
    if (tensor.offset !== end) {
      fault("ERR_BAD_CHECKPOINT", tensorIn(where, tensor.name), `${end}, where the tensor before it ends,`, "data_offsets[0]",
        `${tensor.offset}, ${tensor.offset < end ? "an overlap" : "a hole"}`);
    }
    end += tensor.bytes;
    tensor.offset += 8 + length;
  }
  if (8 + length + end !== fileBytes) {
    fault("ERR_BAD_CHECKPOINT", where, `${8 + length + end} bytes, as its header says,`, "the file",
      `${fileBytes}, ${fileBytes < 8 + length + end ? "cut short" : "more than it declares"}`);
  }
  return tensors;
}

/** Reads exactly `length` bytes from the start of a file. */
export async function readStart(file: FileHandle, length: number, where: string): Promise<Uint8Array> {
  const bytes = new Uint8Array(length);
  for (let filled = 0; filled < length; ) {
    const { bytesRead } = await file.read(bytes, filled, length - filled, filled);
    if (bytesRead === 0) fault("ERR_BAD_CHECKPOINT", where, `${length} bytes`, "the start of the file", `${filled}`);
    filled += bytesRead;
  }
  return bytes;
}

/**
 * Reads the header of an open file, and nothing of its data.
 * @returns The tensors, and the 8 + N bytes that declare them.
 */
export async function readSafetensorsHeader(
  file: FileHandle, fileBytes: number, where: string,
): Promise<{ tensors: StoredTensor[]; header: Uint8Array }> {
  const prefix = await readStart(file, Math.min(lfsPointerBytes, fileBytes), where);
  refuseLfsPointer(prefix, where);
  const header = await readStart(file, 8 + headerLength(prefix, fileBytes, where), where);
  return { tensors: parseSafetensorsHeader(header, fileBytes, where), header };
}
