/** What the tarball has to hold, file by file, how large each may be, and where its documents may lead. */

import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import path from "node:path";

import { platforms, root } from "../prebuilds/check.js";
import type { Tarball } from "./pack.js";

/** Largest tarball, bytes. */
export const tarballBudget = 40_000_000;

const kilobyte = 1000;
const budgets: readonly (readonly [pattern: RegExp, bytes: number])[] = [
  [/^models\/pico-llava\/model\.safetensors$/, 9_500 * kilobyte],
  [/^examples\/images\//, 20 * kilobyte],
  [/^examples\//, 10 * kilobyte],
  [/^models\/pico-llava\//, 20 * kilobyte],
  [/^docs\/images\//, 150 * kilobyte],
  [/^(docs\/.*|README)\.md$/, 40 * kilobyte],
  [/^dist\//, 40 * kilobyte],
  [/^(native|kernels|scripts)\//, 30 * kilobyte],
  [/^(package\.json|binding\.gyp|CMakeLists\.txt|CHANGELOG\.md|LICENSE)$/, 20 * kilobyte],
];

/** Sources that only tests are built from. */
const testsOnly = /^(native\/backend\/fault|kernels\/simt)\//;

function tracked(...paths: string[]): string[] {
  const { stdout, status, stderr } = spawnSync("git", ["ls-files", "-z", "--", ...paths], { cwd: root, encoding: "utf8" });
  if (status !== 0) throw new Error(`the list of the package's files is git's: ${stderr}`);
  return stdout.split("\0").filter(Boolean);
}

/** What tsc makes of a source file. */
function compiled(file: string): string[] {
  const [, name, kind] = /^(.*)\.(c?)ts$/.exec(file) ?? [];
  return name === undefined ? [] : [`dist/${name}.${kind}js`, `dist/${name}.d.${kind}ts`];
}

/** The files that the repository says the package has, without the binaries. */
function expectedFiles(): string[] {
  return [
    "CHANGELOG.md", "CMakeLists.txt", "LICENSE", "README.md", "binding.gyp", "package.json",
    ...tracked("docs", "examples", "models/pico-llava", "scripts/build"),
    ...tracked("kernels", "native").filter((file) => !testsOnly.test(file)),
    ...tracked("lib", "weights-tools/*.ts").filter((file) => !file.slice("weights-tools/".length).includes("/") || file.startsWith("lib/")).flatMap(compiled),
  ];
}

/** The links of a Markdown text that lead to files. Code may look like a link, so it is left out. */
function linkedFiles(markdown: string): string[] {
  const text = markdown.replace(/^ *```.*?^ *```/gms, "").replace(/`[^`]*`/g, "");
  const targets = [...text.matchAll(/\]\(<?([^\s)>]+)|^\[[^\]]+\]: *(\S+)|\b(?:href|src)="([^"]+)"/gm)].map(([, inline, reference, html]) => (inline ?? reference ?? html)!);
  return targets.filter((target) => !/^([a-z]+:|#)/i.test(target)).map((target) => target.replace(/[?#].*/, ""));
}

/** Links to what a reader of the installed package does not have. */
function linkFaults({ files, folder }: Tarball): string[] {
  const names = files.map(({ path: file }) => file);
  return names.filter((name) => name.endsWith(".md")).flatMap((name) => linkedFiles(readFileSync(path.join(folder, name), "utf8")).flatMap((target) => {
    const place = path.posix.join(path.posix.dirname(name), decodeURI(target)).replace(/\/$/, "");
    return names.some((file) => file === place || file.startsWith(`${place}/`)) ? [] : [`${name} links to ${target}, which is not in the package`];
  }));
}

/**
 * Every way in which a tarball is not what it has to be: a file too many, one too few, one too large, a link that leads nowhere.
 * @param wanted the platforms whose binaries it has
 */
export function contentFaults(tarball: Tarball, wanted: readonly string[]): string[] {
  const { files, size } = tarball;
  const faults = linkFaults(tarball);
  const expected = new Set(expectedFiles());
  const binaries = new Map<string, number>(wanted.flatMap((platform) => Object.entries(platforms[platform]!.files).map(([name, { budget }]) => [`prebuilds/${platform}/${name}`, budget] as const)));
  const optional = new Set<string>(wanted.map((platform) => `prebuilds/${platform}/${platforms[platform]!.optional}`));
  for (const { path: file, size: bytes } of files) {
    const budget = binaries.get(file) ?? budgets.find(([pattern]) => pattern.test(file))?.[1];
    if (!expected.has(file) && !binaries.has(file)) faults.push(`${file} does not belong in the package`);
    else if (budget === undefined) faults.push(`${file} has no budget`);
    else if (bytes > budget) faults.push(`${file}: expected at most ${budget} bytes but received ${bytes}`);
  }
  const present = new Set(files.map(({ path: file }) => file));
  for (const file of [...expected, ...binaries.keys()]) {
    if (!present.has(file) && !optional.has(file)) faults.push(`${file} is missing from the package`);
  }
  if (size > tarballBudget) faults.push(`expected a tarball of at most ${tarballBudget} bytes but received ${size}`);
  return faults;
}
