/** The tarball as it is published, packed from a copy so that its binaries can be chosen. */

import { copyFileSync, cpSync, mkdirSync, readdirSync, rmSync, statSync } from "node:fs";
import path from "node:path";

import { runWell } from "../command.js";
import { root } from "../prebuilds/check.js";

export interface Tarball {
  path: string;
  /** Bytes of the tarball, and of its files unpacked. */
  size: number;
  unpackedSize: number;
  files: { path: string; size: number }[];
  /** Where its files lie unpacked. */
  folder: string;
}

interface PackReport {
  filename: string;
  files: { path: string }[];
}

/** npm 11 answers with a list, npm 12 with an object of packages by name. */
function npmPack(folder: string, ...args: string[]): PackReport {
  const { stdout } = runWell("npm", ["pack", "--json", "--ignore-scripts", ...args], { cwd: folder, env: process.env });
  return (Object.values(JSON.parse(stdout) as PackReport[] | Record<string, PackReport>))[0]!;
}

/**
 * Unpacks a tarball to see what it holds.
 * @param out folder that gets its files, in `package`
 */
export function openTarball(out: string, file: string): Tarball {
  const folder = path.join(out, "package");
  rmSync(folder, { recursive: true, force: true });
  runWell("tar", ["--extract", "--gzip", "--file", file, "--directory", out], { cwd: out, env: process.env });
  const files = readdirSync(folder, { recursive: true, encoding: "utf8" }).sort()
    .map((name) => ({ path: name, entry: statSync(path.join(folder, name)) }))
    .filter(({ entry }) => !entry.isDirectory()).map(({ path: name, entry }) => ({ path: name, size: entry.size }));
  return { path: file, size: statSync(file).size, unpackedSize: files.reduce((sum, { size }) => sum + size, 0), files, folder };
}

/**
 * Packs the package with the platforms of a folder like prebuilds/.
 * @param out folder that gets the tarball, the copy that it is packed from, and its files unpacked
 */
export function pack(out: string, prebuilds: string): Tarball {
  const stage = path.join(out, "stage");
  rmSync(stage, { recursive: true, force: true });
  for (const { path: file } of npmPack(root, "--dry-run").files) {
    if (file.startsWith("prebuilds/")) continue;
    mkdirSync(path.dirname(path.join(stage, file)), { recursive: true });
    copyFileSync(path.join(root, file), path.join(stage, file));
  }
  cpSync(prebuilds, path.join(stage, "prebuilds"), { recursive: true });
  return openTarball(out, path.join(out, npmPack(stage, "--pack-destination", out).filename));
}
