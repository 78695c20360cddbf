import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

import { test } from "uvu";
import * as assert from "uvu/assert";

import type { StepImage, StepInput } from "../../lib/binding/native.js";
import { EmbeddingCache } from "../../lib/image/embedding-cache.js";
import { identifyFile, identifyPrepared, type PictureView } from "../../lib/image/identity.js";
import { rememberEmbeddings } from "../../lib/image/remember.js";
import { loadWith } from "../../lib/load.js";
import { checkLoad } from "../../lib/request/load.js";
import type { Engine, ImageInput, LoadOptions, Message } from "../../lib/types.js";
import { FakeEngine, fakeModule, type FakeOptions } from "../helpers/fake-native.js";

const folder = fileURLToPath(new URL("../golden/mha/checkpoint", import.meta.url));
const file = readFileSync(new URL("../golden/mha/short.png", import.meta.url));
const picture = (identity: string): { identity: string; width: number; height: number } => ({ identity, width: 4, height: 2 });
const grey = (value: number): ImageInput => ({ pixels: new Uint8Array(12).fill(value), width: 2, height: 2, channels: 3 });
const ask = (...images: ImageInput[]): Message[] => [{ role: "user", content: images.map((image) => ({ type: "image", image })) }];

async function open(options: LoadOptions = {}, fake: FakeOptions = {}): Promise<{ engine: Engine; native: FakeEngine; encoded: () => number }> {
  const native = new FakeEngine({ hidden: 128, ...fake });
  const engine = await loadWith(() => fakeModule(fake, native), checkLoad(folder, options));
  return { engine, native, encoded: () => native.log.flatMap(({ images }) => images).filter(({ pixels }) => pixels).length };
}

test("the least recently used is forgotten first, and the bytes stay within the bound", () => {
  const cache = new EmbeddingCache(3 * 16);
  for (const name of ["a", "b", "c"]) cache.remember(picture(name), new Float32Array(4));
  assert.is(cache.bytes, 48);
  assert.is(cache.use("a")?.width, 4);
  cache.remember(picture("d"), new Float32Array(4));
  assert.equal([...["a", "b", "c", "d"]].filter((name) => cache.use(name)), ["a", "c", "d"]);
  cache.remember(picture("e"), new Float32Array(8));
  assert.equal([...["a", "c", "d", "e"]].filter((name) => cache.use(name)), ["d", "e"]);
  assert.equal([cache.bytes, cache.size, cache.hits], [48, 2, 6]);
  cache.remember(picture("too large"), new Float32Array(13));
  assert.equal([cache.bytes, cache.size, cache.use("too large")], [48, 2, undefined]);
});

test("an identity tells apart what a model would see differently, and nothing else", async () => {
  const view: PictureView = { fingerprint: "m", geometry: "pad", autoOrient: false };
  const of = [
    await identifyFile(file, view),
    await identifyFile(Uint8Array.from(file), view),
    await identifyFile(file, { ...view, geometry: "crop" }),
    await identifyFile(file, { ...view, autoOrient: true }),
    await identifyFile(file, { ...view, fingerprint: "n" }),
    await identifyFile(file.subarray(1), view),
    await identifyPrepared(file, "m"),
    await identifyPrepared(file, "n"),
    await identifyPrepared(file.subarray(1), "m"),
  ];
  assert.is(of[0], of[1]);
  assert.is(new Set(of).size, of.length - 1);
});

function stepOf(images: StepImage[], spans: number[][]): StepInput {
  const rows = 64;
  return {
    images,
    sequences: spans.map((of, i) => ({
      phase: "prefill", ids: new Int32Array(rows * (of.length / 3)).fill(-1), positions: new Int32Array(rows * (of.length / 3)), spans: Int32Array.from(of),
      cuts: [], stages: [{ cached: 0, blocks: 9, pages: Int32Array.from({ length: 9 }, (_, page) => i * 9 + page) }], stop: new Int32Array(0),
      burst: 1, sampling: { temperature: 0, topK: 0, topP: 1, minP: 0, seed: [0, 0], sample: 0 },
    })),
  };
}

