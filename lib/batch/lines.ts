/** Files of lines: read with a bound on memory, appended to with a line either whole or, after a crash, cut off at the next start. */

import { constants } from "node:fs";
import { open, type FileHandle } from "node:fs/promises";

import { phrase } from "../check.js";
import { HimapError } from "../errors.cjs";

const chunkBytes = 1 << 18;

/** Milliseconds between two writings to the disk itself. */
const syncEvery = 1000;

export interface Line {
  /** From 1. */
  number: number;
  /** Without its end; `undefined` where it is longer than the limit. */
  bytes: Buffer | undefined;
  /** Bytes of the file up to the line's end, "\n" included. */
  end: number;
  /** Whether it ends with "\n": the last one may not. */
  ended: boolean;
}

/** The lines of a file from its start, each at most `limit` bytes. */
export async function* readLines(handle: FileHandle, limit: number): AsyncGenerator<Line, void> {
  const chunk = Buffer.alloc(chunkBytes);
  let parts: Buffer[] = [];
  let length = 0;
  let [number, end] = [0, 0];
  const line = (ended: boolean): Line => {
    const bytes = length > limit ? undefined : Buffer.concat(parts, length);
    [parts, length] = [[], 0];
    return { number: ++number, bytes, end, ended };
  };
  for (;;) {
    const { bytesRead } = await handle.read(chunk, 0, chunkBytes, end + length);
    if (bytesRead === 0) break;
    let from = 0;
    while (from < bytesRead) {
      const newline = chunk.subarray(0, bytesRead).indexOf(10, from);
      const to = newline < 0 ? bytesRead : newline;
      length += to - from;
      // What is beyond the limit is counted, but not kept.
      if (length <= limit) parts.push(Buffer.from(chunk.subarray(from, to)));
      else parts = [];
      from = to;
      if (newline < 0) continue;
      from += 1;
      end += length + 1;
      yield line(true);
    }
  }
  if (length > 0) {
    end += length;
    yield line(false);
  }
}

/** Whether a file that a crash may have cut short anywhere begins with `mark`, as far as it goes. */
export async function beginsWith(handle: FileHandle, mark: string): Promise<boolean> {
  const { buffer, bytesRead } = await handle.read(Buffer.alloc(mark.length), 0, mark.length, 0);
  return mark.startsWith(buffer.toString("latin1", 0, bytesRead));
}

/**
 * A file that only grows, by whole lines. A line counts as written when the system has it: the end of the process, however
 * sudden, then no longer takes it away. The disk itself is written at most once a second, and at the end.
 */
export class LineFile {
  readonly handle: FileHandle;
  readonly #path: string;
  /** How messages name the file. */
  readonly #where: string;
  #size: number;
  #synced = 0;
  #tail: Promise<void> = Promise.resolve();

  private constructor(handle: FileHandle, file: string, where: string, size: number) {
    this.handle = handle;
    this.#path = file;
    this.#where = where;
    this.#size = size;
  }

  /** Opens a file, and makes an empty one where there is none. @throws HimapError ERR_INVALID_ARG */
  static async open(file: string, where: string): Promise<LineFile> {
    const { O_RDWR, O_CREAT, O_APPEND, O_NONBLOCK = 0 } = constants;
    // Without O_NONBLOCK opening a pipe would wait for whoever is at its other end.
    const handle = await open(file, O_RDWR | O_CREAT | O_APPEND | O_NONBLOCK, 0o666).catch((cause: unknown) => Promise.reject(fileError(file, where, cause)));
    const stat = await handle.stat();
    if (stat.isFile()) return new LineFile(handle, file, where, stat.size);
    await handle.close();
    throw new HimapError("ERR_INVALID_ARG", phrase("a regular file", where, file));
  }

  get size(): number {
    return this.#size;
  }

  /** Cuts the file: what a crash left of a line must not become the start of the next one. */
  async truncate(size: number): Promise<void> {
    await this.handle.truncate(size).catch((cause: unknown) => Promise.reject(fileError(this.#path, this.#where, cause)));
    this.#size = size;
  }

  /** Appends a line, "\n" included. After a failure every further line fails too. @throws HimapError ERR_INVALID_ARG */
  append(line: string): Promise<void> {
    const written = this.#tail.then(() => this.#write(Buffer.from(line)));
    this.#tail = written;
    written.catch(() => undefined); // who awaits it sees it
    return written;
  }

  async #write(bytes: Buffer): Promise<void> {
    try {
      for (let written = 0; written < bytes.length; ) {
        const { bytesWritten } = await this.handle.write(bytes, written, bytes.length - written);
        written += bytesWritten;
      }
      this.#size += bytes.length;
      if (performance.now() - this.#synced < syncEvery) return;
      await this.handle.datasync();
      this.#synced = performance.now();
    } catch (cause) {
      // Half a line is of no use; where it cannot be cut off now, the next start does it.
      await this.handle.truncate(this.#size).catch(() => undefined);
      throw fileError(this.#path, this.#where, cause);
    }
  }

  /** Writes what was appended to the disk itself. @throws HimapError ERR_INVALID_ARG */
  async sync(): Promise<void> {
    await this.#tail;
    await this.handle.datasync().catch((cause: unknown) => Promise.reject(fileError(this.#path, this.#where, cause)));
  }

  async close(): Promise<void> {
    await this.#tail.catch(() => undefined); // told by `append`
    await this.handle.close();
  }
}

export function fileError(file: string, where: string, cause: unknown): HimapError {
  const { code = "unknown error" } = cause as NodeJS.ErrnoException;
  return new HimapError("ERR_INVALID_ARG", `${phrase("a file that can be read and written", where, file)} (${code})`, { cause });
}
