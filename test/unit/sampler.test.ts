import { test } from "uvu";
import * as assert from "uvu/assert";

import type { Candidates, StepSampling } from "../../lib/binding/native.js";
import { logprobsOf } from "../../lib/sampling/logprobs.js";
import { keyOf } from "../../lib/sampling/philox.js";
import { chooseToken } from "../../lib/sampling/sampler.js";

const settings: StepSampling = { temperature: 1, topK: 0, topP: 1, minP: 0, seed: keyOf(1), sample: 0 };

function candidatesOf(logits: number[]): Candidates {
  return {
    ids: Int32Array.from(logits, (_, i) => 100 + i),
    logits: Float32Array.from(logits),
    logSumExp: Math.log(logits.reduce((sum, logit) => sum + Math.exp(logit), 0)),
  };
}

/** How often each index is chosen over `draws` positions. */
function histogram(logits: number[], sampling: Partial<StepSampling>, draws = 10_000): number[] {
  const counts = new Array<number>(logits.length).fill(0);
  const candidates = candidatesOf(logits);
  for (let position = 0; position < draws; position++) counts[chooseToken(candidates, { ...settings, ...sampling }, position)]! += 1;
  return counts;
}

/** Largest distance of a count from its expectation, in standard deviations. */
function deviation(counts: number[], probabilities: number[]): number {
  const draws = counts.reduce((sum, count) => sum + count, 0);
  return Math.max(...probabilities.map((p, i) => Math.abs(counts[i]! - draws * p) / Math.sqrt(draws * p * (1 - p) + 1e-9)));
}

const softmax = (logits: number[]): number[] => {
  const total = logits.reduce((sum, logit) => sum + Math.exp(logit), 0);
  return logits.map((logit) => Math.exp(logit) / total);
};

test("temperature 0 takes the first candidate whatever else is set", () => {
  assert.equal(histogram([3, 3, 1], { temperature: 0, topP: 0.1, topK: 1 }, 50), [50, 0, 0]);
});

test("draws follow the softmax, sharper when colder", () => {
  const logits = [2, 1.5, 1, 0, -3];
  assert.ok(deviation(histogram(logits, {}), softmax(logits)) < 4);
  assert.ok(deviation(histogram(logits, { temperature: 0.5 }), softmax(logits.map((logit) => logit * 2))) < 4);
  assert.ok(deviation(histogram(logits, { temperature: 3 }), softmax(logits.map((logit) => logit / 3))) < 4);
});

test("top-k keeps the k best, renormalised", () => {
  const counts = histogram([2, 1, 0.5, 0], { topK: 2 });
  assert.equal(counts.slice(2), [0, 0]);
  assert.ok(deviation(counts.slice(0, 2), softmax([2, 1])) < 4);
  assert.equal(histogram([2, 1, 0.5], { topK: 1 }, 20), [20, 0, 0]);
  assert.ok(histogram([2, 1], { topK: 1000 }).every((count) => count > 0));
});

test("top-p keeps the smallest set that reaches the sum, after top-k", () => {
  const even = [1, 1, 1, 1];
  assert.equal(histogram(even, { topP: 0.5 }).slice(2), [0, 0]);
  assert.ok(histogram(even, { topP: 0.51 })[2]! > 0);
  assert.is(histogram(even, { topP: 0.51 })[3], 0);
  // Of the three that top-k leaves, half is reached by the second.
  assert.equal(histogram(even, { topP: 0.6, topK: 3 }).map(Boolean), [true, true, false, false]);
  assert.equal(histogram(even, { topP: 0 }, 20), [20, 0, 0, 0]);
});

test("min-p drops what is below a share of the best, after the temperature", () => {
  const logits = [0, Math.log(0.5), Math.log(0.2)];
  assert.equal(histogram(logits, { minP: 0.4 }).map(Boolean), [true, true, false]);
  assert.equal(histogram(logits, { minP: 0.6 }, 20), [20, 0, 0]);
  assert.equal(histogram(logits, { minP: 0.4, temperature: 2 }).map(Boolean), [true, true, true]);
  assert.equal(histogram(logits, { minP: 1 }, 20), [20, 0, 0]);
});

test("a draw depends on seed, sample and position, and on nothing else", () => {
  const candidates = candidatesOf(Array.from({ length: 64 }, (_, i) => -i / 64));
  const run = (sampling: Partial<StepSampling>): string =>
    Array.from({ length: 40 }, (_, position) => chooseToken(candidates, { ...settings, ...sampling }, position)).join();
  assert.is(run({}), run({}));
  assert.is.not(run({}), run({ seed: keyOf(2) }));
  assert.is.not(run({}), run({ seed: keyOf(1 + 2 ** 32) }));
  assert.is.not(run({}), run({ sample: 1 }));
});

test("tokens forbidden by an infinite bias are never drawn, and a tiny temperature is greedy", () => {
  assert.equal(histogram([1, -Infinity], {}, 200), [200, 0]);
  assert.equal(histogram([1, 0.99], { temperature: 1e-300 }, 50), [50, 0]);
});

// A change of these numbers changes the answers that a seed gives, and must be made in native/engine/sampler.cc too.
test("fixed choices", () => {
  const candidates = candidatesOf(Array.from({ length: 64 }, (_, i) => 5 - i * 0.125));
  const choices = (sampling: Partial<StepSampling>): number[] =>
    Array.from({ length: 12 }, (_, i) => chooseToken(candidates, { ...settings, seed: keyOf(42), ...sampling }, 600 + i));
  assert.equal(choices({}), [0, 10, 4, 4, 12, 9, 1, 6, 3, 9, 16, 11]);
  assert.equal(choices({ temperature: 0.7, topK: 20 }), [0, 6, 3, 3, 8, 6, 0, 4, 2, 6, 10, 7]);
  assert.equal(choices({ topP: 0.9, minP: 0.05, sample: 3 }), [1, 0, 8, 8, 0, 13, 10, 6, 5, 7, 3, 5]);
});

test("log-probabilities are of the adjusted distribution, and list the best", () => {
  const candidates = candidatesOf([2, 1, 0]);
  const { id, logprob, top } = logprobsOf(candidates, 1, 2, (token) => `t${token}`);
  const expected = softmax([2, 1, 0]).map(Math.log);
  assert.is(id, 101);
  assert.ok(Math.abs(logprob - expected[1]!) < 1e-6);
  assert.equal(top.map((entry) => [entry.id, entry.text]), [[100, "t100"], [101, "t101"]]);
  assert.ok(Math.abs(top[0]!.logprob - expected[0]!) < 1e-6);
  assert.is(logprobsOf(candidates, 0, 64, String).top.length, 3);
  assert.equal(logprobsOf(candidates, 0, 0, String).top, []);
});

test.run();
