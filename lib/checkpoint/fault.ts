import { HimapError, type ErrorCode, type HimapErrorOptions } from "../errors.cjs";

/**
 * Throws the one kind of message that this folder has: the file, what must hold for what, and what came.
 * @param where The file (relative to the checkpoint's folder), and the tensor where there is one.
 */
export function fault(
  code: ErrorCode, where: string, expected: string, subject: string, received: string, options?: HimapErrorOptions,
): never {
  throw new HimapError(code, `${where}: expected ${expected} for ${subject} but received ${received}`, options);
}

/** A tensor's name in quotes. Names are what these messages are about, so only absurd ones are cut. */
export function quote(name: string): string {
  return JSON.stringify(name.length > 200 ? `${name.slice(0, 200)}...` : name);
}

/** Where a message says that a tensor is. */
export function tensorIn(file: string, name: string): string {
  return `${file}, tensor ${quote(name)}`;
}
