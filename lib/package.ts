/** Where this package lies and which version it is; the same from `lib/` (run from source) and from `dist/lib/`. */

import { existsSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

function findRoot(): string {
  // A bundle in CommonJS form has no URL; nothing of the package lies beside it either.
  const { url } = import.meta as { url?: string };
  let folder = url === undefined ? process.cwd() : path.dirname(fileURLToPath(url));
  while (!existsSync(path.join(folder, "package.json")) && path.dirname(folder) !== folder) folder = path.dirname(folder);
  return folder;
}

/** Absolute path of the folder that holds package.json. */
export const packageRoot = findRoot();

/** package.json's, which a bundle does not have; a test compares them. */
export const packageVersion = "0.1.0";
