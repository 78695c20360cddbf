/**
 * Random lives of the real engine on models/pico-llava: requests of every kind together, some aborted, some left, some
 * disposed of. Each ends once, answers are what they are alone, and after each life nothing runs and no page is taken.
 */

import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

import * as assert from "uvu/assert";

import type { ModelEngine } from "../../lib/engine.js";
import { HimapError, load, type GenerateOptions, type LoadOptions, type Message, type Result } from "../../lib/index.js";
import { Random } from "./random.js";

const root = fileURLToPath(new URL("../..", import.meta.url));
const pictures = [1, 2, 3, 4].map((scene) => readFileSync(`${root}/examples/images/scene-${scene}.png`));
const texts = ["How many red shapes are there?", "What colour is the circle?", "Describe the picture.", "Is there a square? Say yes or no, and where it is."];

export const pico = `${root}/models/pico-llava`;

export const openPico = async (options: LoadOptions = {}, folder = pico): Promise<ModelEngine> =>
  (await load(folder, { threads: 2, maxBatch: 16, ...options })) as ModelEngine;

/** The requests that lives are made of, each of which says the same whenever it is asked. */
export function request(index: number): { messages: Message[]; options: GenerateOptions } {
  const random = new Random(index * 7919 + 1);
  const text = Array.from({ length: 1 + random.below(3) }, () => random.pick(texts)).join(" ");
  const image = random.pick(pictures);
  const options: GenerateOptions = { maxTokens: 1 + random.below(24), temperature: random.below(2) * 1.5, seed: random.below(5) };
  if (random.below(3) > 0) options.pruning = random.pick(["himap", "fastv", "grid", "random"] as const);
  if (random.below(4) === 0) options.n = 1 + random.below(5);
  if (random.below(4) === 0) options.minTokens = random.below(options.maxTokens! + 1);
  if (random.below(5) === 0) options.repetitionPenalty = 1.2;
  if (random.below(5) === 0) options.stop = random.pick(["e", "the", "re"]);
  if (random.below(5) === 0) options.logprobs = 2;
  const content: Message["content"] = random.below(4) === 0 ? text : [{ type: "image", image }, { type: "text", text }];
  return { messages: [{ role: "user", content }], options };
}

/** All that a result says but how long it took, bit by bit. */
export function said({ timings: _, ...result }: Result): string {
  return JSON.stringify(result, (_key, value: unknown) => (ArrayBuffer.isView(value) ? Array.from(value as Float32Array) : value));
}

const references = new Map<number, Promise<string>>();

/** What each request says alone, asked of an engine that runs nothing else. */
export async function learn(count: number): Promise<void> {
  const alone = await openPico({ maxBatch: 5 });
  for (let index = 0; index < count; index++) {
    const { messages, options } = request(index);
    references.set(index, Promise.resolve(alone.generate(messages, options)).then(said));
    await references.get(index);
  }
  await alone.dispose();
}

export interface Life {
  requests: number;
  outcomes: Map<string, number>;
}

/** One life. @param engine lives on, unless `ending` */
export async function live(engine: ModelEngine, seed: number, ending: boolean, life: Life): Promise<void> {
  const random = new Random(seed);
  const ends: Promise<string>[] = [];
  const ask = async (): Promise<string> => {
    const index = random.below(references.size);
    const { messages, options } = request(index);
    const controller = new AbortController();
    if (random.below(4) === 0) setTimeout(() => controller.abort(), random.below(60));
    const leaves = random.below(8) === 0 ? random.below(4) : Infinity;
    try {
      if (random.below(12) === 0) {
        await (random.below(2) === 0 ? engine.forward(messages, { signal: controller.signal, scores: true }) : engine.encodeImage(pictures[0]!));
        return "done";
      }
      const generation = engine.generate(messages, { ...options, priority: random.below(3), signal: controller.signal, ...(random.below(8) === 0 && { timeoutMs: 1 + random.below(50) }) });
      if (leaves < Infinity) {
        let pieces = 0;
        for await (const _ of generation) if (++pieces > leaves) return "left";
      }
      assert.is(said(await generation), await references.get(index), `request ${index}`);
      return "done";
    } catch (error) {
      if (error instanceof HimapError) return error.code;
      throw error;
    }
  };
  for (let left = 1 + random.below(8); left > 0; left--) {
    ends.push(ask());
    if (random.below(3) === 0) await new Promise((resolve) => setTimeout(resolve, random.below(10)));
  }
  if (ending) await (random.below(2) === 0 ? engine.dispose() : engine.drain().then(() => engine.dispose()));
  for (const end of await Promise.all(ends)) {
    life.requests += 1;
    life.outcomes.set(end, (life.outcomes.get(end) ?? 0) + 1);
    assert.ok(["done", "left", "ERR_ABORTED", "ERR_TIMEOUT", "ERR_DISPOSED"].includes(end), end);
  }
  // One that was left or aborted goes with the step that it was in.
  for (let turns = 0; engine.state.running > 0; turns++) {
    assert.ok(turns < 10_000, "somebody never leaves");
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  assert.equal({ ...engine.state, pages: 0 }, { waiting: 0, preparing: 0, ready: 0, running: 0, sequences: 0, pagesInUse: 0, pages: 0 });
}
