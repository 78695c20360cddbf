import { readFileSync, readdirSync } from "node:fs";
import path from "node:path";

import { test } from "uvu";
import * as assert from "uvu/assert";

import { openCheckpoint } from "../../lib/checkpoint/index.js";
import { makeRandom, type RandomOptions } from "../../weights-tools/make-random.js";
import { withFolder } from "../helpers/tiny-checkpoint.js";

const tiny: RandomOptions = { shape: "tiny", type: "F16", shards: 1, seed: 3 };

for (const type of ["F32", "F16", "BF16"] as const) {
  for (const shards of [1, 3]) {
    test(`${type} in ${shards} file(s) opens`, () =>
      withFolder(async (folder) => {
        const bytes = await makeRandom(folder, { ...tiny, type, shards });
        const { files, tensors, config } = await openCheckpoint(folder);
        assert.is(files.length, shards);
        assert.equal(new Set(tensors.map((tensor) => tensor.type)), new Set([type]));
        assert.is(config.imageTokens, 16);
        // The tower's unused last layer and norm are written too, as published.
        assert.ok(bytes > tensors.reduce((sum, tensor) => sum + tensor.bytes, 0));
        assert.is(readdirSync(folder).includes("model.safetensors.index.json"), shards > 1);
      }));
  }
}

test("the same seed gives the same bytes, another seed others, and every value is finite", () =>
  withFolder(async (folder) => {
    const weights = async (name: string, seed: number): Promise<Buffer> => {
      await makeRandom(path.join(folder, name), { ...tiny, seed });
      return readFileSync(path.join(folder, name, "model.safetensors"));
    };
    const first = await weights("a", 3);
    assert.ok(first.equals(await weights("b", 3)));
    assert.not(first.equals(await weights("c", 4)));
    const data = first.subarray(8 + Number(first.readBigUInt64LE()));
    const halves = new Uint16Array(Uint8Array.from(data).buffer);
    assert.not(halves.some((bits) => (bits & 0x7c00) === 0x7c00));
    assert.ok(new Set(halves).size > 5000);
  }));

test("an unknown shape is refused by name", async () => {
  const error = await withFolder((folder) => makeRandom(folder, { ...tiny, shape: "9b" }).catch((thrown: Error) => thrown));
  assert.match(String(error), /tiny, 1b, 7b, 13b for --shape but received 9b/);
});

test.run();
