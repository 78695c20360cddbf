/** What a user's own tools make of the package: a bundler, the TypeScript compiler, a C++ compiler. */

import { copyFileSync, cpSync, existsSync, readdirSync, readFileSync, renameSync, rmSync } from "node:fs";
import path from "node:path";

import type { DoctorReport } from "../../lib/types.js";
import { run, runWell } from "../../scripts/command.js";
import { root } from "../../scripts/prebuilds/check.js";
import { npx, packageOf, type LazyProject, type Project } from "./install.js";
import { expect, Skip, type Table } from "./table.js";

/** Bundled to one file, with its binaries beside it, and run from there. */
function bundle(project: Project, format: "cjs" | "esm"): string {
  const out = path.join(project.folder, `bundle-${format}`);
  const file = path.join(out, `main.${format === "cjs" ? "cjs" : "mjs"}`);
  const banner = 'import { createRequire as makeRequire } from "node:module"; const require = makeRequire(import.meta.url);';
  rmSync(out, { recursive: true, force: true });
  const { output } = runWell(path.join(root, "node_modules", ".bin", "esbuild"), [
    "bundled.mjs", "--bundle", "--platform=node", `--format=${format}`, `--outfile=${file}`, "--loader:.node=copy", "--external:sharp",
    "--log-override:empty-import-meta=silent", ...(format === "esm" ? [`--banner:js=${banner}`] : []),
  ], { cwd: project.folder, env: process.env });
  expect(!/\[WARNING\]/.test(output), "a bundle without warnings", output);
  const libraries = path.join(packageOf(project), "prebuilds", "linux-x64");
  for (const name of readdirSync(libraries)) if (name.endsWith(".so")) copyFileSync(path.join(libraries, name), path.join(out, name));
  // What the bundle does not hold is not there either.
  const code = path.join(packageOf(project), "dist");
  renameSync(code, `${code}.kept`);
  try {
    const { stdout } = runWell(project.tools.node, [file], { cwd: project.folder, env: project.env });
    expect(/^a red circle/.test(stdout) && stdout.includes(out), `an answer from the binary in ${out}`, stdout);
    return `${Math.round(readFileSync(file).length / 1000)} kB`;
  } finally {
    renameSync(`${code}.kept`, code);
  }
}

export function bundles(table: Table, area: string, project: LazyProject): void {
  for (const format of ["cjs", "esm"] as const) table.run(area, `esbuild, ${format}`, () => bundle(project(), format));
}

/** What a user's compiler may be told of modules: below node20 a CommonJS file needs more said where it names a type of an ES module. */
export const moduleModes = ["node16", "nodenext"] as const;

/** Compiles programs that use the package, its declarations checked with them, as strictly as tsc can. */
export function checkTypes({ folder }: Project, mode: (typeof moduleModes)[number]): void {
  runWell(process.execPath, [
    path.join(root, "node_modules", "typescript", "bin", "tsc"), "--ignoreConfig", "--noEmit", "--strict", "--exactOptionalPropertyTypes",
    "--module", mode, "--target", "es2022", "--lib", "es2023,esnext.disposable",
    "--typeRoots", path.join(root, "node_modules", "@types"), "--types", "node", "consumer.mts", "consumer.cts",
  ], { cwd: folder, env: process.env });
}

export function types(table: Table, area: string, project: LazyProject): void {
  for (const mode of moduleModes) {
    table.run(area, `import and require, tsc --module ${mode}`, () => {
      checkTypes(project(), mode);
      return "library declarations checked too";
    });
  }
}

/** `npx himap build` from the package's own sources, where no binary was shipped. */
export function sourceBuild(table: Table, area: string, project: LazyProject): void {
  table.run(area, "no CMake: one clear sentence", () => {
    const { tools, folder, env } = project();
    const { status, output } = run(tools.node, [tools.npx, "himap", "build"], { cwd: folder, env: { ...env, PATH: tools.barePath } });
    expect(status === 1 && /^himap: CMake .* was not found; install it/m.test(output), "exit code 1 and how to get CMake", output);
    return /^himap: .{40}/m.exec(output)![0];
  });
  table.run(area, "compiled, then the demo", () => {
    if (run("cmake", ["--version"], { cwd: root, env: process.env }).status !== 0) throw new Skip("CMake was not found");
    const original = project();
    const folder = `${original.folder}-source`;
    rmSync(folder, { recursive: true, force: true });
    cpSync(original.folder, folder, { recursive: true, verbatimSymlinks: true });
    // nvcc takes minutes, so that it is left out of the PATH.
    const env = { ...original.env, PATH: `${original.tools.barePath}:/usr/bin:/bin`, ...compilerCache() };
    const copy: Project = { ...original, folder, env };
    rmSync(path.join(packageOf(copy), "prebuilds"), { recursive: true });
    try {
      npx(copy, "build");
      const report = JSON.parse(npx(copy, "doctor", "--json").stdout) as DoctorReport;
      expect(report.binary.path === path.join(packageOf(copy), "build", "Release", "himap.node"), "the binary that was built", report.binary);
      expect(/of 8 answers are the same/.test(npx(copy, "demo", "--out", "demo.png").stdout), "the demo's answers", "none");
      return report.binary.why!;
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });
}

/** A cache of compilations serves here as anywhere, where the one who runs this has one. */
function compilerCache(): NodeJS.ProcessEnv {
  const launcher = process.env.CMAKE_CXX_COMPILER_LAUNCHER;
  return launcher && existsSync(`/usr/bin/${launcher}`)
    ? { CMAKE_CXX_COMPILER_LAUNCHER: launcher, CCACHE_DIR: process.env.CCACHE_DIR ?? path.join(process.env.HOME ?? "/root", ".cache", "ccache") }
    : {};
}
