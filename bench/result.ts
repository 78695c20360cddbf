/** Where a bench writes its figures, and what every such file says of the run beside them. */

import { spawnSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import path from "node:path";

import { packageRoot, packageVersion } from "../lib/package.js";
import { describeMachine, loadBefore, type Machine, type Others } from "./cpu/machine.js";

/** What was chosen other than usual, as a word of a file's name. */
export function unusual(value: string, usual: string, word = value): string | undefined {
  return value === usual ? undefined : word;
}

/** bench/results/NAME.json for a run of everything; what was chosen instead is in the name, so that a part never replaces the whole. */
export function resultFile(name: string, chosen: readonly (string | undefined)[]): string {
  return path.join(packageRoot, "bench", "results", `${[name, ...chosen.filter((word) => word !== undefined)].join("-")}.json`);
}

export interface RunFacts {
  version: string;
  /** What was measured, `-dirty` where files differ from it; absent outside a checkout. */
  commit?: string;
  /** `before`: what others took of it when the run began. */
  machine: Machine & { before: Others };
  /** From the beginning to the last figure, by the clock on the wall. */
  seconds: number;
}

function commitNow(): string | undefined {
  const git = (...args: string[]): string | undefined => {
    const { status, stdout } = spawnSync("git", args, { cwd: packageRoot, encoding: "utf8" });
    return status === 0 ? stdout.trim() : undefined;
  };
  const commit = git("rev-parse", "--short", "HEAD");
  // Results of runs before this one change nothing that is measured.
  const changes = git("status", "--porcelain", "--untracked-files=no", "--", ".", ":(exclude)bench/results");
  return commit === undefined ? undefined : `${commit}${changes ? "-dirty" : ""}`;
}

/** Begins a run. What it returns writes the figures that there are, as often as there are more, and tells the facts beside them. */
export async function beginRun(file: string): Promise<(figures: object) => RunFacts> {
  // Now, since the tree may move on while the bench runs.
  const commit = commitNow();
  const machine = { ...describeMachine(), before: await loadBefore() };
  const started = performance.now();
  return (figures) => {
    const facts: RunFacts = { version: packageVersion, ...(commit !== undefined && { commit }), machine, seconds: (performance.now() - started) / 1000 };
    mkdirSync(path.dirname(file), { recursive: true });
    writeFileSync(file, `${JSON.stringify({ ...facts, ...figures }, null, 2)}\n`);
    return facts;
  };
}
