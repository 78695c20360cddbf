import { channel } from "node:diagnostics_channel";

import { test } from "uvu";
import * as assert from "uvu/assert";

import { EmbeddingCache } from "../../lib/image/embedding-cache.js";
import type { RunnerState, StepFacts, WorkFacts } from "../../lib/schedule/observer.js";
import { Histogram } from "../../lib/stats/histogram.js";
import { metricsText } from "../../lib/stats/prometheus.js";
import { Rate } from "../../lib/stats/rate.js";
import { Recorder } from "../../lib/stats/recorder.js";
import type { EngineStats, TraceMessages } from "../../lib/stats/types.js";
import { parseMetrics } from "../helpers/prometheus.js";
import { createWorld } from "../helpers/schedule-world.js";

const idleState: RunnerState = { waiting: 0, preparing: 0, ready: 0, running: 0, sequences: 0, pagesInUse: 0, pages: 100 };
const stepOf = (idle: number, passes = 1): StepFacts => ({
  wallMs: 9, timings: { vision: 1, prefill: 2, decode: 3, idle }, sequences: 2, prefills: 1, prefillRows: 80, images: 1, passes,
});

function setUp(): { recorder: Recorder; state: RunnerState; clock: { now: number }; cache: EmbeddingCache } {
  const state = { ...idleState };
  const clock = { now: 1000 };
  const cache = new EmbeddingCache(4096);
  const recorder = new Recorder({ fingerprint: "f", pageBytes: 512, embeddings: cache, state: () => state, now: () => clock.now });
  return { recorder, state, clock, cache };
}

interface TestWork extends WorkFacts {
  tokens: number;
}

const workOf = (id: string): TestWork => ({ id, kind: "generate", samples: 1, promptTokens: 80, imageTokens: 64, keptImageTokens: 16, tokens: 0 });

test("a histogram counts a value in the first bucket that holds it", () => {
  const histogram = new Histogram([1, 2]);
  for (const value of [0, 1, 1.5, 2, 3, 1e9]) histogram.add(value);
  assert.equal(histogram.cumulative, [2, 4, 6]);
  assert.is(histogram.sum, 1e9 + 7.5);
});

test("a rate is over the last ten seconds, or since its beginning", () => {
  const rate = new Rate(500);
  assert.is(rate.perSecond(500), 0);
  rate.add(30, 500);
  assert.is(rate.perSecond(2000), 20);
  rate.add(70, 9500);
  assert.is(rate.perSecond(10_500 - 1), (1000 * 100) / 9999);
  assert.is(rate.perSecond(15_000), (1000 * 70) / 9500, "what came in the first second is forgotten");
  assert.is(rate.perSecond(1e6), 0);
});

test("counts of requests, tokens, rows, pages and pictures", () => {
  const { recorder, state, clock, cache } = setUp();
  const [one, two, three] = [workOf("generation-1"), workOf("generation-2"), workOf("generation-3")];
  for (const work of [one, two]) recorder.queued(work);
  Object.assign(state, { running: 2, sequences: 2, pagesInUse: 40 });
  for (const work of [one, two]) recorder.started(work, { waitedMs: 5, pages: 20 });
  one.tokens = 3;
  two.tokens = 2;
  clock.now = 2000;
  recorder.stepped(stepOf(50, 5));
  recorder.ended(three, { outcome: "ERR_QUEUE_FULL", totalMs: 0 });
  one.tokens = 4;
  recorder.ended(one, { outcome: "done", totalMs: 30 });
  Object.assign(state, { running: 1, sequences: 1, pagesInUse: 20, waiting: 3, preparing: 2, ready: 1 });
  recorder.stepped(stepOf(6));
  recorder.ended(two, { outcome: "ERR_ABORTED", totalMs: 30 });
  cache.remember({ identity: "a", width: 1, height: 1 }, new Float32Array(8));
  cache.hits = 7;
  clock.now = 3000;
  const expected: EngineStats = {
    uptimeMs: 2000,
    requests: { waiting: 3, preparing: 2, ready: 1, running: 1, ended: { done: 1, ERR_ABORTED: 1, ERR_QUEUE_FULL: 1 } },
    sequences: 1,
    pages: { used: 20, peak: 40, total: 100, bytes: 512 },
    tokens: { generated: 6, perSecond: 3, prefillRows: 160, imageSeen: 128, imageKept: 32 },
    // The first idle time was before there was anything to do.
    steps: { count: 2, vision: 2, prefill: 4, decode: 6, idle: 6, idleShare: 6 / 18 },
    embeddings: { hits: 7, misses: 0, count: 1, bytes: 32, capacity: 4096 },
  };
  assert.equal(recorder.stats(), expected);
});

