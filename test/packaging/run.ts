/** Child processes of the packaging tests, and the folder where their tools are kept. */

import { spawnSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import path from "node:path";

import { root } from "../../scripts/prebuilds/check.js";

/** Node programs and versions of npm; kept between runs. */
export const toolFolder = path.join(root, "build", "packaging");

export interface End {
  status: number | null;
  stdout: string;
  /** Both streams. */
  output: string;
}

export interface RunOptions {
  cwd: string;
  /** The whole environment. */
  env: NodeJS.ProcessEnv;
  /** Milliseconds after which it is killed. */
  limit?: number;
}

/** Runs a command to its end. */
export function run(command: string, args: readonly string[], { cwd, env, limit = 600_000 }: RunOptions): End {
  const { status, signal, stdout, stderr, error } = spawnSync(command, args, { cwd, env, encoding: "utf8", maxBuffer: 1 << 28, timeout: limit, killSignal: "SIGKILL" });
  const end = error ? `${error.message}\n` : signal ? `ended by ${signal}\n` : "";
  return { status, stdout: stdout ?? "", output: `${stdout ?? ""}${stderr ?? ""}${end}` };
}

/** As `run`. @throws Error with what it printed unless it ended well */
export function runWell(command: string, args: readonly string[], options: RunOptions): End {
  const end = run(command, args, options);
  if (end.status !== 0) throw new Error(`${path.basename(command)} ${args.join(" ")} ended with ${end.status}\n${end.output}`);
  return end;
}

/** What of npm's configuration the network needs; nothing else of this machine's reaches the tests. */
function networkConfig(): string {
  const read = (name: string): string => run("npm", ["config", "get", name], { cwd: root, env: process.env }).stdout.trim();
  const names = ["registry", "cafile", "proxy", "https-proxy"];
  return names.map((name) => [name, read(name)]).filter(([, value]) => value && value !== "null" && value !== "undefined").map((pair) => `${pair.join("=")}\n`).join("");
}

let configFile: string | undefined;

/** An environment for npm and Node that holds only what is named here. */
export function cleanEnvironment(searchPath: string, cache = path.join(toolFolder, "cache")): NodeJS.ProcessEnv {
  const home = path.join(toolFolder, "home");
  mkdirSync(home, { recursive: true });
  if (configFile === undefined) {
    configFile = path.join(home, "npmrc");
    writeFileSync(configFile, `${networkConfig()}audit=false\nfund=false\nupdate-notifier=false\n`);
  }
  return { PATH: searchPath, HOME: home, LC_ALL: "C.UTF-8", NO_COLOR: "1", npm_config_cache: cache, npm_config_userconfig: configFile };
}
