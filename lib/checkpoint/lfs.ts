/** What a clone without Git LFS has in place of large files. */

import { fault } from "./fault.js";

const start = "version https://git-lfs.github.com/spec";

/** Bytes of a file that tell a pointer. */
export const lfsPointerBytes = start.length;

/** Refuses the file whose first bytes are those of a pointer. @throws HimapError ERR_BAD_CHECKPOINT */
export function refuseLfsPointer(bytes: Uint8Array, name: string): void {
  if (Buffer.from(bytes.subarray(0, start.length)).toString("latin1") !== start) return;
  fault("ERR_BAD_CHECKPOINT", name, "the file itself", "the checkpoint", "a Git LFS pointer to it", {
    hint: "`git lfs pull` in the folder fetches the file",
  });
}
