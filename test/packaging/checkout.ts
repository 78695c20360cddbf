/** The binaries of this checkout, laid out as they are published. */

import { spawnSync } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, rmSync } from "node:fs";
import path from "node:path";

import { root } from "../../scripts/prebuilds/check.js";

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
