/** Replays one case of test/golden/ through the public API and compares everything that it records. */

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { suite } from "uvu";
import * as assert from "uvu/assert";

import { loadNative } from "../../lib/binding/load.js";
import { decodeImage } from "../../lib/image/decode.js";
import { load, type Cut, type Engine, type ForwardResult, type Message, type Pruning } from "../../lib/index.js";
import { readTensors, type Tensor } from "./safetensors.js";

interface GoldenPolicy {
  tokens: number[];
  kept: number[][];
  positions?: number[];
  redecide?: { tokens: number[]; kept: number[][][] };
}
interface GoldenRequest {
  name: string;
  messages: Message[];
  ids: number[];
  length: number;
  span: { start: number; count: number } | null;
  image?: { file: string; geometry: "pad" | "crop"; resized_sha256: string };
  sampled_rows: number[];
  policies: Record<string, GoldenPolicy>;
}
interface GoldenCase {
  image_tokens: number;
  shape: { image: number; heads: number };
  policies: Record<string, { cuts: { before: number; rows: "instruction" | "image" | "last" | "all"; heads: "mean" | "max"; keep: number }[] }>;
  requests: GoldenRequest[];
}

const folderOf = (name: string): string => fileURLToPath(new URL(`../golden/${name}/`, import.meta.url));
const mean = [0.48145466, 0.4578275, 0.40821073];
const std = [0.26862954, 0.26130258, 0.27577711];

/** Largest difference relative to the largest value of the reference. */
export function distance(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  assert.is(actual.length, expected.length, "lengths");
  let worst = 0;
  let largest = 0;
  for (let i = 0; i < expected.length; i++) {
    const difference = Math.abs(actual[i]! - expected[i]!);
    worst = difference > worst || Number.isNaN(difference) ? difference : worst;
    largest = Math.max(largest, Math.abs(expected[i]!));
  }
  return worst / largest;
}

function within(bound: number, actual: ArrayLike<number>, expected: ArrayLike<number>, what: string): void {
  const found = distance(actual, expected);
  assert.ok(found <= bound, `${what}: largest difference ${found} of the largest value, at most ${bound} allowed`);
}

/** Rows of a matrix, one after another. */
function rowsOf(matrix: Float32Array, rows: readonly number[], width: number): Float32Array {
  const out = new Float32Array(rows.length * width);
  rows.forEach((row, i) => out.set(matrix.subarray(row * width, (row + 1) * width), i * width));
  return out;
}

function pruningOf(golden: GoldenCase, policy: string): Exclude<Pruning, string> {
  const cuts: Cut[] = golden.policies[policy]!.cuts.map(({ before, rows, heads, keep }) => ({ before, score: { rows, heads }, keep: { count: keep } }));
  return { cuts };
}

/** The request's messages with the picture before the text of the first user message. */
function messagesOf(name: string, request: GoldenRequest): Message[] {
  if (!request.image) return request.messages;
  const first = request.messages.findIndex((message) => message.role === "user");
  return request.messages.map((message, i) =>
    i !== first ? message : {
      role: "user",
      content: [{ type: "image", image: { path: `${folderOf(name)}${request.image!.file}` } }, { type: "text", text: message.content as string }],
    });
}

/** The requests of a case with each of its policies, and the greedy tokens that the reference answers with. */
export function goldenRequests(name: string): {
  folder: string;
  geometry: "pad" | "crop";
  requests: { name: string; messages: Message[]; pruning: Pruning; tokens: number[] }[];
} {
  const golden = JSON.parse(readFileSync(`${folderOf(name)}case.json`, "utf8")) as GoldenCase;
  return {
    folder: `${folderOf(name)}checkpoint`,
    geometry: golden.requests[0]!.image!.geometry,
    requests: golden.requests.flatMap((request) =>
      Object.entries(request.policies).map(([policy, { tokens }]) => ({
        name: `${request.name}, ${policy}`,
        messages: messagesOf(name, request),
        pruning: request.image ? pruningOf(golden, policy) : "none",
        tokens,
      })),
    ),
  };
}

const slice = ({ shape, data }: Tensor, index: number): Float32Array => data.subarray(index * (data.length / shape[0]!), (index + 1) * (data.length / shape[0]!));

/** The CPU backend's instruction sets, worst to best: native/backend/cpu/choose.cc. */
const instructionSets = ["portable", "avx2", "avx512"];

