import { cpSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";

import { test } from "uvu";
import * as assert from "uvu/assert";

import type { ModelEngine } from "../../lib/engine.js";
import type { Generation, Message, Result } from "../../lib/index.js";
import { learn, live, openPico, pico, request, said, type Life } from "../helpers/real-schedules.js";
import { withFolder } from "../helpers/tiny-checkpoint.js";

let engine: ModelEngine;
test.before(async () => {
  engine = await openPico();
});
test.after(() => engine.dispose());

test("24 requests of every kind say together what each says alone, bit by bit, in two orders", async () => {
  const alone: string[] = [];
  for (let i = 0; i < 24; i++) {
    const { messages, options } = request(i);
    alone.push(said(await engine.generate(messages, options)));
  }
  for (const backwards of [false, true]) {
    const order = Array.from({ length: 24 }, (_, i) => (backwards ? 23 - i : i));
    const together = await Promise.all(order.map((i) => engine.generate(request(i).messages, request(i).options)));
    order.forEach((i, at) => assert.is(said(together[at]!), alone[i], `request ${i}`));
  }
  assert.is(engine.state.pagesInUse, 0);
});

test("a request whose logits are no numbers fails alone, whoever shares its steps", async () => {
  await withFolder(async (folder) => {
    // A token whose embedding is NaN, as a damaged checkpoint may have one.
    const [damaged] = engine.tokenize("Z").slice(-1);
    cpSync(pico, folder, { recursive: true });
    const file = path.join(folder, "model.safetensors");
    const bytes = readFileSync(file);
    const headerBytes = Number(bytes.readBigUInt64LE(0));
    const { shape, data_offsets } = JSON.parse(bytes.toString("utf8", 8, 8 + headerBytes))["language_model.model.embed_tokens.weight"];
    bytes.writeUInt16LE(0x7e00, 8 + headerBytes + data_offsets[0] + damaged! * shape[1] * 2);
    writeFileSync(file, bytes);

    const sick = await openPico({}, folder);
    const neighbours = [1, 2].map((i) => request(i));
    const alone: string[] = [];
    for (const { messages, options } of neighbours) alone.push(said(await sick.generate(messages, options)));
    const bad: Message[] = [{ role: "user", content: "Z" }];
    for (const n of [1, 3]) {
      const outcomes = await Promise.allSettled([
        sick.generate(bad, { maxTokens: 8, n }),
        sick.forward(bad),
        ...neighbours.map(({ messages, options }) => sick.generate(messages, options)),
      ]);
      assert.equal(outcomes.slice(0, 2).map((outcome) => outcome.status === "rejected" && outcome.reason.code), ["ERR_BAD_CHECKPOINT", "ERR_BAD_CHECKPOINT"]);
      assert.equal(outcomes.slice(2).map((outcome) => outcome.status === "fulfilled" && said(outcome.value as Result)), alone);
    }
    assert.is(sick.state.pagesInUse, 0);
    await sick.dispose();
  });
});

test("n samples are those of n requests with each sample's own draw, and the first is that of n = 1", async () => {
  const { messages } = request(3);
  const options = { maxTokens: 16, temperature: 1.5, seed: 7, pruning: "himap" } as const;
  const many = await engine.generate(messages, { ...options, n: 12 });
  const few = await engine.generate(messages, { ...options, n: 3 });
  const one = await engine.generate(messages, options);
  const tokens = (result: Result): number[][] => (result.samples ?? [result]).map((sample) => [...sample.tokens]);
  assert.equal(tokens(many).slice(0, 3), tokens(few));
  assert.equal(tokens(few)[0], tokens(one)[0]);
  assert.ok(new Set(many.samples!.map(({ text }) => text)).size > 1);
  assert.ok(many.kvBytes < 12 * one.kvBytes);
});

test("requests are decoded while JavaScript is busy, and those that come meanwhile join", async () => {
  const options = { maxTokens: 1000, logitBias: { 2: -Infinity }, pruning: "himap" } as const;
  const long = engine.generate(request(0).messages, options);
  const pieces = long[Symbol.asyncIterator]();
  await pieces.next();
  // What comes while the event loop is held up is handed on in one turn, without the engine being asked again.
  let read = 0;
  for (let round = 0; round < 20 && read < 3; round++) {
    const before = performance.now();
    while (performance.now() - before < 200) {
      // Busy.
    }
    let turns = 0;
    const count = (): void => {
      turns += 1;
      if (turns < 3) setImmediate(count);
    };
    setImmediate(count);
    read = 0;
    while (turns < 3 && !(await pieces.next()).done) read += 1;
  }
  const late: Generation = engine.generate(request(1).messages, { maxTokens: 2 });
  assert.ok((await late).tokens.length <= 2);
  console.log(`NOTE: ${read} pieces stood ready after 200 ms of a busy event loop`);
  assert.ok(read >= 3, String(read));
  long.abort();
});

test("the pool's memory is taken as it is used, and by default the pool holds many prompts", async () => {
  const large = await openPico({ memory: { kvBytes: 8e9 } });
  assert.ok(large.info.memory.kvBytes > 7.9e9);
  await large.generate(request(0).messages, { maxTokens: 4 });
  assert.ok(process.memoryUsage().rss < 2e9);
  await large.dispose();
  const one = engine.plan({ images: 0, promptTokens: 2000, maxTokens: 48 });
  assert.ok(one.fits && engine.info.memory.kvBytes >= one.kvBytes);
  assert.ok(engine.info.memory.kvBytes <= 16 * one.kvBytes, "never more than maxBatch prompts of the full length");
});

test("30 random lives: each request ends once, no page is lost, answers are what they are alone", async () => {
  await learn(30);
  const life: Life = { requests: 0, outcomes: new Map() };
  let own = await openPico();
  for (let seed = 1; seed <= 30; seed++) {
    await live(own, seed, seed % 6 === 0, life);
    if (seed % 6 === 0) own = await openPico();
  }
  await own.dispose();
  console.log(`NOTE: ${life.requests} requests: ${[...life.outcomes].sort().map(([end, times]) => `${end} ${times}`).join(", ")}`);
  for (const end of ["done", "left", "ERR_ABORTED"]) assert.ok(life.outcomes.has(end), end);
});

test.run();
