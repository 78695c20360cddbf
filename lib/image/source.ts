/** The bytes of an encoded picture, from whatever a caller hands in, never more than the limit. */

import { phrase } from "../check.js";
import { systemClock, type Clock } from "../clock.js";
import { limits } from "../defaults.js";
import { HimapError } from "../errors.cjs";
import { openToRead } from "../open-file.js";
import { orAbort } from "./abort.js";

/** What `readSource` takes: every form of a checked picture that is not decoded yet. */
export type EncodedImage = { path: string } | Uint8Array | Blob | ReadableStream<Uint8Array>;

/**
 * Copies of the bytes, so that the caller may transfer or overwrite its own while they are decoded.
 * @throws ERR_INVALID_ARG, ERR_TOO_LARGE, ERR_BAD_IMAGE for a file that cannot be read, ERR_OUT_OF_MEMORY, ERR_TIMEOUT for a
 * stream that stalls, ERR_ABORTED
 */
export async function readSource(source: EncodedImage, signal: AbortSignal | undefined, clock: Clock = systemClock): Promise<Uint8Array> {
  if (source instanceof Uint8Array) {
    checkLength(source.byteLength);
    return Uint8Array.from(source);
  }
  if (source instanceof Blob) {
    checkLength(source.size);
    return new Uint8Array(await orAbort(source.arrayBuffer(), signal));
  }
  if (source instanceof ReadableStream) return readStream(source, signal, clock);
  return orAbort(readImageFile(source.path), signal);
}

function checkLength(bytes: number): void {
  if (bytes > limits.encodedImageBytes) {
    throw new HimapError("ERR_TOO_LARGE", phrase(`at most ${limits.encodedImageBytes} bytes`, "an encoded image", bytes));
  }
}

/** What the system says where it lacks something at the moment, and which tells nothing of the file. */
const lacks: readonly unknown[] = ["EMFILE", "ENFILE", "ENOMEM", "EAGAIN", "EIO"];

async function readImageFile(file: string): Promise<Uint8Array> {
  try {
    const handle = await openToRead(file);
    try {
      const stat = await handle.stat();
      if (!stat.isFile())
        throw new HimapError(
          "ERR_BAD_IMAGE",
          `expected a regular file for an image but received ${stat.isDirectory() ? "a directory" : "a device or pipe"}`,
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
    const { code = "an error" } = cause as NodeJS.ErrnoException;
    throw new HimapError(
      lacks.includes(code) ? "ERR_OUT_OF_MEMORY" : "ERR_BAD_IMAGE",
      `expected a readable file for an image but received ${code}`,
      { cause },
    );
  }
}

/** A picture that is being read holds a place that others wait for, so it may not stall. @throws ERR_TIMEOUT */
async function nextChunk(reader: ReadableStreamDefaultReader<Uint8Array>, clock: Clock): ReturnType<typeof reader.read> {
  let stop: (() => void) | undefined;
  const stalled = new Promise<never>((_, reject) => {
    stop = clock.after(limits.streamStallMs, () => {
      reject(new HimapError("ERR_TIMEOUT", `expected more of an image's stream within ${limits.streamStallMs} ms but received nothing`));
    });
  });
  try {
    return await Promise.race([reader.read(), stalled]);
  } finally {
    stop?.();
  }
}

async function readStream(stream: ReadableStream<Uint8Array>, signal: AbortSignal | undefined, clock: Clock): Promise<Uint8Array> {
  if (stream.locked) throw new HimapError("ERR_INVALID_ARG", phrase("a stream that nobody reads yet", "image", stream));
  const reader = stream.getReader();
  const chunks: Uint8Array[] = [];
  let length = 0;
  try {
    for (;;) {
      const { done, value } = await orAbort(nextChunk(reader, clock), signal);
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