/**
 * Defines and runs the tests of one case, on each instruction set that the machine has.
 * @param checkpoint The folder to open. Default: the case's own.
 */
export function goldenSuite(name: string, checkpoint = `${folderOf(name)}checkpoint`): void {
  const golden = JSON.parse(readFileSync(`${folderOf(name)}case.json`, "utf8")) as GoldenCase;
  const { usable, missing } = setsOfThisMachine();
  if (missing.length > 0) console.log(`NOTE: ${name} did not run on ${missing.join(", ")}: not on this machine`);
  for (const set of usable) goldenSuiteOn(set, name, golden, checkpoint);
}

function setsOfThisMachine(): { usable: string[]; missing: string[] } {
  const usable = instructionSets.filter((set) => withSet(set, () => loadNative().backends().some((backend) => backend.name === "cpu" && backend.usable)));
  return { usable, missing: instructionSets.filter((set) => !usable.includes(set)) };
}

/** `HIMAP_CPU` is read whenever a backend is asked or opened. */
function withSet<T>(set: string, use: () => T): T {
  process.env.HIMAP_CPU = set;
  try {
    return use();
  } finally {
    delete process.env.HIMAP_CPU;
  }
}

function goldenSuiteOn(set: string, name: string, golden: GoldenCase, checkpoint: string): void {
  const test = suite(`golden ${name}, ${set}`);
  let engine: Engine;
  test.before(async () => {
    const geometry = golden.requests[0]!.image!.geometry;
    process.env.HIMAP_CPU = set;
    engine = await load(checkpoint, { imageAspectRatio: geometry });
    delete process.env.HIMAP_CPU;
    assert.is(engine.info.simd, set);
  });
  test.after(() => engine.dispose());

  for (const request of golden.requests) {
    const messages = messagesOf(name, request);
    const reference = readTensors(`${folderOf(name)}${request.name}.safetensors`);
    const width = (): number => engine.info.hidden;

    if (request.image) {
      test(`${request.name}: the picture becomes the same pixels`, async () => {
        const image = await decodeImage({ path: `${folderOf(name)}${request.image!.file}` }, { maxPixels: 1e8, autoOrient: false });
        const made = await loadNative().preprocess({ ...image, geometry: request.image!.geometry, side: golden.shape.image, mean, std });
        assert.is(createHash("sha256").update(made.bytes).digest("hex"), request.image!.resized_sha256);
        const pixels = reference.get("pixel_values");
        if (pixels) made.pixels.forEach((value, i) => assert.ok(Math.abs(value - pixels.data[i]!) <= 1e-6, `pixel ${i}`));
      });
    }

    test(`${request.name}: ids, features, hidden states, logits and column sums without pruning`, async () => {
      const study = await engine.forward(messages, { logits: "all", hidden: true, scores: true, images: true, pruning: "none" });
      const expanded = request.ids.flatMap((id) => (id === -200 ? new Array<number>(golden.image_tokens).fill(-1) : [id]));
      assert.equal(Array.from(study.ids), expanded);
      assert.is(study.positions.length, request.length);
      const vocabulary = engine.info.vocabulary;
      within(1e-4, rowsOf(study.logits, request.sampled_rows, vocabulary), reference.get("logits")!.data, "logits");
      if (request.image) within(1e-4, study.features![0]!, reference.get("image_features")!.data, "image features");
      const vision = reference.get("vision_features");
      if (vision) within(1e-4, study.vision![0]!, vision.data, "vision features");
      const hidden = reference.get("hidden");
      if (hidden) {
        assert.is(study.hidden!.length, hidden.shape[0]);
        study.hidden!.forEach((layer, i) => within(1e-4, rowsOf(layer, request.sampled_rows, width()), slice(hidden, i), `hidden ${i}`));
      }
      const colsum = reference.get("colsum");
      if (colsum) checkColumnSums(study, colsum, golden.shape.heads, golden.image_tokens);
      checkBlocks(study, request, golden.shape.heads);
    });

    for (const [policy, expected] of Object.entries(request.policies)) {
      const pruning = pruningOf(golden, policy);
      test(`${request.name}, ${policy}: kept sets, greedy tokens and their log-probabilities`, async () => {
        const result = await engine.generate(messages, { pruning: request.image ? pruning : "none", maxTokens: 12, logprobs: 64, scores: true });
        assert.equal(result.cuts.map(({ kept }) => Array.from(kept)), expected.kept);
        assert.equal(Array.from(result.tokens), expected.tokens);
        result.cuts.forEach((cut, i) => {
          const scores = reference.get(`${policy}.scores${i}`);
          if (scores) within(1e-5, cut.scores!, scores.data, `scores of cut ${i}`);
        });
        const stepLogits = reference.get(`${policy}.step_logits`)!;
        const steps = stepLogits.shape[0]!;
        for (let step = 0; step < steps; step++) {
          // Fewer recorded steps than tokens: the first and the last.
          const token = step < steps - 1 ? step : expected.tokens.length - 1;
          checkLogprobs(result.logprobs![token]!.top, slice(stepLogits, step), `step ${token}`);
        }
      });

      if (expected.redecide) {
        const { tokens, kept } = expected.redecide;
        test(`${request.name}, ${policy}, decided anew at each token: kept sets, tokens and log-probabilities`, async () => {
          const result = await engine.generate(messages, { pruning: { ...pruning, cache: "redecide" }, maxTokens: tokens.length, logprobs: 64 });
          assert.equal(Array.from(result.tokens), tokens);
          assert.equal(tokens.map((_, step) => result.cuts.map(({ steps }) => Array.from(steps![step]!.kept))), kept);
          const stepLogits = reference.get(`${policy}.redecide_logits`)!;
          assert.is(stepLogits.shape[0], tokens.length);
          tokens.forEach((_, step) => checkLogprobs(result.logprobs![step]!.top, slice(stepLogits, step), `step ${step}`));
        });
      }

      if (expected.positions) {
        test(`${request.name}, ${policy}: the rows alive at the end keep their positions`, async () => {
          const study = await engine.forward(messages, { pruning });
          assert.equal(Array.from(study.positions), expected.positions);
        });
      }
    }

    if (request.image) {
      test(`${request.name}: with every image token kept, logits are bit-equal to no pruning`, async () => {
        const none = await engine.forward(messages, { logits: "all" });
        const all = await engine.forward(messages, { logits: "all", pruning: pruningOf(golden, "keep-all") });
        assert.equal(Buffer.from(all.logits.buffer).compare(Buffer.from(none.logits.buffer)), 0);
      });
    }
  }
  test.run();
}

