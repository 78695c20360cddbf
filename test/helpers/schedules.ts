/**
 * Random lives of an engine: requests of every kind, aborts, deadlines, failing steps and pictures, drain and dispose.
 * Whatever happens, every request ends once, no page stays taken, and an answer that ends well is what it is alone.
 */

import * as assert from "uvu/assert";

import { HimapError } from "../../lib/errors.cjs";
import type { Delta, GenerateOptions, Message, Result } from "../../lib/types.js";
import { Random } from "./random.js";
import { createWorld, type World } from "./schedule-world.js";

export interface Tally {
  requests: number;
  steps: number;
  /** Requests by how they ended. */
  outcomes: Map<string, number>;
}

const raw = { pixels: new Uint8Array(12), width: 2, height: 2, channels: 3 } as const;
const cuts = [{ before: 1, score: { rows: "instruction" }, keep: { count: 3 } }] as const;
/** Beyond it, a world that still has work has lost some of it. */
const mostTurns = 20_000;
const allowed = ["done", "left", "ERR_ABORTED", "ERR_TIMEOUT", "ERR_DISPOSED", "ERR_QUEUE_FULL", "ERR_OUT_OF_MEMORY", "ERR_BAD_IMAGE", "ERR_TOO_LARGE"];

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** The requests that schedules are made of; each is run alone once, and every other time compared with that. */
function template(index: number): { messages: Message[]; options: GenerateOptions } {
  const random = new Random(index);
  const text = Array.from({ length: 1 + random.below(random.below(4) === 0 ? 60 : 8) }, () => `w${random.below(99)}`).join(" ");
  const image = random.below(4) === 0;
  const n = random.below(4) === 0 ? 1 + random.below(4) : 1;
  const maxTokens = 1 + random.below(random.below(8) === 0 ? 50 : 6);
  const options: GenerateOptions = { maxTokens, n, temperature: random.below(4) === 0 ? 3 : 0, seed: random.below(9) };
  if (random.below(5) === 0) options.repetitionPenalty = 1.3;
  if (random.below(5) === 0) options.minTokens = random.below(maxTokens + 1);
  if (random.below(5) === 0) options.stop = [String.fromCharCode(66 + random.below(60)), "AB"];
  if (random.below(5) === 0) options.stopTokenIds = Array.from({ length: 9 }, () => 3 + random.below(61));
  if (random.below(5) === 0) options.logprobs = random.below(5);
  if (image && random.below(2) === 0) options.pruning = { cuts: [...cuts], cache: n === 1 && random.below(4) === 0 ? "redecide" : "frozen" };
  return {
    messages: [{ role: "user", content: image ? [{ type: "image", image: raw }, { type: "text", text }] : text }],
    options,
  };
}

const templates = 300;
const references = new Map<number, Promise<string>>();

function said({ text, tokens, finishReason, samples, cuts: decided, logprobs }: Result): string {
  return JSON.stringify([text, [...tokens], finishReason, samples, decided.map(({ kept }) => [...kept]), logprobs]);
}

function referenceOf(index: number): Promise<string> {
  let reference = references.get(index);
  if (!reference) {
    const { messages, options } = template(index);
    reference = Promise.resolve(createWorld({ pages: 2000 }).engine.generate(messages, options)).then(said);
    references.set(index, reference);
  }
  return reference;
}

