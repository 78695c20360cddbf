/** The addon and whatever is brought to it, in children of their own: the short forms. */

import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";

import { test } from "uvu";
import * as assert from "uvu/assert";

import { endAt, ends, manyWorkers, stages, terminations, twoCopies, type End } from "./exits.js";

const root = fileURLToPath(new URL("../..", import.meta.url));

function passes(program: string, args: string[]): void {
  const { status, signal, stdout, stderr } = spawnSync(process.execPath, ["--expose-gc", "--import", "tsx", `test/robustness/${program}.ts`, ...args], {
    cwd: root, encoding: "utf8",
  });
  assert.equal([status, signal], [0, null], stdout + stderr);
  for (const note of stdout.match(/^NOTE: .*$/gm) ?? []) console.log(`\n${note}`);
}

function endsWith({ how, output }: End, expected: unknown): void {
  assert.is(how, expected, output);
  for (const note of output.match(/^NOTE: .*$/gm) ?? []) console.log(`\n${note}`);
}

test("5,000 random calls past every check of TypeScript", () => passes("boundary", ["--calls", "5000"]));

for (const stage of Object.keys(stages) as (keyof typeof stages)[]) {
  for (const end of Object.keys(ends) as (keyof typeof ends)[]) {
    test(`${stage}, a process ends ${end}`, async () => endsWith(await endAt(stage, end), ends[end].expected));
  }
}

test("two copies of the addon in one process", async () => endsWith(await twoCopies(), 0));
test("eight workers with an engine each", async () => endsWith(await manyWorkers(), 0));
test("20 workers terminated in a row", async () => endsWith(await terminations(20), 0));
test("each request of the addon to the system fails once", () => passes("fail-addon", []));
test("twenty seconds of mixed load", () => passes("soak", ["--minutes", "0.33"]));

test.run();
