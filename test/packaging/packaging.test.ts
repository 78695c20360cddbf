/**
 * The short form of `npm run test:packaging`: the tarball with this checkout's own binaries, its files, and one install
 * with the Node and npm that run this.
 */

import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";

import { test } from "uvu";
import * as assert from "uvu/assert";

import type { DoctorReport } from "../../lib/types.js";
import { runWell } from "../../scripts/command.js";
import { checkPrebuilds } from "../../scripts/prebuilds/check.js";
import { contentFaults, tarballBudget } from "../../scripts/release/contents.js";
import { pack, type Tarball } from "../../scripts/release/pack.js";
import { placeWhole } from "../../scripts/release/place.js";
import { toolFolder } from "./environment.js";
import { checkTypes, moduleModes } from "./build-tools.js";
import { checkDemo, expectCudaOpened, installProject, noDriver, type Project } from "./install.js";
import { prebuildsOfCheckout } from "./checkout.js";
import { runProgram } from "./scenarios.js";
import { tools } from "./tools.js";

const root = fileURLToPath(new URL("../..", import.meta.url));
const ready = ["dist/lib/index.js", "build/Release/himap.node"].every((file) => existsSync(path.join(root, file))) && process.arch === "x64";
if (!ready) console.log("SKIP: dist/ and build/Release are not there, or this is no x86-64 machine");
const packaged = ready ? test : test.skip;

const work = mkdtempSync(path.join(os.tmpdir(), "himap-packaging-"));
test.after(() => rmSync(work, { recursive: true }));

let prebuilds: string;
let tarball: Tarball;
let project: Project;

packaged("the tarball holds what the repository says and nothing else, each file within its budget", () => {
  prebuilds = prebuildsOfCheckout(work);
  tarball = pack(work, prebuilds);
  assert.equal(contentFaults(tarball, ["linux-x64"]), []);
  console.log(`NOTE: ${tarball.files.length} files, ${(tarball.size / 1e6).toFixed(2)} MB without CUDA and linux-arm64`);
});

packaged("a file too many, one too few, one too large, a link that leads nowhere are found", () => {
  const files = tarball.files.filter(({ path: file }) => !["dist/lib/index.js", "docs/images/demo.png"].includes(file));
  files.push({ path: "test/secret.txt", size: 1 }, { path: "README.md", size: 1e6 });
  const faults = contentFaults({ ...tarball, files, size: tarballBudget + 1 }, ["linux-x64"]);
  for (const expected of [
    /test\/secret\.txt does not belong/, /dist\/lib\/index\.js is missing/, /README\.md: expected at most/, /expected a tarball of at most/,
    /README\.md links to docs\/images\/demo\.png, which is not/,
  ]) {
    assert.ok(faults.some((fault) => expected.test(fault)), `${expected} in ${faults.join("; ")}`);
  }
});

packaged("the binaries need the C library alone", () => {
  const lines: string[] = [];
  assert.equal(checkPrebuilds(prebuilds, "99", (line) => lines.push(line)), []);
  for (const line of lines) console.log(`NOTE: ${line}`);
});

packaged("installed without a compiler, it answers", () => {
  mkdirSync(toolFolder, { recursive: true });
  // The checkout's own install has filled this cache.
  const cache = runWell("npm", ["config", "get", "cache"], { cwd: root, env: process.env }).stdout.trim();
  project = installProject(path.join(work, "project"), tarball.path, tools(), "no compiler on the PATH", { cache, args: ["--prefer-offline"] });
  console.log(`NOTE: ${checkDemo(project)}`);
});

packaged("its entries answer too: import, require, and the static ones", () => {
  for (const program of ["esm.mjs", "cjs.cjs", "static.mjs", "static.cjs"]) {
    const { status, stdout, output } = runProgram(project, [program]);
    assert.is(status, 0, `${program}: ${output}`);
    assert.match(stdout, /^a red circle/, program);
  }
});

packaged("the README's first example runs as it stands", () => {
  const example = /^```js\n(.*?)^```/ms.exec(readFileSync(path.join(root, "README.md"), "utf8"))![1]!;
  writeFileSync(path.join(project.folder, "readme.mjs"), example);
  const { status, stdout, output } = runProgram(project, ["readme.mjs"]);
  assert.is(status, 0, output);
  const said = [...example.matchAll(/^console\.log\(.*\/\/ (.*)$/gm)].map(([, comment]) => comment!);
  assert.equal(stdout.split("\n").slice(0, said.length), said, "what its comments say that it prints");
});

packaged("a user's compiler takes its types, with import and require", () => {
  for (const mode of moduleModes) checkTypes(project, mode);
});

test("a release is there whole or not at all", () => {
  const release = path.join(work, "release");
  placeWhole(release, (folder) => writeFileSync(path.join(folder, "SHA256SUMS"), "first"));
  assert.equal(readdirSync(release), ["SHA256SUMS"]);
  assert.throws(() => placeWhole(release, (folder) => {
    writeFileSync(path.join(folder, "SHA256SUMS"), "second");
    throw new Error("its tests failed");
  }), /its tests failed/);
  assert.not.ok(existsSync(release), "neither the failed one nor the one before");
  placeWhole(release, () => undefined);
  assert.equal([readdirSync(release), existsSync(`${release}.part`)], [[], false]);
});

// This checkout's binaries have no CUDA library: the check that the long form makes of one is checked here.
test("a CUDA library that cannot be opened is found", () => {
  const source = readFileSync(path.join(root, "native", "backend", "cuda", "runtime_card.cu"), "utf8");
  assert.ok(source.includes(`"${noDriver}"`), "the library says so in these words");
  const report = (cuda?: { usable: boolean; reason?: string }): DoctorReport => ({ devices: cuda ? [{ name: "cuda", ...cuda }] : [] }) as unknown as DoctorReport;
  expectCudaOpened(report({ usable: true }));
  expectCudaOpened(report({ usable: false, reason: noDriver }));
  for (const reason of ["[backend] libhimap-cuda.so: undefined symbol: cudaFree", "[backend] libhimap-cuda.so does not exist: it was not built", ""]) {
    assert.throws(() => expectCudaOpened(report({ usable: false, reason })), /expected a CUDA library/);
  }
  assert.throws(() => expectCudaOpened(report()), /expected a CUDA library/);
});

test.run();
