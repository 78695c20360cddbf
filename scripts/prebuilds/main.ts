/**
 * Makes prebuilds/, what is published of native code: prebuildify through CMake, from a clean copy of the sources, in a
 * Debian 11 where one can be made and on this machine where not; then checked.
 *   npm run prebuilds -- [--platforms linux-x64,linux-arm64] [--cuda ON|OFF] [--host] [--out prebuilds]
 */

import { spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { parseArgs } from "node:util";

import { checkPrebuilds, glibcLimit, platforms, root } from "./check.js";
import { makeRoot, rootFolder, runInRoot, whyNoRoot } from "./debian-root.js";

/** Everything that the native build reads. */
const sources = ["CMakeLists.txt", "binding.gyp", "kernels", "native", "package.json", "scripts/build"];

export interface PrebuildOptions {
  platforms: readonly string[];
  /** Whether linux-x64 gets the CUDA library; by default where nvcc is. */
  cuda: boolean;
  /** Build on this machine, not in the Debian 11. */
  host: boolean;
  /** Folder that is emptied and filled. */
  out: string;
}

/** The CUDA toolkit's folder, or `undefined` where there is none. */
export function findToolkit(): string | undefined {
  const onPath = spawnSync("sh", ["-c", "command -v nvcc"], { encoding: "utf8" }).stdout.trim();
  const found = [process.env.CUDA_HOME, "/usr/local/cuda", onPath && path.dirname(path.dirname(realpathSync(onPath)))];
  const folder = found.find((one) => one && existsSync(path.join(one, "bin", "nvcc")));
  return folder === undefined ? undefined : realpathSync(folder);
}

/** prebuildify's command for a platform; `node` is how to call Node where it runs. */
function prebuildify(platform: string): string[] {
  const arch = platform.split("-")[1]!;
  return ["node", "node_modules/prebuildify/bin.js", "--napi", "--strip", "--tag-libc", "glibc", "--platform", "linux", "--arch", arch,
    "--strip-bin", arch === process.arch ? "strip" : "aarch64-linux-gnu-strip", "--node-gyp", "./scripts/build/gyp-shim.cjs"];
}

/** @throws Error with what the build printed; with every fault of what it made */
export function makePrebuilds(options: PrebuildOptions): void {
  rmSync(options.out, { recursive: true, force: true });
  const toolkit = options.cuda ? findToolkit() : undefined;
  if (options.cuda && !toolkit) throw new Error("expected nvcc for the CUDA library but it was not found: install the CUDA toolkit, or say --cuda OFF");
  const stage = options.host ? mkdtempSync(path.join(os.tmpdir(), "himap-prebuild-")) : path.join(rootFolder, "himap");
  try {
    for (const platform of options.platforms) {
      rmSync(stage, { recursive: true, force: true });
      mkdirSync(stage, { recursive: true });
      for (const source of sources) cpSync(path.join(root, source), path.join(stage, source), { recursive: true });
      const withCuda = platform === "linux-x64" && toolkit !== undefined;
      const env = {
        HOME: os.tmpdir(),
        PATH: `${withCuda ? `${toolkit}/bin:` : ""}/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin`,
        LC_ALL: "C",
        HIMAP_CUDA: withCuda ? "ON" : "OFF",
        ...(withCuda && { CUDACXX: `${toolkit}/bin/nvcc` }),
      };
      console.log(`building ${platform}${withCuda ? " with CUDA" : ""} ${options.host ? "on this machine" : "in Debian 11"}`);
      const { status, output } = options.host ? runHere(prebuildify(platform), stage, env) : runInRoot({
        command: prebuildify(platform), folder: "/himap", env,
        binds: [
          [process.execPath, "/usr/local/bin/node"], [path.join(root, "node_modules"), "/himap/node_modules"],
          ...(withCuda ? [[toolkit, toolkit] as const] : []),
        ],
      });
      if (status !== 0) throw new Error(`${platform} was not built:\n${output}`);
      cpSync(path.join(stage, "prebuilds", platform), path.join(options.out, platform), { recursive: true });
    }
  } finally {
    rmSync(stage, { recursive: true, force: true });
  }
}

function runHere(command: readonly string[], stage: string, env: NodeJS.ProcessEnv): { status: number; output: string } {
  symlinkSync(path.join(root, "node_modules"), path.join(stage, "node_modules"));
  const [, ...rest] = command;
  // Compiler caches and their like are this machine's own business.
  const result = spawnSync(process.execPath, rest, { cwd: stage, env: { ...process.env, ...env, PATH: `${path.dirname(process.execPath)}:${env.PATH}` }, encoding: "utf8", maxBuffer: 1 << 28 });
  if (result.error) throw result.error;
  return { status: result.status ?? 1, output: `${result.stdout}${result.stderr}` };
}

/** Whether to build here, saying why where that was not asked for. */
export function chooseHost(asked: boolean): boolean {
  const why = asked ? undefined : whyNoRoot();
  if (why === undefined && !asked) makeRoot();
  if (why !== undefined) console.log(`NOTE: built on this machine, whose glibc the binaries then need: no Debian 11 here, ${why}`);
  return asked || why !== undefined;
}

function main(): void {
  const { values } = parseArgs({
    options: {
      platforms: { type: "string", default: Object.keys(platforms).join(",") },
      cuda: { type: "string", default: findToolkit() ? "ON" : "OFF" },
      host: { type: "boolean", default: false },
      out: { type: "string", default: "prebuilds" },
    },
  });
  const out = path.resolve(root, values.out);
  const host = chooseHost(values.host);
  makePrebuilds({ platforms: values.platforms.split(","), cuda: values.cuda === "ON", host, out });
  // On this machine the floor is what it is; it is printed.
  const faults = checkPrebuilds(out, host ? "99" : glibcLimit);
  for (const fault of faults) console.error(`FAIL ${fault}`);
  process.exitCode = faults.length > 0 ? 1 : 0;
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) main();
