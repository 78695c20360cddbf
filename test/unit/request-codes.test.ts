/** Every code that a request can end with, each with requests that end with it; the engine then answers the next one. */

import path from "node:path";

import sharp from "sharp";
import { test } from "uvu";
import * as assert from "uvu/assert";

import { errorCodes, HimapError, type ErrorCode } from "../../lib/errors.cjs";
import { loadWith } from "../../lib/load.js";
import { packageRoot } from "../../lib/package.js";
import { checkLoad } from "../../lib/request/load.js";
import type { Engine, GenerateOptions, ImageInput, LoadOptions } from "../../lib/types.js";
import { FakeEngine, fakeModule } from "../helpers/fake-native.js";

const folder = path.join(packageRoot, "test", "golden", "mha", "checkpoint");
const pageBytes = 2 * 2 * 64 * 32 * 4;
const png = await sharp({ create: { width: 10, height: 1, channels: 3, background: "red" } }).png().toBuffer();

type Request = (engine: Engine) => PromiseLike<unknown>;
const text = (options: GenerateOptions = {}, words = "hi"): Request => (engine) => engine.generate(words, options);
const picture = (image: ImageInput, options: GenerateOptions = {}): Request => (engine) =>
  engine.generate([{ role: "user", content: [{ type: "image", image }] }], { maxTokens: 1, ...options });
const allTokens = Object.fromEntries(Array.from({ length: 448 }, (_, id) => [id, -Infinity]));

interface Setting {
  options?: LoadOptions;
  /** What the first native step rejects with. */
  native?: ErrorCode;
  /** No request can be answered afterwards. */
  last?: true;
}

const cases: [code: ErrorCode, name: string, request: Request, setting?: Setting][] = [
  ["ERR_INVALID_ARG", "an option out of range", text({ maxTokens: 0 })],
  ["ERR_INVALID_ARG", "every token forbidden", text({ logitBias: allTokens })],
  ["ERR_INVALID_ARG", "more answers than run at once", text({ n: 2 }), { options: { maxBatch: 1 } }],
  ["ERR_CONTEXT_OVERFLOW", "a prompt beyond the positions", text({}, "a b ".repeat(3000))],
  ["ERR_CONTEXT_OVERFLOW", "ids beyond the positions", (engine) => engine.forward({ ids: new Array<number>(4097).fill(5) })],
  ["ERR_TOO_LARGE", "more KV than the pool", text({ maxTokens: 400 }), { options: { memory: { kvBytes: 5 * 4 * pageBytes } } }],
  ["ERR_TOO_LARGE", "a picture of too many pixels", picture(png), { options: { maxPixels: 9 } }],
  ["ERR_BAD_IMAGE", "a picture that is cut short", picture(png.subarray(0, 40))],
  ["ERR_BAD_IMAGE", "a picture that is not there", picture({ path: "/nowhere/at/all.png" })],
  ["ERR_UNSUPPORTED_FILE", "a picture in a format that is not read", picture(Buffer.from("%PDF-1.4\n"))],
  ["ERR_QUEUE_FULL", "one request more than may wait", async (engine) => {
    const requests = [1, 2, 3].map(() => text({ maxTokens: 2 })(engine));
    await Promise.allSettled(requests);
    return requests[2];
  }, { options: { maxQueue: 2 } }],
  ["ERR_TIMEOUT", "a deadline that passes", picture(new ReadableStream(), { timeoutMs: 5 })],
  ["ERR_ABORTED", "aborted before it begins", text({ signal: AbortSignal.abort() })],
  ["ERR_ABORTED", "aborted while its picture is read", picture(new ReadableStream(), { signal: AbortSignal.timeout(5) })],
  ["ERR_ABORTED", "disposed of while it is under way", (engine) => {
    const request = text({ maxTokens: 400 })(engine);
    void engine.dispose();
    return request;
  }, { last: true }],
  ["ERR_DISPOSED", "asked after dispose", async (engine) => {
    await engine.dispose();
    return text()(engine);
  }, { last: true }],
  ["ERR_DISPOSED", "asked after drain", async (engine) => {
    await engine.drain();
    return text()(engine);
  }, { last: true }],
  ["ERR_OUT_OF_MEMORY", "a step without memory", text(), { native: "ERR_OUT_OF_MEMORY" }],
  ["ERR_DEVICE_LOST", "a step on a device that is gone", text(), { native: "ERR_DEVICE_LOST" }],
  ["ERR_INTERNAL", "a step that finds a defect", text(), { native: "ERR_INTERNAL" }],
];

for (const [code, name, request, { options = {}, native, last } = {}] of cases) {
  test(`${code}: ${name}`, async () => {
    const before = (step: number): void => {
      if (native !== undefined && step === 0) throw Object.assign(new Error("native"), { code: native });
    };
    const fake = { hidden: 128, before };
    const engine = await loadWith(() => fakeModule(fake, new FakeEngine(fake)), checkLoad(folder, options));
    const end: unknown = await Promise.resolve(request(engine)).catch((error: unknown) => error);
    assert.instance(end, HimapError);
    assert.is((end as HimapError).code, code, String(end));
    if (!last) assert.is((await engine.generate("hi", { maxTokens: 2 })).tokens.length, 2);
    await engine.dispose();
  });
}

test("every code of a request is there", () => {
  // The others are of checkpoints and binaries, which `load` meets.
  const ofLoad = ["ERR_BAD_CHECKPOINT", "ERR_TENSOR_MISSING", "ERR_TENSOR_EXTRA", "ERR_TENSOR_SHAPE", "ERR_UNSUPPORTED_MODEL", "ERR_NO_BINARY"];
  const met = new Set<string>(cases.map(([code]) => code));
  assert.equal(Object.keys(errorCodes).filter((code) => !met.has(code)), ofLoad);
});

test.run();
