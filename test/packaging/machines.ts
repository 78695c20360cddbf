/** The package on machines that this one can play: an older Debian, and an ARM processor. */

import { cpSync, existsSync, mkdirSync, readFileSync, statSync } from "node:fs";
import path from "node:path";

import type { DoctorReport } from "../../lib/types.js";
import { run, runWell } from "../../scripts/command.js";
import { root } from "../../scripts/prebuilds/check.js";
import { hasRoot, runInRoot, whyNoRoot } from "../../scripts/prebuilds/debian-root.js";
import { expectCudaOpened, hasCuda, installProject, packageOf, type LazyProject, type Project } from "./install.js";
import { toolFolder } from "./environment.js";
import { expect, Skip, type Table } from "./table.js";
import { nodeProgram, type NodeMajor, type Tools } from "./tools.js";

/** Installed here, run under glibc 2.31. */
export function debian11(table: Table, area: string, project: LazyProject, majors: readonly NodeMajor[]): void {
  for (const major of majors) {
    table.run(area, `node ${major}, demo and doctor`, () => {
      const why = whyNoRoot() ?? (hasRoot() ? undefined : "none was made: npm run prebuilds makes it");
      if (why !== undefined) throw new Skip(`no Debian 11 here: ${why}`);
      const program = ["node", "/project/node_modules/himap/dist/lib/cli/main.js"];
      const inside = {
        folder: "/project", env: { PATH: "/usr/local/bin:/usr/bin:/bin", LC_ALL: "C.UTF-8", HOME: "/tmp" },
        binds: [[nodeProgram(major), "/usr/local/bin/node"], [project().folder, "/project"]] as const,
      };
      const demo = runInRoot({ ...inside, command: [...program, "demo", "--out", "/tmp/demo.png"] });
      expect(demo.status === 0 && /of 8 answers are the same/.test(demo.output), "the demo's answers", demo.output);
      const { output } = runInRoot({ ...inside, command: [...program, "doctor", "--json"] });
      const report = JSON.parse(output) as DoctorReport;
      expect(report.system.glibc === "2.31", "glibc 2.31", report.system);
      if (hasCuda(project())) expectCudaOpened(report);
      return `glibc 2.31; ${report.binary.path}`;
    });
  }
}

const sysroot = "/usr/aarch64-linux-gnu";

function emulator(): string {
  const names = ["/usr/bin/qemu-aarch64-static", "/usr/bin/qemu-aarch64"];
  const found = names.find((name) => existsSync(name));
  if (!found || !existsSync(path.join(sysroot, "lib", "libc.so.6"))) {
    throw new Skip("qemu-user-static and libstdc++6-arm64-cross are needed to play an ARM processor");
  }
  return found;
}

/** The ARM binary, emulated, under a real Node for ARM. */
export function arm64(table: Table, area: string, work: string, tarball: string, tools: Tools, majors: readonly NodeMajor[]): void {
  let project: Project | undefined;
  for (const major of majors) {
    table.run(area, `node ${major}, demo and doctor`, () => {
      const qemu = emulator();
      project ??= installProject(path.join(work, "arm64"), tarball, tools, "plain", { args: ["--cpu=arm64", "--os=linux", "--libc=glibc"] });
      if (!existsSync(path.join(packageOf(project), "prebuilds", "linux-arm64"))) throw new Skip("the tarball has no binary for linux-arm64");
      const himap = (...args: string[]): string => runWell(qemu, ["-L", sysroot, nodeProgram(major, "arm64"), path.join(packageOf(project!), "dist", "lib", "cli", "main.js"), ...args], {
        cwd: project!.folder, env: project!.env, limit: 1_200_000,
      }).stdout;
      const report = himap("doctor");
      expect(/platform +linux-arm64/.test(report) && /cpu +usable, portable/.test(report), "linux-arm64 with the portable path", report);
      const demo = himap("demo", "--out", "demo.png", "--threads", "2");
      expect(/of 8 answers are the same/.test(demo), "the demo's answers", demo);
      return `${/\d of 8 answers are the same/.exec(demo)![0]}; portable`;
    });
  }
  nativeTests(table, area);
}

/** The native tests, compiled for ARM from a copy of the sources, emulated. */
function nativeTests(table: Table, area: string): void {
  const programs = ["test_core", "test_image", "test_cpu", "test_replay"];
  if (!programs.some((program) => table.wants(area, program))) return;
  const stage = path.join(toolFolder, "arm64-sources");
  let built: string | undefined;
  for (const program of programs) {
    table.run(area, program, () => {
      const qemu = emulator();
      const compiler = "aarch64-linux-gnu-g++";
      if (run(compiler, ["--version"], { cwd: root, env: process.env }).status !== 0) throw new Skip(`${compiler} was not found`);
      built ??= buildTests(stage, compiler, programs);
      const { output } = runWell(qemu, ["-L", sysroot, path.join(built, program)], { cwd: stage, env: process.env, limit: 1_800_000 });
      return /\d+ passed, \d+ failed, \d+ skipped/.exec(output)?.[0] ?? output.trim().split("\n").at(-1)!;
    });
  }
}

/** @returns the folder of the programs */
function buildTests(stage: string, compiler: string, programs: readonly string[]): string {
  for (const source of ["CMakeLists.txt", "package.json", "native", "kernels", "scripts/build", "test/native", "test/golden", "bench/native", "bench/cuda"]) {
    copyChanged(path.join(root, source), path.join(stage, source));
  }
  const env = process.env;
  runWell("cmake", [
    "-S", stage, "-B", path.join(stage, "build", "cmake"), "-DHIMAP_ADDON=OFF", "-DHIMAP_TESTS=ON", "-DHIMAP_CUDA=OFF",
    "-DCMAKE_SYSTEM_NAME=Linux", "-DCMAKE_SYSTEM_PROCESSOR=aarch64", `-DCMAKE_CXX_COMPILER=${compiler}`,
  ], { cwd: stage, env });
  runWell("cmake", ["--build", path.join(stage, "build", "cmake"), "--parallel", "2", "--target", ...programs], { cwd: stage, env, limit: 1_800_000 });
  return path.join(stage, "build", "native-tests");
}

/** Copies what differs, so that only that is compiled again. */
function copyChanged(from: string, to: string): void {
  mkdirSync(path.dirname(to), { recursive: true });
  cpSync(from, to, {
    recursive: true,
    filter: (source, target) => {
      if (!existsSync(target) || statSync(source).isDirectory()) return true;
      return !readFileSync(source).equals(readFileSync(target));
    },
  });
}
