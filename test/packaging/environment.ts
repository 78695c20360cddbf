/** Where the packaging tests keep their tools, and the environment in which they run what users run. */

import { mkdirSync, writeFileSync } from "node:fs";
import path from "node:path";

import { run } from "../../scripts/command.js";
import { root } from "../../scripts/prebuilds/check.js";

/** Node programs and versions of npm; kept between runs. */
export const toolFolder = path.join(root, "build", "packaging");

/** What of npm's configuration the network needs; nothing else of this machine's reaches the tests. */
function networkConfig(): string {
  const { stdout } = run("npm", ["config", "get", "registry", "cafile", "proxy", "https-proxy"], { cwd: root, env: process.env });
  return [...stdout.matchAll(/^([\w-]+) ?= ?(.+)$/gm)].filter(([, , value]) => value !== "null" && value !== "undefined")
    .map(([, name, value]) => `${name}=${value}\n`).join("");
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
