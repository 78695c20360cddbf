import { test } from "uvu";
import * as assert from "uvu/assert";

import { markdown } from "../../bench/eval/markdown.js";
import { report, type Answered, type Evaluation } from "../../bench/eval/report.js";
import { isRight, type Question } from "../../bench/eval/score.js";
import { bootstrapOver, mcnemar, wilson } from "../../bench/eval/statistics.js";

const near = (actual: number, expected: number, within = 1e-4): void => assert.ok(Math.abs(actual - expected) <= within, `${actual} is not ${expected}`);

test("an answer is right whatever its case and final full stop, and nothing else", () => {
  const question: Question = { id: 0, scene: 0, type: "at", question: "", answer: "green ring" };
  for (const text of ["green ring", " Green Ring. ", "GREEN RING\n"]) assert.ok(isRight(question, text), text);
  for (const text of ["green", "a green ring", "green ring..", "green  ring", ""]) assert.not(isRight(question, text), text);
});

test("a caption names each object and no other, in any order", () => {
  const question: Question = { id: 0, scene: 0, type: "caption", question: "", answer: "", objects: ["red star", "blue star", "orange ring"] };
  for (const text of ["a red star, a blue star and an orange ring", "An orange ring, a red star, a blue star."]) assert.ok(isRight(question, text), text);
  for (const text of [
    "a red star and a blue star", "a red star, a red star and an orange ring", "a red star, a blue star, an orange ring and a red ring",
    "red star, blue star, orange ring", "a red star a blue star an orange ring", "",
  ]) assert.not(isRight(question, text), text);
});

test("Wilson's interval against known values", () => {
  const half = wilson(50, 100);
  near(half.low, 0.4038);
  near(half.high, 0.5962);
  const none = wilson(0, 10);
  near(none.low, 0);
  near(none.high, 0.2775);
  near(wilson(10, 10).low, 0.7225);
});

test("McNemar's exact test against the binomial distribution", () => {
  near(mcnemar(10, 2), (2 * (1 + 12 + 66)) / 4096, 1e-12);
  near(mcnemar(2, 10), mcnemar(10, 2), 1e-15);
  assert.is(mcnemar(0, 0), 1);
  assert.is(mcnemar(5, 5), 1);
  near(mcnemar(0, 8), 2 / 256, 1e-12);
  // As large as it comes: the plain power would be 0.
  near(mcnemar(1000, 900), 0.0231, 5e-4);
});

test("the bootstrap draws scenes: questions that stand or fall together widen it", () => {
  const values = Array.from({ length: 400 }, (_, i) => (i < 100 ? 1 : 0));
  const apart = bootstrapOver(values.map((_, i) => i), 2000)(values);
  const together = bootstrapOver(values.map((_, i) => Math.floor(i / 10)), 2000)(values);
  // The standard error of a share of a quarter is 0.0217 of 400 single questions, 0.0685 of 40 scenes of ten.
  near(apart.low, 0.25 - 1.96 * 0.0217, 0.006);
  near(apart.high, 0.25 + 1.96 * 0.0217, 0.006);
  near(together.high - together.low, 2 * 1.96 * 0.0685, 0.02);
  assert.equal(bootstrapOver([0, 1, 2])([0, 0, 0]), { low: 0, high: 0 });
});

const questions: Question[] = Array.from({ length: 40 }, (_, i) => ({ id: i, scene: i >> 1, type: i % 2 ? "shape" : "colour", question: "?", answer: "a" }));
const answered = (right: boolean, prefillMs = 1): Answered => ({
  text: right ? "a" : "b", right, ended: true, imageTokensPerLayer: 54, paperShare: 0.35, prefillFlops: 7e8, prefillShare: 0.5, prefillMs, kvBytes: 2e6,
});

test("rows, agreement and pairs from answers", () => {
  const { rows, himapAgainst, blank } = report(
    questions,
    [
      { preset: "none", answers: questions.map(() => answered(true)) },
      { preset: "himap", answers: questions.map((_, i) => answered(i >= 10, i)) },
      { preset: "random", answers: questions.map(() => answered(true)) },
      { preset: "random", answers: questions.map(() => answered(false)) },
    ],
    questions.map(() => answered(false)),
  );
  const [none, himap, random] = rows;
  assert.is(rows.length, 3);
  assert.is(none!.accuracy.share, 1);
  assert.is(none!.againstNone, undefined);
  assert.is(himap!.accuracy.share, 0.75);
  assert.is(himap!.byType.shape!.right, 15);
  assert.is(himap!.agreement, 0.75);
  assert.is(himap!.prefillMs, 19.5);
  assert.is(himap!.againstNone!.lost, 10);
  assert.is(himap!.againstNone!.won, 0);
  near(himap!.againstNone!.p!, 2 / 1024, 1e-12);
  assert.is(random!.runs, 2);
  assert.equal(random!.runShares, [1, 0]);
  assert.is(random!.accuracy.share, 0.5);
  assert.equal(random!.accuracy.interval, wilson(20, 40), "two runs of the same questions are not twice as many questions");
  assert.is(random!.againstNone!.p, undefined);
  assert.is(himapAgainst.random!.difference, 0.25);
  assert.is(blank.accuracy.right, 0);
});

test("the page says who loses", () => {
  const runs = [
    { preset: "none" as const, answers: questions.map(() => answered(true)) },
    { preset: "himap" as const, answers: questions.map((_, i) => answered(i >= 10)) },
  ];
  const facts = { others: 0, background: 0, simd: "s", threads: 2, fingerprint: "f", questions: 40, scenes: 20, layers: 16, imageTokens: 144, maxTokens: 64, encodeMs: 3 };
  const page = markdown({ ...facts, ...report(questions, runs, questions.map(() => answered(false))) } satisfies Evaluation);
  assert.match(page, /\| `himap` \| 75\.0 \(59\.8 to 85\.8\) \| 75 % \| 54\.0 \| 35 % \| 700 MFLOP \(50 %\) \| 1\.0 ms \| 2\.00 MB \|/);
  assert.match(page, /- `himap` against `none`: loses, -25\.0 points .* answers lost 10, won 0; exact McNemar p = 0\.0020/);
  assert.match(page, /\n\n\| pruning \|/);
});

test.run();
