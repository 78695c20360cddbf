/**
 * Reads the binaries that are published and fails on surprises: what they need of the machine, what they export, what of
 * the build is left in them, how large they are.
 *   node --import tsx scripts/prebuilds/check.ts [--folder prebuilds] [--glibc 2.28]
 */

import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { parseArgs } from "node:util";

export const root = fileURLToPath(new URL("../..", import.meta.url));

/** The C library that a published binary may ask for at most: Node's own floor. */
export const glibcLimit = "2.28";

interface FileRule {
  /** Largest size, bytes. */
  budget: number;
  /** The only symbols that it may export. */
  exports: readonly string[];
}

const addon: FileRule = { budget: 1_200_000, exports: ["napi_register_module_v1", "node_api_module_get_api_version_v1"] };
const backend = (budget: number): FileRule => ({ budget, exports: ["himap_backend"] });

/** What each platform's folder must hold; `optional` is what a build without nvcc lacks. */
export const platforms: Record<string, { machine: string; files: Record<string, FileRule>; optional?: string }> = {
  "linux-x64": {
    machine: "Advanced Micro Devices X86-64",
    files: { "himap.glibc.node": addon, "libhimap-cpu.so": backend(3_000_000), "libhimap-cuda.so": backend(20_000_000) },
    optional: "libhimap-cuda.so",
  },
  "linux-arm64": { machine: "AArch64", files: { "himap.glibc.node": addon, "libhimap-cpu.so": backend(3_000_000) } },
};

/** The C library's own files. */
const allowedLibraries = /^(libc|libm|libdl|libpthread|librt|ld-linux-x86-64|ld-linux-aarch64)\.so\.\d+$/;

export interface Binary {
  machine: string;
  /** Libraries that it needs. */
  needed: string[];
  /** Versions of symbols that it needs, e.g. `GLIBC_2.14`. */
  versions: string[];
  exported: string[];
  /** Where it looks for libraries beside the system's own places. */
  runPath: string[];
  executableStack: boolean;
  textRelocations: boolean;
}

/** @throws Error where readelf is missing or the file is no ELF file */
export function readBinary(file: string): Binary {
  const { status, stdout, stderr, error } = spawnSync("readelf", ["--wide", "--file-header", "--program-headers", "--dynamic", "--version-info", "--dyn-syms", file], {
    encoding: "utf8", maxBuffer: 1 << 28, env: { ...process.env, LC_ALL: "C" },
  });
  if (error) throw new Error(`readelf could not run, install binutils: ${error.message}`);
  if (status !== 0 || stderr.includes("Error")) throw new Error(`${file}: ${stderr.trim()}`);
  const all = (pattern: RegExp): string[] => [...stdout.matchAll(pattern)].map((match) => match[1]!);
  const needs = /Version needs section[\s\S]*?(?=\n\n|$)/.exec(stdout)?.[0] ?? "";
  return {
    machine: all(/^ +Machine: +(.+)$/gm)[0] ?? "unknown",
    needed: all(/\(NEEDED\).*\[(.+)\]/g),
    versions: [...new Set([...needs.matchAll(/Name: (\S+)/g)].map((match) => match[1]!))],
    exported: all(/^ +\d+: +[0-9a-f]+ +\d+ +(?:FUNC|OBJECT|IFUNC|NOTYPE|TLS|UNIQUE) +(?:GLOBAL|WEAK|UNIQUE) +\S+ +(?!UND)\S+ +([^\s@]+)/gm),
    runPath: all(/\((?:RPATH|RUNPATH)\).*\[(.+)\]/g),
    executableStack: /GNU_STACK.* RWE /.test(stdout),
    textRelocations: /\(TEXTREL\)/.test(stdout),
  };
}

/** Orders versions like 2.4 and 2.28 as numbers. */
export function compareVersions(a: string, b: string): number {
  const [left, right] = [a, b].map((text) => text.split(".").map(Number));
  for (let i = 0; i < Math.max(left!.length, right!.length); i++) {
    const difference = (left![i] ?? 0) - (right![i] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}

/** The newest glibc that is asked for, `0` where none is. */
export function glibcFloor(versions: readonly string[]): string {
  return versions.flatMap((name) => /^GLIBC_(\d.*)$/.exec(name)?.[1] ?? []).sort(compareVersions).at(-1) ?? "0";
}

/** Every way in which a binary is not what may be published. */
export function faultsOf(name: string, bytes: Uint8Array, binary: Binary, machine: string, rule: FileRule, glibc: string): string[] {
  const faults: string[] = [];
  const expect = (holds: boolean, text: string): void => void (holds || faults.push(`${name}: ${text}`));
  expect(binary.machine === machine, `expected machine code for ${machine} but received ${binary.machine}`);
  for (const library of binary.needed) expect(allowedLibraries.test(library), `needs ${library}, which is not of the C library`);
  for (const version of binary.versions) expect(version.startsWith("GLIBC_"), `needs the symbol version ${version}`);
  const floor = glibcFloor(binary.versions);
  expect(compareVersions(floor, glibc) <= 0, `expected at most glibc ${glibc} but it needs ${floor}`);
  expect(String([...binary.exported].sort()) === String([...rule.exports].sort()), `expected to export ${rule.exports.join(", ")} but it exports ${binary.exported.join(", ")}`);
  for (const where of binary.runPath) expect(where === "$ORIGIN", `looks for libraries in ${where}`);
  expect(!binary.executableStack, "asks for an executable stack");
  expect(!binary.textRelocations, "has relocations in its code");
  expect(bytes.length <= rule.budget, `expected at most ${rule.budget} bytes but received ${bytes.length}`);
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("latin1");
  const left = new Set(text.match(/\/(?:himap|tmp|home|root|work|build)\/[\w./+-]*\.(?:cc|cu|cuh|h|o)\b/g));
  expect(left.size === 0, `names files of the machine that built it: ${[...left].slice(0, 3).join(", ")}`);
  return faults;
}

/**
 * Checks every platform's folder in `folder` and prints what it found.
 * @returns all faults
 */
export function checkPrebuilds(folder: string, glibc = glibcLimit, print: (line: string) => void = console.log): string[] {
  const faults: string[] = [];
  for (const platform of readdirSync(folder).sort()) {
    const rules = platforms[platform];
    if (!rules) {
      faults.push(`${platform}: not a platform that is published`);
      continue;
    }
    const found = readdirSync(path.join(folder, platform)).sort();
    for (const name of found) if (!(name in rules.files)) faults.push(`${platform}/${name}: not a file that is published`);
    for (const [name, rule] of Object.entries(rules.files)) {
      const file = path.join(folder, platform, name);
      if (!existsSync(file)) {
        if (name !== rules.optional) faults.push(`${platform}/${name}: missing`);
        else print(`${platform}/${name}: not built`);
        continue;
      }
      const [bytes, binary] = [readFileSync(file), readBinary(file)];
      faults.push(...faultsOf(`${platform}/${name}`, bytes, binary, rules.machine, rule, glibc));
      print(`${`${platform}/${name}`.padEnd(32)}${String(bytes.length).padStart(9)} bytes  glibc ${glibcFloor(binary.versions).padEnd(5)}  needs ${binary.needed.join(" ")}`);
    }
  }
  return faults;
}

function main(): void {
  const { values } = parseArgs({ options: { folder: { type: "string", default: "prebuilds" }, glibc: { type: "string", default: glibcLimit } } });
  const faults = checkPrebuilds(path.resolve(root, values.folder), values.glibc);
  for (const fault of faults) console.error(`FAIL ${fault}`);
  process.exitCode = faults.length > 0 ? 1 : 0;
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) main();