test("the engine is idle only while there are requests", () => {
  const { recorder } = setUp();
  const idle = (): number => recorder.stats().steps.idle;
  const [one, two] = [workOf("1"), workOf("2")];
  recorder.queued(one);
  recorder.stepped(stepOf(100));
  assert.is(idle(), 0, "nothing was there before");
  recorder.stepped(stepOf(1));
  assert.is(idle(), 1);
  recorder.ended(one, { outcome: "done", totalMs: 1 });
  recorder.queued(two);
  recorder.stepped(stepOf(200));
  assert.is(idle(), 1, "for a moment nothing was there");
  recorder.queued(one);
  recorder.ended(two, { outcome: "ERR_TIMEOUT", totalMs: 1 });
  recorder.stepped(stepOf(2));
  assert.is(idle(), 3);
});

test("the metrics are what Prometheus reads, and say what the statistics say", () => {
  const { recorder } = setUp();
  const work = workOf("1");
  recorder.queued(work);
  recorder.firstToken(work, 20);
  recorder.firstToken(work, 400_000);
  recorder.stepped(stepOf(0));
  recorder.ended(work, { outcome: "done", totalMs: 1 });
  recorder.ended(work, { outcome: "ERR_QUEUE_FULL", totalMs: 1 });
  const families = parseMetrics(metricsText(recorder.stats(), { step: recorder.stepSeconds, firstToken: recorder.firstTokenSeconds }));
  const value = (family: string, sample = family): number | undefined => families.get(family)?.samples.get(sample);
  assert.is(value("himap_requests", 'himap_requests{state="waiting"}'), 0);
  assert.is(value("himap_requests_ended_total", 'himap_requests_ended_total{outcome="ERR_QUEUE_FULL"}'), 1);
  assert.is(value("himap_prefill_rows_total"), 80);
  assert.is(value("himap_engine_seconds_total", 'himap_engine_seconds_total{phase="decode"}'), 0.003);
  assert.is(value("himap_step_seconds", 'himap_step_seconds_bucket{le="0.005"}'), 0);
  assert.is(value("himap_step_seconds", 'himap_step_seconds_bucket{le="0.01"}'), 1);
  assert.is(value("himap_time_to_first_token_seconds", 'himap_time_to_first_token_seconds_bucket{le="300"}'), 1);
  assert.is(value("himap_time_to_first_token_seconds", "himap_time_to_first_token_seconds_count"), 2);
  assert.is(value("himap_kv_pages"), 100);
  assert.ok([...families.values()].every(({ help }) => help.endsWith(".")));
});

test("the parser of these tests refuses what is no metric", () => {
  const good = "# HELP a_total A.\n# TYPE a_total counter\na_total 1\n";
  assert.is(parseMetrics(good).size, 1);
  const bad = [
    good.slice(0, -1), good + good, `${good}b 1\n`, good.replace("counter", "number"), good.replaceAll("a_total", "a"), `${good}a_total 2\n`,
    good.replace(" 1\n", " x\n"), "a_total 1\n", good.replace("a_total 1", 'a_total{b=c} 1'),
    '# HELP h H.\n# TYPE h histogram\nh_bucket{le="1"} 2\nh_bucket{le="+Inf"} 1\nh_sum 1\nh_count 1\n',
    '# HELP h H.\n# TYPE h histogram\nh_bucket{le="1"} 1\nh_sum 1\nh_count 1\n',
  ];
  for (const text of bad) assert.throws(() => parseMetrics(text), undefined, text);
});

