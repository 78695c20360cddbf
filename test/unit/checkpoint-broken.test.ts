import { test } from "uvu";
import * as assert from "uvu/assert";

import { openCheckpoint } from "../../lib/checkpoint/index.js";
import { HimapError, type ErrorCode } from "../../lib/errors.cjs";
import { brokenCheckpoints } from "../helpers/broken-checkpoints.js";
import { TinyCheckpoint, withFolder } from "../helpers/tiny-checkpoint.js";

/** The error that opening a folder gives. */
async function failure(folder: string): Promise<HimapError> {
  const outcome = await openCheckpoint(folder).catch((error: unknown) => error);
  assert.instance(outcome, HimapError, `expected a HimapError but received ${outcome instanceof Error ? outcome.stack : "a checkpoint"}`);
  return outcome as HimapError;
}

test("the checkpoint that is spoilt below is valid, in one file and in two", async () => {
  for (const shards of [[], ["a.safetensors", "b.safetensors"]]) {
    await withFolder(async (folder) => {
      const tiny = new TinyCheckpoint();
      if (shards.length > 0) tiny.split(shards);
      tiny.write(folder);
      assert.is((await openCheckpoint(folder)).files.length, Math.max(1, shards.length));
    });
  }
});

test("the corpus is large, and its names are all different", () => {
  assert.ok(brokenCheckpoints.length >= 100, String(brokenCheckpoints.length));
  assert.is(new Set(brokenCheckpoints.map(({ name }) => name)).size, brokenCheckpoints.length);
  console.log(`NOTE: ${brokenCheckpoints.length} broken checkpoints`);
});

for (const { name, code, says, edit, spoil } of brokenCheckpoints) {
  test(`refused with ${code}: ${name}`, () =>
    withFolder(async (folder) => {
      const tiny = new TinyCheckpoint();
      edit?.(tiny);
      tiny.write(folder);
      spoil?.(folder);
      const error = await failure(folder);
      assert.is(error.code, code, error.message);
      for (const part of says) assert.ok(error.message.includes(part), `expected ${JSON.stringify(part)} in: ${error.message}`);
      assert.match(error.message, /: expected .+ for .+ but received /s);
      assert.ok(error.message.length < 2000, "a message that repeats the file's content at length");
    }));
}

const elsewhere: [name: string, folder: string, code: ErrorCode][] = [
  ["no folder", "/nowhere/at/all", "ERR_INVALID_ARG"],
  ["a file for a folder", import.meta.filename ?? process.argv[1]!, "ERR_INVALID_ARG"],
];
for (const [name, folder, code] of elsewhere) {
  test(`refused with ${code}: ${name}`, async () => {
    assert.is((await failure(folder)).code, code);
  });
}

test.run();
