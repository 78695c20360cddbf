/**
 * A Debian 11 in a folder, where release binaries are built: its glibc is old enough for every system that runs Node, which
 * the symbols of a newer one are not. Made once (a few minutes); needs root, debootstrap and Debian's packages.
 */

import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";

const packages = ["binutils", "cmake", "g++", "g++-aarch64-linux-gnu", "make"];
const stamp = ".himap-root";
const wanted = packages.join(" ");

export const rootFolder = process.env.HIMAP_DEBIAN_ROOT ?? path.join(os.homedir(), ".cache", "himap", "debian-11");
const mirror = process.env.HIMAP_DEBIAN_MIRROR ?? "http://deb.debian.org/debian";

/** Why no root can be made or used here, or `undefined`. */
export function whyNoRoot(): string | undefined {
  if (process.platform !== "linux" || process.arch !== "x64") return "it needs an x86-64 Linux";
  if (process.getuid?.() !== 0) return "it needs root, to mount and to change the root folder";
  for (const tool of ["chroot", "unshare", ...(hasRoot() ? [] : ["debootstrap"])]) {
    if (spawnSync(tool, ["--version"], { stdio: "ignore" }).error) return `${tool} was not found`;
  }
  return undefined;
}

export const hasRoot = (): boolean => existsSync(path.join(rootFolder, stamp));

/** Makes the root where there is none. @throws Error with what debootstrap said */
export function makeRoot(): void {
  if (hasRoot()) return;
  console.log(`making a Debian 11 in ${rootFolder}`);
  rmSync(rootFolder, { recursive: true, force: true });
  mkdirSync(rootFolder, { recursive: true });
  const { status, stdout, stderr, error } = spawnSync(
    "debootstrap", ["--variant=minbase", `--include=${packages.join(",")}`, "bullseye", rootFolder, mirror], { encoding: "utf8", maxBuffer: 1 << 26 },
  );
  if (error || status !== 0) throw new Error(`debootstrap failed: ${error?.message ?? `${stdout}${stderr}`.slice(-2000)}`);
  writeFileSync(path.join(rootFolder, stamp), `${wanted}\n`);
}

export interface RootCommand {
  /** Inside, with its arguments. */
  command: readonly string[];
  /** Working folder inside. */
  folder: string;
  /** Folders and files that are seen inside, from outside to inside. */
  binds: readonly (readonly [from: string, to: string])[];
  env: NodeJS.ProcessEnv;
}

const quote = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`;

/**
 * Runs a command inside. Its mounts are in a space of names of their own, and go when it ends.
 * @returns its exit code and what it printed
 */
export function runInRoot({ command, folder, binds, env }: RootCommand): { status: number; output: string } {
  const lines = ["set -e", `mount -t proc proc ${quote(path.join(rootFolder, "proc"))}`, `mount --rbind /dev ${quote(path.join(rootFolder, "dev"))}`];
  for (const [from, to] of binds) {
    const [source, place] = [realpathSync(from), quote(path.join(rootFolder, to))];
    lines.push(`if [ -d ${quote(source)} ]; then mkdir -p ${place}; else mkdir -p "$(dirname ${place})"; touch ${place}; fi`);
    lines.push(`mount --bind ${quote(source)} ${place}`);
  }
  const inside = `cd ${quote(folder)} && exec ${command.map(quote).join(" ")}`;
  const variables = Object.entries(env).map(([name, value]) => quote(`${name}=${value}`)).join(" ");
  lines.push(`exec chroot ${quote(rootFolder)} env -i ${variables} sh -c ${quote(inside)}`);
  const { status, stdout, stderr, error } = spawnSync("unshare", ["--mount", "sh", "-c", lines.join("\n")], { encoding: "utf8", maxBuffer: 1 << 28 });
  if (error) throw error;
  return { status: status ?? 1, output: `${stdout}${stderr}` };
}
