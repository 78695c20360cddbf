/** Bytes that are read at any place: a file of any size, or memory in tests. */

import type { FileHandle } from "node:fs/promises";

import { fault } from "../lib/checkpoint/fault.js";
import { unreadable } from "../lib/checkpoint/files.js";
import { openToRead } from "../lib/open-file.js";

export interface ByteSource {
  /** Bytes in all. */
  readonly size: number;
  /** For messages. */
  readonly name: string;
  /** Exactly `length` bytes from `offset`; both must lie within. */
  read(offset: number, length: number): Promise<Uint8Array>;
}

/**
 * Opens a file of a checkpoint for reading.
 * @throws HimapError ERR_BAD_CHECKPOINT where it cannot be read
 */
export function openSource(location: string, name: string): Promise<FileHandle> {
  return openToRead(location).catch((cause: unknown) => unreadable(name, cause));
}

/**
 * Fills `into` from a place of a file.
 * @throws HimapError ERR_BAD_CHECKPOINT where it ends before, or cannot be read
 */
export async function readInto(file: FileHandle, into: Uint8Array, offset: number, name: string): Promise<void> {
  for (let filled = 0; filled < into.length; ) {
    const { bytesRead } = await file
      .read(into, filled, into.length - filled, offset + filled)
      .catch((cause: unknown) => unreadable(name, cause));
    if (bytesRead === 0) {
      fault("ERR_BAD_CHECKPOINT", name, `${offset + into.length} bytes`, "the file", `${offset + filled}, cut short`);
    }
    filled += bytesRead;
  }
}

export function fileSource(file: FileHandle, size: number, name: string): ByteSource {
  return {
    size,
    name,
    async read(offset, length) {
      const bytes = new Uint8Array(length);
      await readInto(file, bytes, offset, name);
      return bytes;
    },
  };
}

export function memorySource(bytes: Uint8Array, name: string): ByteSource {
  return { size: bytes.length, name, read: async (offset, length) => bytes.slice(offset, offset + length) };
}