async function runSchedule(seed: number, tally: Tally): Promise<void> {
  const random = new Random(seed);
  const fault = (code: string): Error => Object.assign(new Error("fault"), { code });
  const failing = random.below(3) === 0 ? 20 : 1e9;
  const world = createWorld({
    pages: 8 + random.below(30),
    maxBatch: 4 + random.below(5),
    maxQueue: 1 + random.below(20),
    fake: {
      before() {
        if (random.below(failing) === 0) throw fault("ERR_OUT_OF_MEMORY");
      },
    },
    decode: async () => {
      for (let turns = random.below(4); turns > 0; turns--) await turn();
      if (random.below(12) === 0) throw new HimapError("ERR_BAD_IMAGE", "bad");
    },
  });
  const { engine, clock } = world;
  const ends: Promise<string>[] = [];
  const aborts: (() => void)[] = [];
  let settled = 0;

  const outcome = async (request: PromiseLike<unknown>): Promise<string> => {
    try {
      await request;
      return "done";
    } catch (error) {
      assert.instance(error, HimapError, String(error));
      return (error as HimapError).code;
    }
  };
  const track = (end: Promise<string>): void => {
    tally.requests += 1;
    ends.push(end.finally(() => (settled += 1)));
  };
  const generate = (): void => {
    const index = random.below(templates);
    const { messages, options } = template(index);
    const controller = new AbortController();
    const generation = engine.generate(messages, {
      ...options,
      priority: random.below(5) - 2,
      ...(random.below(3) === 0 && { timeoutMs: 1 + random.below(300) }),
      ...(random.below(3) === 0 && { signal: controller.signal }),
    });
    aborts.push(random.below(2) === 0 ? () => generation.abort("enough") : () => controller.abort());
    const leaveAfter = random.below(8) === 0 ? random.below(5) : Infinity;
    const reads = random.below(3) === 0;
    track((async () => {
      const texts: string[] = [];
      const read = reads ? readSome(generation, texts, leaveAfter) : Promise.resolve(false);
      const [end, left] = await Promise.all([outcome(generation), read.catch(() => false)]);
      if (end !== "done") return left ? "left" : end;
      const result = await generation;
      assert.is(said(result), await referenceOf(index), `template ${index}`);
      if (reads && !left) assert.is(texts.join("\u0000"), (result.samples ?? [result]).map(({ text }) => text).join("\u0000"));
      return end;
    })());
  };

  for (let action = 4 + random.below(10); action > 0; action--) {
    switch (random.below(12)) {
      case 0: case 1: case 2: case 3: case 4:
        generate();
        break;
      case 5:
        track(outcome(random.below(2) === 0 ? engine.forward("a b c") : engine.encodeImage(raw)));
        break;
      case 6:
        aborts[random.below(aborts.length + 1)]?.();
        break;
      case 7:
        if (random.below(20) === 0) void engine.dispose();
        if (random.below(20) === 0) void engine.drain();
        break;
      case 8:
        clock.advance(random.below(100));
        break;
      default:
        for (let turns = 1 + random.below(4); turns > 0; turns--) await turn();
    }
  }
  await finish(world, random.below(4), () => settled === ends.length);
  for (const end of await Promise.all(ends)) {
    assert.ok(allowed.includes(end), end);
    tally.outcomes.set(end, (tally.outcomes.get(end) ?? 0) + 1);
  }
  await engine.dispose();
  tally.steps += world.native.steps;
  assert.equal(engine.state, { ...engine.state, waiting: 0, preparing: 0, ready: 0, running: 0, sequences: 0, pagesInUse: 0 });
  for (const [id, { times }] of world.ends) assert.is(times, 1, `${id} ended ${times} times`);
  for (const id of world.queued) assert.ok(world.ends.has(id), `${id} never ended`);
  assert.is(clock.pending, 0, "no deadline outlives its request");
}

/** Reads pieces, by sample; true when it left before the end. */
async function readSome(generation: AsyncIterable<Delta>, texts: string[], leaveAfter: number): Promise<boolean> {
  let pieces = 0;
  for await (const { sample, text } of generation) {
    for (let i = texts.length; i <= sample; i++) texts.push("");
    texts[sample] += text;
    if (++pieces > leaveAfter) return true;
  }
  return false;
}

/** Lets time pass until all has ended, after a drain or a dispose or neither. */
async function finish({ engine, clock }: World, how: number, done: () => boolean): Promise<void> {
  const end = how === 0 ? engine.dispose() : how === 1 ? engine.drain() : undefined;
  let turns = 0;
  for (; !done(); turns++) {
    assert.ok(turns < mostTurns, "somebody starves");
    if (turns % 8 === 0) clock.advance(2);
    await turn();
  }
  await end;
}

/** Runs `count` schedules, many at a time. An assertion that fails names the seed. */
export async function runSchedules(first: number, count: number, progress: (done: number) => void = () => {}): Promise<Tally> {
  const tally: Tally = { requests: 0, steps: 0, outcomes: new Map() };
  let next = first;
  let done = 0;
  const lane = async (): Promise<void> => {
    while (next < first + count) {
      const seed = next++;
      try {
        await runSchedule(seed, tally);
      } catch (cause) {
        throw new Error(`schedule ${seed}: ${String((cause as Error).message)}`, { cause });
      }
      progress(++done);
    }
  };
  await Promise.all(Array.from({ length: 64 }, lane));
  return tally;
}
