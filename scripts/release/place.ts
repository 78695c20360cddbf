/** A folder that is there whole or not at all. */

import { mkdirSync, renameSync, rmSync } from "node:fs";

/**
 * Makes a folder anew; what stood there goes first. After a failure there is none, and what was made until then stays in
 * `FOLDER.part`, to be looked at.
 * @param fill makes the folder's files in another beside it; throws where the folder may not be there
 */
export function placeWhole(folder: string, fill: (folder: string) => void): void {
  const part = `${folder}.part`;
  for (const old of [folder, part]) rmSync(old, { recursive: true, force: true });
  mkdirSync(part);
  fill(part);
  renameSync(part, folder);
}
