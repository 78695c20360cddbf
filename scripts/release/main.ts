/**
 * Makes a release in release/: binaries and tarball, built twice from nothing and compared, checked, with their SHA-256 and
 * an SBOM. release/ is there only where the packaging tests then passed on it. Publishing it is
 * `npm publish release/himap-VERSION.tgz`.
 *   npm run release -- [--platforms linux-x64,linux-arm64] [--cuda ON|OFF] [--host] [--once] [--dirty] [--untested]
 * --once builds once, --dirty allows changes that are not committed, --untested leaves the packaging tests out. A release
 * without CUDA has to be asked for, with --cuda OFF.
 */

import { cpSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { parseArgs } from "node:util";

import { runWell } from "../command.js";
import { checkPrebuilds, glibcLimit, platforms, root } from "../prebuilds/check.js";
import { chooseHost, findToolkit, makePrebuilds } from "../prebuilds/main.js";
import { contentFaults } from "./contents.js";
import { pack, type Tarball } from "./pack.js";
import { placeWhole } from "./place.js";
import { sbomText, sha256 } from "./sbom.js";

const { values } = parseArgs({
  options: {
    platforms: { type: "string", default: Object.keys(platforms).join(",") },
    cuda: { type: "string", default: "ON" },
    host: { type: "boolean", default: false },
    once: { type: "boolean", default: false },
    dirty: { type: "boolean", default: false },
    untested: { type: "boolean", default: false },
  },
});
const wanted = values.platforms.split(",");
const cuda = values.cuda === "ON" && wanted.includes("linux-x64");
const here = { cwd: root, env: process.env };
const git = (...args: string[]): string => runWell("git", args, here).stdout.trim();

/** Ends with every fault, if there are any. */
function demand(faults: readonly string[]): void {
  if (faults.length === 0) return;
  for (const fault of faults) console.error(`FAIL ${fault}`);
  process.exit(1);
}

interface Build {
  prebuilds: string;
  tarball: Tarball;
  /** SHA-256 by name, of every binary and of the tarball. */
  hashes: Map<string, string>;
}

function binariesOf(prebuilds: string): Map<string, string> {
  return new Map(wanted.flatMap((platform) => readdirSync(path.join(prebuilds, platform)).map((name) =>
    [`prebuilds/${platform}/${name}`, path.join(prebuilds, platform, name)] as const)));
}

/** Compiles everything from nothing and packs it. */
function build(folder: string, host: boolean): Build {
  rmSync(folder, { recursive: true, force: true });
  const prebuilds = path.join(folder, "prebuilds");
  makePrebuilds({ platforms: wanted, cuda, host, out: prebuilds });
  rmSync(path.join(root, "dist"), { recursive: true, force: true });
  runWell(process.execPath, [path.join(root, "node_modules", "typescript", "bin", "tsc"), "-p", "tsconfig.json"], here);
  const tarball = pack(folder, prebuilds);
  const files = [...binariesOf(prebuilds), [path.basename(tarball.path), tarball.path] as const];
  return { prebuilds, tarball, hashes: new Map(files.map(([name, file]) => [name, sha256(file)])) };
}

const changes = git("status", "--porcelain", "--untracked-files=no");
if (changes && !values.dirty) demand([`expected every change to be committed but found:\n${changes}`]);
if (!["ON", "OFF"].includes(values.cuda)) demand([`expected --cuda ON or OFF but received ${values.cuda}`]);
const toolkit = cuda ? findToolkit() : undefined;
if (cuda && !toolkit) demand(["expected nvcc for the CUDA library but it was not found: install the CUDA toolkit, or say --cuda OFF for a release without CUDA"]);
const time = new Date(git("log", "-1", "--format=%cI"));
const host = chooseHost(values.host);
const work = path.join(root, "build", "release");
const release = path.join(root, "release");
// From here on nobody can take an older one for what this run failed to make.
rmSync(release, { recursive: true, force: true });

const first = build(path.join(work, "1"), host);
if (!values.once) {
  const second = build(path.join(work, "2"), host);
  demand([...first.hashes].filter(([name, hash]) => second.hashes.get(name) !== hash).map(([name, hash]) => `${name}: two builds differ, ${hash} and ${second.hashes.get(name)}`));
  console.log(`two clean builds gave the same ${first.hashes.size} files`);
}
demand(checkPrebuilds(first.prebuilds, host ? "99" : glibcLimit));
demand(contentFaults(first.tarball, wanted));

const name = path.basename(first.tarball.path);
placeWhole(release, (folder) => {
  cpSync(first.prebuilds, path.join(folder, "prebuilds"), { recursive: true });
  const tarball = path.join(folder, name);
  cpSync(first.tarball.path, tarball);
  const version = toolkit && /release ([\d.]+)/.exec(runWell(path.join(toolkit, "bin", "nvcc"), ["--version"], here).stdout)?.[1];
  const sbom = name.replace(/\.tgz$/, ".cdx.json");
  writeFileSync(path.join(folder, sbom), sbomText({ binaries: binariesOf(first.prebuilds), tarball: first.tarball.path, time, cuda: version }));
  const sums = [...first.hashes, [sbom, sha256(path.join(folder, sbom))] as const];
  writeFileSync(path.join(folder, "SHA256SUMS"), sums.map(([file, hash]) => `${hash}  ${file}\n`).join(""));
  for (const [file, hash] of sums) console.log(`${hash}  ${file}`);
  if (values.untested) return;
  const test = ["--import", "tsx", path.join("test", "packaging", "main.ts"), "--tarball", tarball];
  console.log(runWell(process.execPath, test, { ...here, limit: 4 * 3600_000 }).stdout);
});
console.log(`release/: ${name}, ${(first.tarball.size / 1e6).toFixed(2)} MB, commit ${git("rev-parse", "--short", "HEAD")}${changes ? " and changes" : ""}`);
