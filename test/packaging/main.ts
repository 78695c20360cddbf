/**
 * The tarball as users get it: what it holds, how it installs (each npm with each Node that it supports, four ways), and
 * what the installed package does. Every install answers questions for real.
 *   npm run test:packaging -- [WORD ...] [--tarball FILE | --prebuilds FOLDER]
 * Words choose the cases whose area or name holds one of them. Node programs and versions of npm are fetched once, to
 * build/packaging. --tarball installs that very file, --prebuilds packs this checkout with the binaries of a folder. Without
 * prebuilds/ (npm run prebuilds) they are this checkout's own. Closes with `N passed, N failed, N skipped`.
 */

import { existsSync, mkdirSync, rmSync } from "node:fs";
import path from "node:path";
import { parseArgs } from "node:util";

import { checkPrebuilds, glibcLimit, root } from "../../scripts/prebuilds/check.js";
import { contentFaults } from "../../scripts/release/contents.js";
import { openTarball, pack } from "../../scripts/release/pack.js";
import { bundles, sourceBuild, types } from "./build-tools.js";
import { prebuildsOfCheckout } from "./checkout.js";
import { toolFolder } from "./environment.js";
import { checkDemo, installProject, modes, type Mode, type Project } from "./install.js";
import { arm64, debian11 } from "./machines.js";
import { damaged, entries, examples, nothingFits, permissions } from "./scenarios.js";
import { expect, Table } from "./table.js";
import { combinations, tools, type NodeMajor } from "./tools.js";

const { positionals: words, values } = parseArgs({ allowPositionals: true, options: { tarball: { type: "string" }, prebuilds: { type: "string", default: "prebuilds" } } });
const table = new Table((name) => words.length === 0 || words.some((word) => name.includes(word)));
// Of this run alone, so that two may go on side by side.
const work = path.join(toolFolder, `work-${process.pid}`);
mkdirSync(work, { recursive: true });

const published = path.resolve(root, values.prebuilds);
const checkoutsOwn = values.tarball === undefined && !existsSync(path.join(published, "linux-x64"));
if (checkoutsOwn) console.log("NOTE: prebuilds/ is not there (npm run prebuilds): packed with this checkout's own build, without linux-arm64 and CUDA");
const tarball = values.tarball !== undefined ? openTarball(work, path.resolve(root, values.tarball)) : pack(work, checkoutsOwn ? prebuildsOfCheckout(work) : published);
const prebuilds = path.join(tarball.folder, "prebuilds");
const platforms = ["linux-x64", "linux-arm64"].filter((platform) => existsSync(path.join(prebuilds, platform)));

table.run("tarball", "its files and their sizes", () => {
  const faults = contentFaults(tarball, platforms);
  if (faults.length > 0) throw new Error(faults.join("\n"));
  return `${tarball.files.length} files, ${(tarball.size / 1e6).toFixed(2)} MB packed, ${(tarball.unpackedSize / 1e6).toFixed(2)} MB unpacked`;
});
table.run("tarball", "its binaries", () => {
  const lines: string[] = [];
  const faults = checkPrebuilds(prebuilds, checkoutsOwn ? "99" : glibcLimit, (line) => lines.push(line));
  for (const line of lines) console.log(`     ${line}`);
  if (faults.length > 0) throw new Error(faults.join("\n"));
  return `${lines.length} checked`;
});

const folderOf = (npm: number, node: number, mode: Mode): string => path.join(work, `npm${npm}-node${node}-${mode.replace(/\W+/g, "-")}`);
for (const [npm, node] of combinations) {
  for (const mode of Object.keys(modes) as Mode[]) {
    table.run(`npm ${npm}, node ${node}`, mode, () => {
      const folder = folderOf(npm, node, mode);
      try {
        return checkDemo(installProject(folder, tarball.path, tools(npm, node), mode));
      } finally {
        rmSync(folder, { recursive: true, force: true });
      }
    });
  }
}

const majors: NodeMajor[] = [20, 22, 24, 26];
for (const major of majors) {
  let installed: Project | undefined;
  const project = (): Project => (installed ??= installProject(path.join(work, `node${major}`), tarball.path, tools(major === 20 ? 11 : 12, major), "plain"));
  const area = `installed, node ${major}`;
  entries(table, area, project);
  permissions(table, area, project, major);
  damaged(table, area, project);
  nothingFits(table, area, project);
  examples(table, `example, node ${major}`, project);
  if (major === 24) {
    bundles(table, "bundle", project);
    types(table, "types", project);
    sourceBuild(table, "source build", project);
    debian11(table, "Debian 11", project, majors);
  }
  if (installed) rmSync(installed.folder, { recursive: true, force: true });
}
arm64(table, "linux-arm64, emulated", work, tarball.path, tools(12, 24), [22]);

expect(table.rows.length > 0, "cases of these names", words.join(" "));
rmSync(work, { recursive: true, force: true });
console.log(`\n${path.basename(tarball.path)}, ${(tarball.size / 1e6).toFixed(2)} MB`);
console.log(table.summary);
process.exitCode = table.count("FAIL") > 0 ? 1 : 0;