test("within a step a picture is encoded once, and everyone gets what was asked for", async () => {
  const cache = new EmbeddingCache(1e6);
  const native = new FakeEngine();
  const engine = rememberEmbeddings(native, cache);
  const pixels = [1, 1, 2, 3].map((value) => new Float32Array(12).fill(value));
  pixels.slice(0, 3).forEach((one, i) => cache.expect(one, picture(["a", "a", "b"][i]!)));
  const given = new Float32Array(64 * 8).fill(9);
  const images: StepImage[] = [
    { pixels: pixels[0]! }, { pixels: pixels[1]!, returnFeatures: true }, { pixels: pixels[2]! }, { pixels: pixels[3]! }, { features: given },
    { pixels: pixels[0]!, returnVision: true },
  ];
  const output = await engine.step(stepOf(images, [[0, 64, 0, 64, 64, 1], [0, 64, 2], [0, 64, 3, 64, 64, 4, 128, 64, 5]]));
  const [{ images: run, sequences }] = native.log as [StepInput];
  assert.equal(run.map((image) => image.pixels?.[0] ?? "features"), [1, 2, 3, "features", 1]);
  assert.equal(sequences.map((sequence) => [...sequence.spans].filter((_, i) => i % 3 === 2)), [[0, 0], [1], [2, 3, 4]]);
  assert.equal(output.images.map((image) => Object.keys(image)), [[], ["features"], [], [], [], ["vision"]]);
  assert.is(output.images[1]!.features![0], 1);
  assert.equal([cache.hits, cache.misses, cache.size], [1, 2, 2], "unknown pixels, given features and the tower's own output are left alone");
  output.images[1]!.features!.fill(0);
  assert.is(cache.use("a")!.features[0], 1, "what is handed out is a copy");

  const later = await engine.step(stepOf([{ pixels: pixels[1]!, returnFeatures: true }, { pixels: pixels[2]! }], [[0, 64, 0, 64, 64, 1]]));
  assert.equal(native.log[1]!.images.map((image) => Object.keys(image)), [["features", "returnFeatures"], ["features"]]);
  assert.is(later.images[0]!.features![0], 1);
  assert.equal([cache.hits, cache.misses], [4, 2]);
});

test("a step that fails is not remembered", async () => {
  const cache = new EmbeddingCache(1e6);
  const engine = rememberEmbeddings(new FakeEngine({ before: (step) => { if (step === 0) throw new Error("lost"); } }), cache);
  const pixels = new Float32Array(12).fill(1);
  cache.expect(pixels, picture("a"));
  const failed = await engine.step(stepOf([{ pixels }], [[0, 64, 0]])).then(() => false, () => true);
  assert.equal([failed, cache.size], [true, 0]);
  await engine.step(stepOf([{ pixels }], [[0, 64, 0]]));
  assert.is(cache.size, 1);
});

test("the same picture again skips the tower, in whatever form its bytes come; placement and cost are told alike", async () => {
  const { engine, native, encoded } = await open();
  const first = await engine.generate(ask(file), { maxTokens: 3 });
  const again = await engine.generate(ask(new Blob([file])), { maxTokens: 3 });
  assert.is(encoded(), 1);
  assert.equal(native.log.find(({ images }) => images[0]?.features)?.images.length, 1);
  assert.equal(again.images, first.images);
  assert.is.not(again.images[0], first.images[0]);
  assert.equal(again.flops, first.flops);
  const embedding = await engine.encodeImage({ path: fileURLToPath(new URL("../golden/mha/short.png", import.meta.url)) });
  assert.equal([encoded(), embedding.image], [1, first.images[0]]);
  assert.is(engine.stats().embeddings.hits, 2);
  await engine.generate(ask(file), { maxTokens: 1, imageAspectRatio: engine.info.imageAspectRatio === "pad" ? "crop" : "pad" });
  await engine.generate(ask(grey(7)), { maxTokens: 1 });
  assert.is(encoded(), 3);
  await engine.dispose();
});

test("the same picture twice in a prompt, and in requests under way together, is encoded once", async () => {
  const { engine, encoded } = await open({}, { delay: () => 2 });
  await Promise.all(Array.from({ length: 6 }, () => engine.generate(ask(grey(5), grey(5)), { maxTokens: 2 })));
  assert.is(encoded(), 1);
  await engine.dispose();
});

test("pixels that their owner changes later are another picture", async () => {
  const { engine, encoded } = await open();
  const image = { pixels: new Uint8Array(12).fill(1), width: 2, height: 2, channels: 3 } as const;
  const running = engine.generate(ask(image), { maxTokens: 1 });
  await engine.generate(ask(grey(1)), { maxTokens: 1 });
  await running;
  image.pixels.fill(2);
  await engine.generate(ask(image), { maxTokens: 1 });
  await engine.generate(ask(grey(2)), { maxTokens: 1 });
  assert.is(encoded(), 2);
  await engine.dispose();
});

test("0 bytes turn it off; other sizes are checked", async () => {
  const { engine, encoded } = await open({ memory: { embeddingBytes: 0 } });
  for (let i = 0; i < 2; i++) await engine.generate(ask(file), { maxTokens: 1 });
  assert.is(encoded(), 2);
  await engine.dispose();
  for (const embeddingBytes of [-1, 1.5, NaN, "1" as never]) {
    assert.throws(() => checkLoad(folder, { memory: { embeddingBytes } }), /memory\.embeddingBytes/);
  }
  assert.is(checkLoad(folder, {}).embeddingBytes, 2 ** 28);
  assert.is(checkLoad(folder, { memory: { kvBytes: 5 } }).kvBytes, 5);
});

test.run();
