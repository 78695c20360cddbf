/** The bytes of an encoded picture, from whatever a caller hands in, never more than the limit. */

import { constants } from "node:fs";
import { open } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";

import { phrase } from "../check.js";
import { limits } from "../defaults.js";
import { HimapError } from "../errors.cjs";
import { orAbort } from "./abort.js";

/** What `readSource` takes: every form of `ImageInput` that is not decoded yet. */
export type EncodedImage = { path: string } | URL | Uint8Array | Blob | ReadableStream<Uint8Array>;

/**
 * Copies of the bytes, so that the caller may transfer or overwrite its own while they are decoded.
 * @throws ERR_INVALID_ARG, ERR_TOO_LARGE, ERR_BAD_IMAGE for a file that cannot be read, ERR_ABORTED
 */
export async function readSource(source: EncodedImage, signal: AbortSignal | undefined): Promise<Uint8Array> {
  if (source instanceof Uint8Array) {
    checkLength(source.byteLength);
    return Uint8Array.from(source);
  }
  if (source instanceof Blob) {
    checkLength(source.size);
    return new Uint8Array(await orAbort(source.arrayBuffer(), signal));
  }
  if (source instanceof ReadableStream) return readStream(source, signal);
  return orAbort(readImageFile(filePath(source)), signal);
}

function checkLength(bytes: number): void {
  if (bytes > limits.encodedImageBytes) {
    throw new HimapError("ERR_TOO_LARGE", phrase(`at most ${limits.encodedImageBytes} bytes`, "an encoded image", bytes));
  }
}

function filePath(source: { path: string } | URL): string {
  if (!(source instanceof URL)) {
    if (source.path.length > 0 && !source.path.includes("\0")) return source.path;
    throw new HimapError("ERR_INVALID_ARG", phrase("the path of a file", "image.path", source.path));
  }
  if (source.protocol === "file:") {
    try {
      return fileURLToPath(source);
    } catch (cause) {
      throw new HimapError("ERR_INVALID_ARG", phrase("a file: URL of this machine", "image", source.href), { cause });
    }
  }
  throw new HimapError("ERR_INVALID_ARG", phrase("a file: URL", "image", source.protocol), {
    hint: "nothing is fetched: hand in the bytes",
  });
}

async function readImageFile(file: string): Promise<Uint8Array> {
  // A message may reach a client: it names the file, and not where the server keeps it.
  const name = path.basename(file);
  try {
    // Without O_NONBLOCK opening a pipe would wait for a writer.
    const handle = await open(file, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0));
    try {
      const stat = await handle.stat();
      if (!stat.isFile())
        throw new HimapError(
          "ERR_BAD_IMAGE",
          `${name}: expected a regular file for an image but received ${stat.isDirectory() ? "a directory" : "a device or pipe"}`,
        );
      checkLength(stat.size);
      const bytes = new Uint8Array(stat.size);
      let filled = 0;
      while (filled < bytes.length) {
        const { bytesRead } = await handle.read(bytes, filled, bytes.length - filled, filled);
        if (bytesRead === 0) break; // it became shorter meanwhile
        filled += bytesRead;
      }
      return bytes.subarray(0, filled);
    } finally {
      await handle.close();
    }
  } catch (cause) {
    if (cause instanceof HimapError) throw cause;
    throw new HimapError(
      "ERR_BAD_IMAGE",
      `${name}: expected a readable file for an image but received ${(cause as NodeJS.ErrnoException).code ?? "an error"}`,
      { cause },
    );
  }
}

async function readStream(stream: ReadableStream<Uint8Array>, signal: AbortSignal | undefined): Promise<Uint8Array> {
  if (stream.locked) throw new HimapError("ERR_INVALID_ARG", phrase("a stream that nobody reads yet", "image", stream));
  const reader = stream.getReader();
  const chunks: Uint8Array[] = [];
  let length = 0;
  try {
    for (;;) {
      const { done, value } = await orAbort(reader.read(), signal);
      if (done) break;
      if (!(value instanceof Uint8Array))
        throw new HimapError("ERR_INVALID_ARG", phrase("Uint8Array chunks", "an image's stream", value));
      length += value.byteLength;
      checkLength(length);
      chunks.push(Uint8Array.from(value));
    }
  } catch (cause) {
    // Tells the producer to stop; not awaited, for a producer that hangs must not hang the request.
    reader.cancel(cause).catch(() => undefined);
    if (cause instanceof HimapError) throw cause;
    throw new HimapError("ERR_BAD_IMAGE", "expected a stream that can be read to its end for an image but it failed", { cause });
  }
  const bytes = new Uint8Array(length);
  let offset = 0;
  for (const chunk of chunks) {
    bytes.set(chunk, offset);
    offset += chunk.byteLength;
  }
  return bytes;
}