test("traces are published to those who subscribe, and made for nobody else", () => {
  const { recorder } = setUp();
  let looked = 0;
  const work = { ...workOf("generation-9"), get kind() { looked += 1; return "generate" as const; } };
  const play = (): void => {
    recorder.queued(work);
    recorder.started(work, { waitedMs: 5, pages: 20 });
    recorder.firstToken(work, 12);
    recorder.stepped(stepOf(0));
    recorder.ended(work, { outcome: "done", totalMs: 30 });
    recorder.ended(work, { outcome: "ERR_QUEUE_FULL", totalMs: 1 });
  };
  play();
  assert.is(looked, 0);

  const seen: [string, unknown][] = [];
  const names = ["himap:request:start", "himap:request:first-token", "himap:request:end", "himap:step"] satisfies (keyof TraceMessages)[];
  const listen = (message: unknown, name: string | symbol): void => void seen.push([String(name), message]);
  for (const name of names) channel(name).subscribe(listen);
  play();
  for (const name of names) channel(name).unsubscribe(listen);
  play();
  const request = { id: "generation-9", kind: "generate", fingerprint: "f", samples: 1, promptTokens: 80, imageTokens: 64, keptImageTokens: 16 };
  assert.equal(seen, [
    ["himap:request:start", request],
    ["himap:request:first-token", { ...request, sinceMs: 12 }],
    ["himap:step", { fingerprint: "f", wallMs: 9, vision: 1, prefill: 2, decode: 3, idle: 0, sequences: 2, prefills: 1, prefillRows: 80, images: 1, passes: 1 }],
    ["himap:request:end", { ...request, outcome: "done", tokens: 0, totalMs: 30, waitedMs: 5, pages: 20 }],
    ["himap:request:end", { ...request, outcome: "ERR_QUEUE_FULL", tokens: 0, totalMs: 1 }],
  ]);
});

test("an engine tells what stands where, what it did, and how requests ended", async () => {
  const { engine } = createWorld({ maxBatch: 3, maxQueue: 2, pages: 300 });
  const options = { maxTokens: 5, logitBias: { 2: -Infinity } };
  const [one, two] = [engine.generate("a", options), engine.generate("b", { ...options, n: 2 })];
  const refused = Promise.resolve(engine.generate("c", options)).catch(({ code }) => code);
  assert.is(engine.stats().requests.preparing, 2);
  const results = await Promise.all([one, two]);
  assert.is(await refused, "ERR_QUEUE_FULL");
  const { requests, sequences, tokens, pages, steps, uptimeMs } = engine.stats();
  assert.equal(requests, { waiting: 0, preparing: 0, ready: 0, running: 0, ended: { done: 2, ERR_QUEUE_FULL: 1 } });
  assert.equal([sequences, tokens.generated, tokens.prefillRows], [0, 15, results[0].usage.promptTokens + results[1].usage.promptTokens]);
  assert.ok(pages.peak > 0 && pages.used <= pages.peak && pages.peak <= pages.total);
  assert.ok(steps.count > 0 && steps.decode > 0 && uptimeMs >= 0);
  const families = parseMetrics(engine.metrics());
  assert.is(families.get("himap_tokens_generated_total")?.samples.get("himap_tokens_generated_total"), 15);
  assert.is(families.get("himap_time_to_first_token_seconds")?.samples.get("himap_time_to_first_token_seconds_count"), 2);
  await engine.dispose();
  assert.is(engine.stats().tokens.generated, 15);
});

test.run();