function checkColumnSums(study: ForwardResult, colsum: Tensor, heads: number, imageTokens: number): void {
  const headless = colsum.shape.length === 3; // summed over heads
  study.colsum!.forEach((layer, i) => {
    let actual = layer;
    if (headless) {
      actual = new Float32Array(4 * imageTokens);
      for (let voters = 0; voters < 4; voters++) {
        for (let head = 0; head < heads; head++) {
          for (let token = 0; token < imageTokens; token++) {
            actual[voters * imageTokens + token]! += layer[(voters * heads + head) * imageTokens + token]!;
          }
        }
      }
    }
    within(1e-5, actual, slice(colsum, i), `column sums of layer ${i}`);
  });
}

/** Every row's attention sums to one, so each receiving block's mass is its number of rows. */
function checkBlocks(study: ForwardResult, request: GoldenRequest, heads: number): void {
  const image = request.span?.count ?? 0;
  const prefix = request.span?.start ?? request.length;
  const rows = [prefix, image, request.length - prefix - image];
  for (const layer of study.blocks!) {
    assert.is(layer.length, heads * 9);
    for (let head = 0; head < heads; head++) {
      rows.forEach((count, receiver) => {
        const mass = layer.subarray(head * 9 + receiver * 3, head * 9 + receiver * 3 + 3).reduce((sum, part) => sum + part, 0);
        assert.ok(Math.abs(mass - count) <= 1e-4 * Math.max(1, count), `block mass ${mass}, rows ${count}`);
      });
    }
  }
}

function checkLogprobs(top: { id: number; logprob: number }[], logits: Float32Array, what: string): void {
  const largest = logits.reduce((a, b) => Math.max(a, Math.abs(b)), 0);
  const best = logits.reduce((a, b) => Math.max(a, b), -Infinity);
  const logSumExp = best + Math.log(logits.reduce((sum, logit) => sum + Math.exp(logit - best), 0));
  for (const { id, logprob } of top) {
    const expected = logits[id]! - logSumExp;
    assert.ok(Math.abs(logprob - expected) <= 2e-4 * largest, `${what}: log-probability of ${id} is ${logprob}, expected ${expected}`);
  }
}
