import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

import { test } from "uvu";
import * as assert from "uvu/assert";

import { load, type Engine, type ForwardResult, type Message, type Pruning, type Result } from "../../lib/index.js";

const root = fileURLToPath(new URL("../..", import.meta.url));
const picture = readFileSync(`${root}/test/golden/mha/short.png`);
const ask: Message[] = [{ role: "user", content: [{ type: "image", image: picture }, { type: "text", text: "What colour is the circle?" }] }];
const himap: Pruning = { cuts: [{ before: 2, score: { rows: "instruction" }, keep: { ratio: 0.5 } }, { before: 3, score: { rows: "image" }, keep: { ratio: 0.25 } }] };
const bits = (values: Float32Array): string => Buffer.from(values.buffer, values.byteOffset, values.byteLength).toString("base64");

interface Answers {
  result: Result;
  forward: ForwardResult;
}

async function answers(engine: Engine): Promise<Answers> {
  const result = await engine.generate(ask, { pruning: himap, maxTokens: 8, scores: true, logprobs: 5 });
  return { result, forward: await engine.forward(ask, { pruning: himap, logits: "all" }) };
}

test("an answer from a remembered picture is the answer, bit by bit", async () => {
  const folder = `${root}/test/golden/mha/checkpoint`;
  const plain = await load(folder, { memory: { embeddingBytes: 0 } });
  const remembering = await load(folder);
  const expected = await answers(plain);
  for (let time = 0; time < 3; time++) {
    const { result, forward } = await answers(remembering);
    assert.equal({ ...result, timings: null }, { ...expected.result, timings: null });
    assert.is(bits(forward.logits), bits(expected.forward.logits));
  }
  const [one, two] = [await remembering.encodeImage(picture), await plain.encodeImage(picture)];
  assert.is(bits(one.features), bits(two.features));
  await Promise.all([plain.dispose(), remembering.dispose()]);
});

test.run();
