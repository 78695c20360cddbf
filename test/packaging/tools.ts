/** Real Node programs and versions of npm, as their packages on the registry hold them. */

import { existsSync, mkdirSync, readdirSync, rmSync, symlinkSync } from "node:fs";
import path from "node:path";

import { runWell } from "../../scripts/command.js";
import { cleanEnvironment, toolFolder } from "./environment.js";

export const nodeVersions = { 20: "20.20.2", 22: "22.23.3", 24: "24.21.0", 26: "26.10.0" } as const;
export const npmVersions = { 11: "11.19.1", 12: "12.2.0" } as const;
export type NodeMajor = keyof typeof nodeVersions;
export type NpmMajor = keyof typeof npmVersions;

/** Each npm with the Nodes that it supports. */
export const combinations: readonly (readonly [NpmMajor, NodeMajor])[] = [[11, 20], [11, 22], [11, 24], [11, 26], [12, 22], [12, 24], [12, 26]];

/** Installs `name@version` in a folder of its own unless it is there, and says where it lies. */
function fetchPackage(name: string, version: string, ...args: string[]): string {
  const folder = path.join(toolFolder, `${name}-${version}`);
  const inside = path.join(folder, "node_modules", name);
  if (existsSync(inside)) return inside;
  mkdirSync(folder, { recursive: true });
  runWell("npm", ["install", "--prefix", folder, "--ignore-scripts", "--no-save", ...args, `${name}@${version}`], {
    cwd: folder, env: cleanEnvironment(process.env.PATH ?? ""),
  });
  return inside;
}

/** The Node program of a version, for x86-64 or arm64. */
export function nodeProgram(major: NodeMajor, arch: "x64" | "arm64" = "x64"): string {
  return path.join(fetchPackage(`node-linux-${arch}`, nodeVersions[major], ...(arch === process.arch ? [] : ["--force"])), "bin", "node");
}

export interface Tools {
  node: string;
  npm: string;
  npx: string;
  /** PATH with this Node and npm first. */
  wholePath: string;
  /** PATH with nothing but node, npm, npx, sh and env. */
  barePath: string;
}

function linkFolder(name: string, links: Record<string, string>): string {
  const folder = path.join(toolFolder, "bin", name);
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  for (const [link, target] of Object.entries(links)) symlinkSync(target, path.join(folder, link));
  return folder;
}

/** A Node and an npm together. `undefined`: the Node that runs this, and the npm on the PATH. */
export function tools(npmMajor?: NpmMajor, nodeMajor?: NodeMajor): Tools {
  const node = nodeMajor === undefined ? process.execPath : nodeProgram(nodeMajor);
  const npmFolder = npmMajor === undefined ? installedNpm() : fetchPackage("npm", npmVersions[npmMajor]);
  const npm = path.join(npmFolder, "bin", "npm-cli.js");
  const npx = path.join(npmFolder, "bin", "npx-cli.js");
  const name = `npm-${npmMajor ?? "here"}-node-${nodeMajor ?? "here"}`;
  const whole = linkFolder(`${name}-whole`, { node, npm, npx });
  const bare = linkFolder(`${name}-bare`, { node, npm, npx, sh: "/bin/sh", env: "/usr/bin/env" });
  return { node, npm, npx, wholePath: `${whole}:${process.env.PATH}`, barePath: bare };
}

/** The folder of the npm on the PATH. */
function installedNpm(): string {
  const { stdout } = runWell("npm", ["root", "-g"], { cwd: toolFolder, env: process.env });
  const places = [path.join(stdout.trim(), "npm"), path.join(path.dirname(process.execPath), "..", "lib", "node_modules", "npm")];
  const found = places.find((folder) => existsSync(folder) && readdirSync(folder).includes("bin"));
  if (!found) throw new Error(`expected npm in ${places.join(" or ")}`);
  return found;
}
