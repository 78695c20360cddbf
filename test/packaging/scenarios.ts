/** What an installed package has to do beside the demo: entries, threads, copies, Node's permission model, damaged files. */

import { copyFileSync, cpSync, existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import path from "node:path";

import type { DoctorReport } from "../../lib/types.js";
import { run, runWell, type End } from "../../scripts/command.js";
import { platforms, root } from "../../scripts/prebuilds/check.js";
import { packageOf, type LazyProject, type Project } from "./install.js";
import { expect, Skip, type Table } from "./table.js";
import type { NodeMajor } from "./tools.js";

/** Runs one of the programs with the project's Node. */
export function runProgram(project: Project, args: readonly string[], flags: readonly string[] = []): End {
  return run(project.tools.node, [...flags, ...args], { cwd: project.folder, env: project.env });
}

function answered(project: Project, program: string): string {
  const { status, stdout, output } = runProgram(project, [program]);
  expect(status === 0, `${program} to end well`, `${status}\n${output}`);
  const answer = stdout.split("\n", 1)[0]!;
  expect(/^a red circle.*a green star/.test(answer), `${program} to describe the picture`, output);
  return answer;
}

interface Failure {
  text?: string;
  typed?: boolean;
  code?: string;
  message: string;
  hint?: string;
}

/** What failure.mjs printed. The process has to have lived to its end. */
function failureOf(project: Project, flags: readonly string[] = [], args: readonly string[] = []): Failure {
  const { status, stdout, output } = runProgram(project, ["failure.mjs", ...args], flags);
  expect(status === 0, "the process to live to its end", `${status}\n${output}`);
  return JSON.parse(stdout) as Failure;
}

function expectNoBinary(failure: Failure, message: RegExp, hint: RegExp): string {
  expect(failure.typed === true && failure.code === "ERR_NO_BINARY", "a HimapError ERR_NO_BINARY", failure);
  expect(message.test(failure.message), `a message like ${message}`, failure.message);
  expect(hint.test(failure.hint ?? ""), `a hint like ${hint}`, failure.hint);
  return failure.hint!.slice(0, 60);
}

export function entries(table: Table, area: string, project: LazyProject): void {
  for (const program of ["esm.mjs", "cjs.cjs"]) table.run(area, program, () => answered(project(), program));
  for (const program of ["static.mjs", "static.cjs"]) {
    table.run(area, program, () => {
      const answer = answered(project(), program);
      const { stdout } = runProgram(project(), [program]);
      expect(stdout.includes("himap/linux-x64 names it"), "the binary that the entry names", stdout);
      return answer;
    });
  }
  table.run(area, "worker threads, one ended", () => answered(project(), "worker.mjs"));
  table.run(area, "two copies in one process", () => {
    const second = path.join(project().folder, "second", "node_modules", "himap");
    mkdirSync(path.dirname(second), { recursive: true });
    cpSync(packageOf(project()), second, { recursive: true });
    try {
      return answered(project(), "copies.mjs");
    } finally {
      rmSync(path.join(project().folder, "second"), { recursive: true });
    }
  });
}

export function permissions(table: Table, area: string, project: LazyProject, major: NodeMajor): void {
  const permission = major === 20 ? "--experimental-permission" : "--permission";
  table.run(area, "--no-addons", () => expectNoBinary(failureOf(project(), ["--no-addons"]), /tried .*himap\.glibc\.node/, /--no-addons/));
  table.run(area, "permission, no addons", () =>
    expectNoBinary(failureOf(project(), [permission, "--allow-fs-read=*"]), /himap\.glibc\.node/, /--allow-addons/));
  table.run(area, "permission, addons allowed", () => {
    const { text, ...failure } = failureOf(project(), [permission, "--allow-fs-read=*", "--allow-addons"]);
    expect(text !== undefined, "an answer", failure);
    return text!;
  });
  table.run(area, "permission, package's folder alone", () =>
    expectNoBinary(failureOf(project(), [permission, `--allow-fs-read=${project().folder}/*`, "--allow-addons"]), /linux-x64/, /--allow-fs-read=\/etc\/alpine-release/));
  table.run(area, "permission, checkpoint unreadable", () => {
    const outside = path.resolve(project().folder, "..", "elsewhere");
    const allowed = [`${project().folder}/*`, "/etc/alpine-release"].map((where) => `--allow-fs-read=${where}`);
    const failure = failureOf(project(), [permission, ...allowed, "--allow-addons"], ["{}", outside]);
    expect(failure.typed === true && failure.code === "ERR_INVALID_ARG", "a HimapError ERR_INVALID_ARG", failure);
    expect(/ERR_ACCESS_DENIED/.test(failure.message), "the reason ERR_ACCESS_DENIED", failure.message);
    return failure.message.slice(-60);
  });
}

/** Ways to spoil a file. */
const damages: Record<string, (file: string, spare: string) => void> = {
  missing: (file) => rmSync(file),
  empty: (file) => truncateSync(file, 0),
  "cut short": (file) => truncateSync(file, Math.floor(readFileSync(file).length / 2)),
  "of another architecture": (file, spare) => copyFileSync(spare, file),
  "a text": (file) => writeFileSync(file, "404 Not Found\n".repeat(100)),
};

/** Spoils a file of the installed package for as long as `work` takes. */
function whileDamaged(file: string, spare: string, damage: string, work: () => string): string {
  const kept = `${file}.kept`;
  renameSync(file, kept);
  copyFileSync(kept, file);
  try {
    damages[damage]!(file, spare);
    return work();
  } finally {
    rmSync(file, { force: true });
    renameSync(kept, file);
  }
}

export function damaged(table: Table, area: string, project: LazyProject): void {
  for (const damage of Object.keys(damages)) {
    for (const name of Object.keys(platforms["linux-x64"]!.files)) {
      table.run(area, `${name} ${damage}`, () => {
        const prebuilds = path.join(packageOf(project()), "prebuilds");
        const [file, spare] = ["linux-x64", "linux-arm64"].map((platform) => path.join(prebuilds, platform, name)) as [string, string];
        if (!existsSync(file)) throw new Skip("the tarball has none");
        // The CPU's own library is for another architecture than ARM's, and there is no CUDA for ARM.
        const other = existsSync(spare) ? spare : path.join(prebuilds, "linux-arm64", "libhimap-cpu.so");
        if (damage === "of another architecture" && !existsSync(other)) throw new Skip("the tarball has no binary for linux-arm64");
        return whileDamaged(file, other, damage, () => checkDamaged(project(), name));
      });
    }
  }
}

/** With a file of its package damaged: nothing ends the process, and everything says what is wrong. */
function checkDamaged(project: Project, name: string): string {
  const doctor = runProgram(project, [path.join(packageOf(project), "dist", "lib", "cli", "main.js"), "doctor", "--json"]);
  const report = JSON.parse(doctor.stdout) as DoctorReport;
  if (name === "libhimap-cuda.so") {
    // Its absence is no failure: the CPU answers, and a card that is asked for by name is refused.
    expect(doctor.status === 0 && report.device === "cpu", "the CPU to be taken", report);
    const { message, ...failure } = failureOf(project, [], ['{"device":"cuda"}']);
    expectNoBinary({ message, ...failure }, /libhimap-cuda\.so/, /doctor/);
    return message.slice(-60);
  }
  expect(doctor.status === 1 && report.device === undefined, "doctor to say that no device can be used", report);
  const failure = failureOf(project);
  if (name.endsWith(".node")) expectNoBinary(failure, /himap\.glibc\.node|looked in .*prebuilds/, /install the package again/);
  else expectNoBinary(failure, /libhimap-cpu\.so/, /doctor/);
  return failure.message.slice(-60);
}

export function nothingFits(table: Table, area: string, project: LazyProject): void {
  table.run(area, "no prebuilt binary at all", () => {
    const prebuilds = path.join(packageOf(project()), "prebuilds");
    renameSync(prebuilds, `${prebuilds}.kept`);
    try {
      return expectNoBinary(failureOf(project()), /looked in .*build\/Release \(ENOENT\).*prebuilds\/linux-x64 \(ENOENT\)/, /npx himap build/);
    } finally {
      renameSync(`${prebuilds}.kept`, prebuilds);
    }
  });
}

/** Every example's programs, from the installed package. */
export function examples(table: Table, area: string, project: LazyProject): void {
  const programs = readdirSync(path.join(root, "examples"), { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(".mjs"));
  for (const name of programs.sort()) {
    table.run(area, name, () => {
      const program = path.join(packageOf(project()), "examples", name);
      const { stdout } = runWell(project().tools.node, [program], { cwd: project().folder, env: project().env });
      expect(/circle|square|cross/.test(stdout), "an answer about a picture", stdout);
      return stdout.trim().split("\n").at(-1)!.slice(0, 70);
    });
  }
}
