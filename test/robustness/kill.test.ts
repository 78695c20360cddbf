/** Batch jobs that are killed: the short form, and the item that kills its process. */

import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";

import { test } from "uvu";
import * as assert from "uvu/assert";

import { compare, recordsOf, runBatch } from "./kill.js";

const pictures = fileURLToPath(new URL("../../examples/images", import.meta.url));

const built = existsSync(fileURLToPath(new URL("../../dist/lib/cli/main.js", import.meta.url)));
if (!built) console.log("SKIP: dist/ is not built");
const killing = built ? test : test.skip;

killing("50 kills", () => compare(250, 50, 2, (text) => console.log(`\nNOTE: ${text}`)));

killing("an item that kills its process is given up after two times alone, and the others are done", async () => {
  const folder = mkdtempSync(path.join(tmpdir(), "himap-poison-"));
  const [input, output] = [path.join(folder, "jobs.jsonl"), path.join(folder, "results.jsonl")];
  const prompts = ["What colour is the square?", "poison", "What is at the top?", "How many objects are there?", "Where is the star?"];
  writeFileSync(input, prompts.map((prompt, i) => `${JSON.stringify({ id: i, prompt, image: `${pictures}/scene-1.png` })}\n`).join(""));
  const args = ["--input", input, "--output", output];
  let kills = 0;
  let end = await runBatch(args, { KILL_ITEM: "poison" });
  for (; end.signal === "SIGKILL" && kills < 9; kills++) end = await runBatch(args, { KILL_ITEM: "poison" });
  assert.is(end.code, 1, end.output);
  // Once together with others, or alone already; then alone until it has been so twice.
  assert.ok(kills === 2 || kills === 3, String(kills));
  const records = [...recordsOf(output).values()].map((line) => JSON.parse(line) as { id: number; ok: boolean; error?: { code: string; message: string } });
  assert.is(records.length, prompts.length);
  assert.equal(records.filter(({ ok }) => !ok).map(({ id, error }) => [id, error?.code, error?.message]), [
    [1, "ERR_CRASHED", "the process ended 2 times while this item alone was in flight"],
  ]);
  assert.not(existsSync(`${output}.journal`));
  // Cured, it is one of the others.
  assert.is((await runBatch([...args, "--retry-failed"])).code, 0);
  rmSync(folder, { recursive: true, force: true });
});

killing("--max-crashes sets how often; off never gives up", async () => {
  const folder = mkdtempSync(path.join(tmpdir(), "himap-poison-"));
  const [input, output] = [path.join(folder, "jobs.jsonl"), path.join(folder, "results.jsonl")];
  writeFileSync(input, '{"id":1,"prompt":"poison"}\n');
  const run = (limit: string): ReturnType<typeof runBatch> => runBatch(["--input", input, "--output", output, "--max-crashes", limit], { KILL_ITEM: "poison" });
  for (let i = 0; i < 3; i++) assert.is((await run("off")).signal, "SIGKILL");
  assert.is((await run("1")).signal, "SIGKILL");
  assert.is((await run("1")).code, 1);
  assert.match(recordsOf(output).get("1")!, "ERR_CRASHED");
  rmSync(folder, { recursive: true, force: true });
});

test.run();
