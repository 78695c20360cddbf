/** Where the native binary lies: what node-gyp-build chooses, why, and what was looked at where there is none. */

import { readdirSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";

import { packageRoot } from "../package.js";
import { elfFault } from "./elf.js";

export interface BinaryFile {
  path: string;
  /** Why this one. */
  why: string;
}

/** Of this machine, as npm and prebuildify name it. */
export const target = `${process.platform}-${process.arch}`;

/** Version of glibc, or `undefined` where the system's C library is another. */
export function glibcVersion(): string | undefined {
  const { header } = process.report.getReport() as unknown as { header: { glibcVersionRuntime?: string } };
  return header.glibcVersionRuntime;
}

/** The folders that node-gyp-build goes through, in its order. */
function places(): BinaryFile[] {
  const { HIMAP_PREBUILD: named, PREBUILDS_ONLY: prebuiltOnly } = process.env;
  const root = named ? path.resolve(named) : packageRoot;
  const builds = ["Release", "Debug"].map((config) => ({
    path: path.join(root, "build", config), why: named ? "HIMAP_PREBUILD names it" : "built from source here, which goes before a prebuilt one",
  }));
  return [
    ...(prebuiltOnly ? [] : builds),
    { path: path.join(root, "prebuilds", target), why: named ? "HIMAP_PREBUILD names it" : `prebuilt for ${target}` },
    { path: path.join(path.dirname(process.execPath), "prebuilds", target), why: "beside the Node program" },
  ];
}

/** Each folder that was looked at and what it holds. */
export function lookedAt(): string {
  return places().map(({ path: folder }) => {
    let names: string[];
    try {
      names = readdirSync(folder).filter((name) => name.endsWith(".node"));
    } catch (error) {
      return `${folder} (${(error as NodeJS.ErrnoException).code})`;
    }
    return `${folder} (${names.join(", ") || "no binary"})`;
  }).join(", ");
}

/** @throws Error where there is none, or its file is damaged: then with the `path` that was chosen */
export function findBinary(): BinaryFile {
  // node-gyp-build carries no types.
  const gypBuild = createRequire(import.meta.url)("node-gyp-build") as { resolve(folder: string): string };
  const file = gypBuild.resolve(packageRoot);
  const fault = process.platform === "linux" ? elfFault(file) : undefined;
  if (fault !== undefined) throw Object.assign(new Error(fault), { path: file });
  return { path: file, why: places().find(({ path: folder }) => folder === path.dirname(file))?.why ?? "node-gyp-build chose it" };
}
