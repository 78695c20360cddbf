import path from "node:path";

import { test } from "uvu";
import * as assert from "uvu/assert";

import { atLeast, atMost } from "../../bench/batch/aims.js";
import { aimsTable, decodeGain, randomModelTable } from "../../bench/batch/markdown.js";
import type { RandomModelRow } from "../../bench/batch/random-model.js";
import { sceneRequests, sizedPrompts } from "../../bench/batch/requests.js";
import { DecodeWindow, quantile } from "../../bench/batch/run.js";
import { openCheckpoint } from "../../lib/checkpoint/index.js";
import { imageFormat } from "../../lib/image/format.js";
import { packageRoot } from "../../lib/package.js";

test("prompts are of the length asked for, and all different", async () => {
  const checkpoint = await openCheckpoint(path.join(packageRoot, "models", "pico-llava"));
  for (const pictured of [false, true]) {
    const prompts = await sizedPrompts(checkpoint, 8, 64, pictured);
    assert.equal(prompts.map(({ ids }) => ids.length), new Array(8).fill(64));
    assert.is(new Set(prompts.map(({ text }) => text)).size, 8);
  }
});

test("requests about scenes are spread over the questions, each with its scene as PNG", async () => {
  const { requests, questions } = await sceneRequests(10);
  assert.equal(requests.map(({ text }) => text), questions.map(({ question }) => question));
  assert.ok(requests.every(({ picture }) => imageFormat(picture!) === "PNG"));
  assert.is(new Set(questions.map(({ scene }) => scene)).size, 10);
});

test("the rate of decoding counts only tokens between the last beginning and the first end", () => {
  const none = new DecodeWindow(2);
  none.begun(1);
  none.ended(9);
  none.begun(10);
  assert.is(none.tokensPerSecond, undefined, "they never ran together");
  const window = new DecodeWindow(2);
  window.begun(1);
  window.begun(5);
  const until = performance.now() + 2;
  while (performance.now() < until);
  window.ended(5);
  window.ended(99);
  assert.is(window.tokensPerSecond, 0);
});

test("quantiles, aims and tables", () => {
  const values = Array.from({ length: 100 }, (_, i) => 99 - i);
  assert.equal([quantile(values, 0.5), quantile(values, 0.99), quantile([7], 0.99)], [50, 99, 7]);
  const aims = [atLeast("a", 3, 3), atMost("b", 5, 4, " ms"), atMost("c", undefined, 1)];
  assert.equal(aims.map(({ met }) => met), [true, false, undefined]);
  assert.match(aimsTable(aims), /\| b \| at most 4 ms \| 5\.00 \| no \|\n\| c \| at most 1 \| not measured \|  \|\n$/);
  const row = (sequences: number, decodeTokensPerSecond: number | undefined): RandomModelRow => ({
    engine: "himap", input: "text", pruning: "none", sequences, requestsPerSecond: 1, tokensPerSecond: 2 * sequences, runs: [],
    ...(decodeTokensPerSecond !== undefined && { decodeTokensPerSecond }),
  });
  assert.equal([decodeGain(row(8, 24), row(1, 8)), decodeGain(row(8, undefined), row(1, 8))], [3, undefined]);
  assert.match(randomModelTable([row(1, 8), row(8, 24)]), /\| 8 \| 1\.000 \| 16\.00 \| 8\.00x \| 24\.00 \| 3\.00x \|/);
});

test.run();
