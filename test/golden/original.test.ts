import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { test } from "uvu";
import * as assert from "uvu/assert";

import { load } from "../../lib/index.js";
import { convertCheckpoint } from "../../weights-tools/convert.js";
import { verifyCheckpoint } from "../../weights-tools/verify.js";
import { goldenSuite } from "../helpers/golden.js";

const source = (name: string): string => fileURLToPath(new URL(`original/${name}`, import.meta.url));
const temporary = mkdtempSync(path.join(tmpdir(), "himap-original-"));
const converted = path.join(temporary, "converted");
process.on("exit", () => rmSync(temporary, { recursive: true, force: true }));

const conversion = await convertCheckpoint(source("checkpoint"), converted, {
  vision: source("checkpoint-clip"),
  shardBytes: 1_000_000,
});

test("the converted folder pads, speaks Vicuna's template, samples nothing, and keeps the config byte for byte", async () => {
  assert.is(conversion.layout, "original");
  assert.ok(conversion.files.length > 1);
  assert.equal(readFileSync(path.join(converted, "config.json")), readFileSync(source("checkpoint/config.json")));
  const engine = await load(converted);
  assert.is(engine.info.imageAspectRatio, "pad");
  assert.is(engine.info.template, "vicuna_v1");
  // Its generation_config.json asks for a temperature of 0.9.
  const answer = async (): Promise<number[]> => Array.from((await engine.generate("Hello", { maxTokens: 16 })).tokens);
  assert.equal(await answer(), await answer());
  const greedy = await engine.generate("Hello", { maxTokens: 16, logprobs: 1 });
  assert.ok(greedy.logprobs!.every(({ id, top }) => id === top[0]!.id));
  await engine.dispose();
});

test("the converted folder is verified, every value of it", async () => {
  const report = await verifyCheckpoint(converted, { values: true });
  assert.is(report.values, report.parameters);
  assert.is(report.tensors, conversion.tensors);
});

test.run();
goldenSuite("original", converted);
