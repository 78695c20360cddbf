/** Other engines, each installed into a folder of its own, never among the project's dependencies. */

import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import path from "node:path";

import { packageRoot } from "../../lib/package.js";

/** The package and the one that holds its binary for this platform. */
const rivals = {
  "node-llama-cpp": { version: "3.22.1", binary: "@node-llama-cpp/linux-x64" },
  "@fugood/llama.node": { version: "1.7.15", binary: "@fugood/node-llama-linux-x64" },
};

export type RivalName = keyof typeof rivals;

const folderOf = (name: RivalName): string => path.join(packageRoot, "build", "rivals", path.basename(name));

/** Folder of an installed rival. */
export function installedAt(name: RivalName): string {
  return path.join(folderOf(name), "node_modules", name);
}

/** Installs a rival for Linux x64 without its packages for graphics cards, unless it is there. Returns name and version. */
export function installRival(name: RivalName): string {
  const { version, binary } = rivals[name];
  const folder = folderOf(name);
  if (!existsSync(installedAt(name))) {
    mkdirSync(folder, { recursive: true });
    writeFileSync(path.join(folder, "package.json"), '{ "private": true }\n');
    const packages = [`${name}@${version}`, `${binary}@${version}`];
    // No optional packages: those are the binaries for other platforms and for CUDA and Vulkan.
    const result = spawnSync("npm", ["install", "--omit=optional", "--ignore-scripts", "--no-audit", "--no-fund", ...packages], {
      cwd: folder, stdio: ["ignore", 2, 2],
    });
    if (result.status !== 0) throw new Error(`expected npm to install ${packages.join(" and ")} into ${folder} but it ended with ${result.status ?? result.error}`);
  }
  return `${name} ${version}`;
}
