/** Native code under the sanitizers: fuzz targets on their corpus and mutations of it, and every request to the system failing once. */

import { spawnSync } from "node:child_process";
import path from "node:path";

import { test } from "uvu";
import * as assert from "uvu/assert";

import { buildSanitized, corpusOf, entries } from "../../scripts/sanitize.js";

const targets = [...entries.map((entry) => `fuzz_${entry}`), "test_fail_nth"];
let folder: string;
test.before(() => {
  folder = buildSanitized(targets);
});

function passes(program: string, args: string[]): void {
  const { status, signal, stdout, stderr } = spawnSync(path.join(folder, program), args, { cwd: folder, encoding: "utf8" });
  assert.equal([status, signal], [0, null], stdout + stderr);
  for (const note of stdout.match(/^NOTE: .*$/gm) ?? []) console.log(`\n${note.replace("NOTE:", `NOTE: ${program}:`)}`);
}

for (const entry of entries) {
  test(`the ${entry} entry refuses or carries out its corpus and 10,000 mutations of it`, () => passes(`fuzz_${entry}`, [corpusOf(entry), "10000"]));
}

test("every request to the system fails once: a typed error, nothing left over, a usable engine", () => passes(path.join("tests", "test_fail_nth"), []));

test.run();
