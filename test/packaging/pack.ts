/** The tarball as it is published, packed from a copy so that its binaries can be chosen. */

import { spawnSync } from "node:child_process";
import { copyFileSync, cpSync, existsSync, mkdirSync, rmSync } from "node:fs";
import path from "node:path";

import { root } from "../../scripts/prebuilds/check.js";
import { runWell } from "./run.js";

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

/**
 * A folder like prebuilds/ from this checkout's own build, for a machine that made no prebuilds. Its binaries need this
 * machine's glibc.
 */
export function prebuildsOfCheckout(out: string): string {
  const folder = path.join(out, "prebuilds");
  const platform = path.join(folder, `${process.platform}-${process.arch}`);
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(platform, { recursive: true });
  for (const [from, to] of [["himap.node", "himap.glibc.node"], ["libhimap-cpu.so", "libhimap-cpu.so"]] as const) {
    const built = path.join(root, "build", "Release", from);
    if (!existsSync(built)) throw new Error(`expected ${built}: run \`npm run setup\` first`);
    copyFileSync(built, path.join(platform, to));
    spawnSync("strip", ["--strip-all", path.join(platform, to)]);
  }
  return folder;
}
