/** Opening files that anybody may have put there. */

import { constants } from "node:fs";
import { open, type FileHandle } from "node:fs/promises";

/** Opens a file to be read. Without O_NONBLOCK opening a pipe would wait for whoever is at its other end, past any signal. */
export function openToRead(file: string): Promise<FileHandle> {
  return open(file, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0));
}
