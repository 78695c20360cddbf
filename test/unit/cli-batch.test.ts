import { test } from "uvu";
import * as assert from "uvu/assert";

import type { JobEnd } from "../../lib/batch/job.js";
import { exitCodeOf } from "../../lib/cli/batch.js";
import { jobBar, progressText, summaryText } from "../../lib/cli/batch-progress.js";
import { Stop } from "../../lib/cli/command.js";
import { durationText } from "../../lib/text.js";

const stats = {
  done: 40, failed: 2, inFlight: 4, unread: 0, promptTokens: 6000, completionTokens: 400, imageTokens: 5760, keptImageTokens: 720,
  elapsedMs: 5000, requestsPerSecond: 8.4, completionTokensPerSecond: 80,
};
const failures: JobEnd["failures"] = [{ code: "ERR_BAD_IMAGE", count: 2, message: "a\x1b.png: no image" }, { code: "ERR_TIMEOUT", count: 1, message: "late" }];
const end: JobEnd = { total: 3000, ended: 120, failed: 2, stats, failures: [], strangers: 0, suspects: 0 };
const nothing = { ...stats, done: 0, failed: 0, imageTokens: 0, keptImageTokens: 0, requestsPerSecond: 0 };

test("lengths of time as people say them", () => {
  assert.equal([0, 43_000, 343_000, 7_500_000].map(durationText), ["0 s", "43 s", "5 min 43 s", "2 h 5 min"]);
});

test("how far a job is, with what is known", () => {
  assert.is(progressText(end), "120 of 3000 items, 2 failed, 8.40/s, 5 min 43 s left, 13 % of image tokens kept");
  assert.is(progressText({ ...end, failed: 0, stats: nothing }), "120 of 3000 items");
});

test("what a job came to", () => {
  assert.is(
    summaryText(end, "out/r.jsonl"),
    "r.jsonl: 120 of 3000 items, 2 failed (--retry-failed runs them again)\n"
      + "this run: 42 items in 5.00 s, 8.40/s, 80.0 tokens/s, 400 tokens out, 720 of 5760 image tokens kept (13 %)\n",
  );
  assert.is(
    summaryText({ ...end, failed: 0, strangers: 3, stats: nothing }, "r.jsonl"),
    "r.jsonl: 120 of 3000 items\nthis run: there was nothing to do\nr.jsonl also holds 3 results of items that the input does not have\n",
  );
});

test("why items failed: how many with each code, and what the first of them said", () => {
  const lines = summaryText({ ...end, failures }, "r.jsonl").split("\n").slice(1, -2);
  assert.equal(lines, ["  2 ERR_BAD_IMAGE, the first: a\ufffd.png: no image", "  1 ERR_TIMEOUT: late"]);
});

test("one of a thing, and more than a thousand a second", () => {
  const one = { ...stats, done: 1, failed: 0, completionTokens: 1, imageTokens: 0, elapsedMs: 0.5, requestsPerSecond: 1720.4, completionTokensPerSecond: 1634 };
  assert.is(
    summaryText({ ...end, total: 1, ended: 1, failed: 0, strangers: 1, stats: one }, "r"),
    "r: 1 of 1 item\nthis run: 1 item in 0.50 ms, 1,720/s, 1,630 tokens/s, 1 token out\nr also holds 1 result of items that the input does not have\n",
  );
});

test("exit codes: stopped, failed, cut short, done", () => {
  const stopped = AbortSignal.abort(new Stop(130));
  const { signal } = new AbortController();
  const whole = { ...end, ended: end.total, failed: 0 };
  assert.equal([exitCodeOf(end, stopped), exitCodeOf(end, signal), exitCodeOf({ ...whole, failed: 2 }, signal)], [130, 1, 1]);
  assert.equal([exitCodeOf(whole, signal), exitCodeOf(whole, stopped)], [0, 0]);
});

test("a bar on a terminal, wiped at the end; a line every ten seconds elsewhere", () => {
  let now = 0;
  const draw = (error: boolean, times: number[]): string => {
    let notes = "";
    now = 0;
    const bar = jobBar({ note: (text) => void (notes += text), isTerminal: { output: false, error } }, () => now);
    for (now of times) bar.update({ ...end, ended: 1500, stats: nothing });
    bar.end();
    return notes;
  };
  assert.is(draw(true, [10, 100, 120]), "\r\x1b[K[============            ] 1500 of 3000 items, 2 failed\r\x1b[K");
  assert.is(draw(false, [100, 9_000, 10_100, 12_000]), "1500 of 3000 items, 2 failed\n");
});

test.run();
