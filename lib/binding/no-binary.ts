/** What to say where no native binary can be loaded: what was tried, and what to do about it on this platform. */

import { HimapError } from "../errors.cjs";
import { packageRoot } from "../package.js";
import { glibcVersion, lookedAt, target } from "./find.js";

/** The platforms that a binary is published for. */
const published = ["linux-x64", "linux-arm64"];
const fromSource = "build it from source with `npx himap build` (needs CMake and a C++17 compiler)";

/** @param file the binary that was chosen but does not load */
export function noBinary(file: string | undefined, cause: unknown): HimapError {
  const { message } = cause as Error;
  return new HimapError(
    "ERR_NO_BINARY",
    `expected a native binary for ${target} but none could be loaded: ${file === undefined ? `looked in ${lookedAt()}` : `tried ${file}: ${message}`}`,
    { hint: hintFor(file, cause as NodeJS.ErrnoException), cause },
  );
}

function hintFor(file: string | undefined, { code, message, ...cause }: NodeJS.ErrnoException & { resource?: string }): string {
  if (code === "ERR_DLOPEN_DISABLED") {
    return "Node was started with --no-addons, or with the permission model (--permission) and without --allow-addons";
  }
  if (code === "ERR_ACCESS_DENIED" || (process.permission && !process.permission.has("fs.read", packageRoot))) {
    return `the permission model keeps a file from being read: start Node with --allow-fs-read=${cause.resource ?? packageRoot} and --allow-addons`;
  }
  if (process.platform !== "linux") {
    return `himap runs on Linux (${published.join(", ")}): use a Linux container${process.platform === "win32" ? " or WSL" : ""}`;
  }
  const glibc = glibcVersion();
  if (/version `GLIBC/.test(message)) return `the C library here is glibc ${glibc}, older than the binary needs: ${fromSource}`;
  if (file !== undefined) return `install the package again, or ${fromSource}`;
  if (glibc === undefined) return `the published binaries need glibc, which this system does not have: ${fromSource}`;
  return published.includes(target) ? `install the package again, or ${fromSource}` : `no binary is published for ${target}: ${fromSource}`;
}
