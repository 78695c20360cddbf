import { test } from "uvu";
import * as assert from "uvu/assert";

import { Adjustments, type AdjustOptions } from "../../lib/sampling/adjust.js";

const options: AdjustOptions = {
  repetitionPenalty: 1,
  presencePenalty: 0,
  frequencyPenalty: 0,
  logitBias: new Map(),
  minTokens: 0,
  stopIds: new Set([2]),
};

/** As plain objects by token. */
function changes(adjustments: Adjustments): Record<number, [add: number, multiply: number]> {
  const { tokens = [], add = [], multiply = [] } = adjustments.next() ?? {};
  return Object.fromEntries(Array.from(tokens, (token, i) => [token, [add[i]!, multiply[i]!]]));
}

test("nothing asked for changes nothing", () => {
  const adjustments = new Adjustments(options, [1, 5, 5]);
  adjustments.push(7);
  assert.is(adjustments.next(), undefined);
});

test("the repetition penalty covers prompt and answer, once per id, and passes image rows over", () => {
  const adjustments = new Adjustments({ ...options, repetitionPenalty: 2 }, [1, 5, 5, -1, -1]);
  assert.equal(changes(adjustments), { 1: [0, 2], 5: [0, 2] });
  adjustments.push(9);
  adjustments.push(9);
  assert.equal(changes(adjustments), { 1: [0, 2], 5: [0, 2], 9: [0, 2] });
});

test("presence counts an id once, frequency each time, and both only the answer", () => {
  const adjustments = new Adjustments({ ...options, presencePenalty: 0.5, frequencyPenalty: 0.25 }, [1, 5]);
  assert.equal(changes(adjustments), {});
  adjustments.push(5);
  assert.equal(changes(adjustments), { 5: [-0.75, 1] });
  adjustments.push(5);
  adjustments.push(6);
  assert.equal(changes(adjustments), { 5: [-1, 1], 6: [-0.75, 1] });
});

test("negative penalties encourage", () => {
  const adjustments = new Adjustments({ ...options, presencePenalty: -1 }, []);
  adjustments.push(3);
  assert.equal(changes(adjustments), { 3: [1, 1] });
});

test("a bias is added to the rest, and forbids by -Infinity", () => {
  const logitBias = new Map([[3, 1.5], [4, -Infinity]]);
  const adjustments = new Adjustments({ ...options, logitBias, frequencyPenalty: 0.5, repetitionPenalty: 1.5 }, [8]);
  assert.equal(changes(adjustments), { 3: [1.5, 1], 4: [-Infinity, 1], 8: [0, 1.5] });
  adjustments.push(3);
  assert.equal(changes(adjustments), { 3: [1, 1.5], 4: [-Infinity, 1], 8: [0, 1.5] });
});

test("stop ids are banned until minTokens are there, bias or not", () => {
  const adjustments = new Adjustments({ ...options, minTokens: 2, stopIds: new Set([2, 6]), logitBias: new Map([[6, 3]]) }, []);
  assert.equal(changes(adjustments), { 2: [-Infinity, 1], 6: [-Infinity, 1] });
  adjustments.push(9);
  assert.equal(changes(adjustments), { 2: [-Infinity, 1], 6: [-Infinity, 1] });
  adjustments.push(9);
  assert.equal(changes(adjustments), { 6: [3, 1] });
});

test("ids come in ascending order", () => {
  const adjustments = new Adjustments({ ...options, repetitionPenalty: 1.1 }, [30, 4, 100, 7]);
  assert.equal([...adjustments.next()!.tokens], [4, 7, 30, 100]);
});

test.run();
