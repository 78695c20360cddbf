/** The tarball installed as a user does it, and asked to work. */

import { cpSync, existsSync, mkdirSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

import type { DoctorReport } from "../../lib/types.js";
import { runWell } from "../../scripts/command.js";
import { cleanEnvironment } from "./environment.js";
import { expect } from "./table.js";
import type { Tools } from "./tools.js";

/** The ways to install. */
export const modes = {
  plain: { bare: false, args: [] },
  "--ignore-scripts": { bare: false, args: ["--ignore-scripts"] },
  "no compiler on the PATH": { bare: true, args: [] },
  "--offline": { bare: true, args: ["--offline"] },
} as const satisfies Record<string, { bare: boolean; args: readonly string[] }>;
export type Mode = keyof typeof modes;

export interface Project {
  folder: string;
  tools: Tools;
  env: NodeJS.ProcessEnv;
}

/** A project that is installed when it is first asked for. */
export type LazyProject = () => Project;

const programs = fileURLToPath(new URL("programs", import.meta.url));

export interface InstallOptions {
  /** More arguments for npm. */
  args?: readonly string[];
  /** Folder of npm's cache. */
  cache?: string;
}

/** A new folder with the tarball installed in it, and the tests' programs. */
export function installProject(folder: string, tarball: string, tools: Tools, mode: Mode, options: InstallOptions = {}): Project {
  const { bare, args } = modes[mode];
  const env = cleanEnvironment(bare ? tools.barePath : tools.wholePath, options.cache);
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  writeFileSync(path.join(folder, "package.json"), '{ "name": "a-project", "private": true }\n');
  const { output } = runWell(tools.node, [tools.npm, "install", ...args, ...(options.args ?? []), tarball], { cwd: folder, env });
  expect(!/npm (warn|error)/i.test(output), "npm to install without a warning", output);
  cpSync(programs, folder, { recursive: true });
  return { folder, tools, env };
}

export const packageOf = (project: Project): string => path.join(project.folder, "node_modules", "himap");

/** Runs `npx himap ...` as the project's user would. */
export function npx(project: Project, ...args: string[]): ReturnType<typeof runWell> {
  return runWell(project.tools.node, [project.tools.npx, "himap", ...args], { cwd: project.folder, env: project.env });
}

/** What a CUDA library says that was opened and found no driver (native/backend/cuda/runtime_card.cu). */
export const noDriver = "no NVIDIA driver was found on this machine";

/**
 * With the package's CUDA library: that it can be used, or was opened and misses the driver alone. One that cannot be opened
 * is "off" as well, and nobody without a card would notice.
 */
export function expectCudaOpened({ devices }: DoctorReport): void {
  const cuda = devices.find(({ name }) => name === "cuda");
  expect(cuda?.usable === true || cuda?.reason === noDriver, `a CUDA library that is usable or says "${noDriver}"`, cuda ?? devices);
}

export const hasCuda = (project: Project): boolean => existsSync(path.join(packageOf(project), "prebuilds", "linux-x64", "libhimap-cuda.so"));

/** The demo, from the binary that was prebuilt; says what it printed last. */
export function checkDemo(project: Project): string {
  const picture = path.join(project.folder, "demo.png");
  const { stdout } = npx(project, "demo", "--out", picture);
  const same = /(\d) of 8 answers are the same/.exec(stdout);
  expect(same !== null && stdout.includes("yellow star"), "the demo to answer its eight questions", stdout);
  expect(existsSync(picture) && statSync(picture).size > 10_000, "the demo's picture", picture);
  const report = JSON.parse(npx(project, "doctor", "--json").stdout) as DoctorReport;
  const expected = path.join(packageOf(project), "prebuilds");
  expect(report.binary.path?.startsWith(expected) === true, `a binary in ${expected}`, report.binary);
  expect(!readdirSync(packageOf(project)).includes("build"), "nothing to be built", "build/");
  if (hasCuda(project)) expectCudaOpened(report);
  return `${same![0]}; ${report.devices.map(({ name, usable, reason, detail }) => (usable ? `${name} ${detail}` : `${name} off: ${reason?.split("/").at(-1)}`)).join(", ")}`;
}
