import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

import { test } from "uvu";
import * as assert from "uvu/assert";

import { load, type Cut, type Engine, type Message } from "../../lib/index.js";

const root = fileURLToPath(new URL("../..", import.meta.url));
const picture = readFileSync(`${root}/test/golden/mha/short.png`);
const ask: Message[] = [
  {
    role: "user",
    content: [
      { type: "image", image: picture },
      { type: "text", text: "What colour is the circle?" },
    ],
  },
];

let engine: Engine;
test.before(async () => {
  engine = await load(`${root}/test/golden/mha/checkpoint`);
});
test.after(() => engine.dispose());

const half = { keep: { ratio: 0.5 } } as const;
const policies: Record<string, Cut[]> = {
  none: [],
  instruction: [{ before: 2, score: { rows: "instruction" }, ...half }],
  himap: [{ before: 2, score: { rows: "instruction" }, ...half }, { before: 3, score: { rows: "image" }, keep: { ratio: 0.25 } }],
  fastv: [{ before: 2, score: { rows: "last" }, ...half }],
  "by the largest head": [{ before: 1, score: { rows: "all", heads: "max" }, keep: { count: 9 } }],
  random: [{ before: 2, score: { random: 3 }, ...half }, { before: 4, score: { random: 3 }, keep: { count: 4 } }],
  grid: [{ before: 0, score: { grid: true }, keep: { count: 16 } }],
  kept: [{ before: 1, score: { kept: Uint32Array.of(0, 7, 33, 63) } }],
  vtw: [{ before: 2, score: { grid: true }, keep: { count: 0 } }],
};

for (const [name, cuts] of Object.entries(policies)) {
  test(`${name}: first token and sets as frozen; each step replays as a prefill of its own`, async () => {
    const options = { maxTokens: 6, minTokens: 6, logprobs: 8 };
    const frozen = await engine.generate(ask, { ...options, pruning: { cuts } });
    const anew = await engine.generate(ask, { ...options, pruning: { cuts, cache: "redecide" } });
    assert.is(anew.tokens[0], frozen.tokens[0]);
    assert.equal(anew.cuts.map(({ before, kept }) => ({ before, kept })), frozen.cuts);
    assert.equal(anew.usage.imageTokensPerStage, frozen.usage.imageTokensPerStage);
    assert.is(anew.flops.paper, 6 * frozen.flops.paper);

    const prompt = await engine.forward(ask, { images: true });
    const place = prompt.ids.indexOf(-1);
    const text = [...prompt.ids].filter((id) => id >= 0);
    for (let step = 0; step < anew.tokens.length; step++) {
      const ids = [...text.slice(0, place), -200, ...text.slice(place), ...anew.tokens.subarray(0, step)];
      const study = await engine.forward({ ids, features: prompt.features! }, { pruning: { cuts } });
      assert.equal(anew.cuts.map(({ steps }) => [...steps![step]!.kept]), study.cuts.map(({ kept }) => [...kept]));
      const best = study.logits.reduce((at, logit, id) => (logit > study.logits[at]! ? id : at), 0);
      // The end token is held back in the answer alone.
      if (best !== 2) assert.is(anew.tokens[step], best);
    }
  });
}

test("without pruning, deciding anew changes nothing but the cost", async () => {
  const [frozen, anew] = [
    await engine.generate(ask, { maxTokens: 12 }),
    await engine.generate(ask, { maxTokens: 12, pruning: { preset: "none", cache: "redecide" } }),
  ];
  assert.equal(anew.tokens, frozen.tokens);
});

test.run();
