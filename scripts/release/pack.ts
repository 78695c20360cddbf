/** The tarball as it is published, packed from a copy so that its binaries can be chosen. */

import { copyFileSync, cpSync, mkdirSync, rmSync } from "node:fs";
import path from "node:path";

import { runWell } from "../command.js";
import { root } from "../prebuilds/check.js";

export interface Tarball {
  path: string;
  /** Bytes of the tarball, and of its files unpacked. */
  size: number;
  unpackedSize: number;
  files: { path: string; size: number }[];
}

interface PackReport {
  filename: string;
  size: number;
  unpackedSize: number;
  files: { path: string; size: number }[];
}

/** npm 11 answers with a list, npm 12 with an object of packages by name. */
function npmPack(folder: string, ...args: string[]): PackReport {
  const { stdout } = runWell("npm", ["pack", "--json", "--ignore-scripts", ...args], { cwd: folder, env: process.env });
  return (Object.values(JSON.parse(stdout) as PackReport[] | Record<string, PackReport>))[0]!;
}

/**
 * Packs the package with the platforms of a folder like prebuilds/.
 * @param out folder that gets the tarball, and the copy that it is packed from
 */
export function pack(out: string, prebuilds: string): Tarball {
  const stage = path.join(out, "package");
  rmSync(stage, { recursive: true, force: true });
  for (const { path: file } of npmPack(root, "--dry-run").files) {
    if (file.startsWith("prebuilds/")) continue;
    mkdirSync(path.dirname(path.join(stage, file)), { recursive: true });
    copyFileSync(path.join(root, file), path.join(stage, file));
  }
  cpSync(prebuilds, path.join(stage, "prebuilds"), { recursive: true });
  const report = npmPack(stage, "--pack-destination", out);
  return { path: path.join(out, report.filename), size: report.size, unpackedSize: report.unpackedSize, files: report.files };
}
