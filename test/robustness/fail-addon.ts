/**
 * Each request of the addon to the system (memory, maps, files, threads: test/native/fail_nth.h) fails once, on its whole way from the
 * call in JavaScript to the value that the promise brings: the first, then the second, until there are no more. Each time the call
 * fails with a code, or brings the same as ever; nothing is left over once the garbage is collected; the module goes on.
 *   node --expose-gc --import tsx test/robustness/fail-addon.ts
 */

import { strict as assert } from "node:assert";
import { openSync } from "node:fs";
import { createRequire } from "node:module";
import { setImmediate as turn } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { Worker } from "node:worker_threads";

import type { NativeEngine, NativeModule, PreprocessJob, StepInput } from "../../lib/binding/native.js";
import { bits, decode, openBench, Pages, prefill } from "../helpers/steps.js";

interface Held { blocks: number; maps: number; descriptors: number; threads: number }

/** The addon of test/native/fail_nth_addon.cc. */
interface FailingModule extends NativeModule {
  failNth(nth: number): void;
  failedRequest(): string | undefined;
  held(): Held;
}

const file = fileURLToPath(new URL("../../build/native-tests/fail-nth/himap.node", import.meta.url));
const native = createRequire(import.meta.url)(file) as FailingModule;
const collect = globalThis.gc;
if (collect === undefined) throw new Error("expected node to be started with --expose-gc");

/** What may come of a request that fails: no memory, a file that cannot be read, a backend that cannot be opened. */
const codes = new Set(["ERR_OUT_OF_MEMORY", "ERR_BAD_CHECKPOINT", "ERR_NO_BINARY"]);

/** What is held once it is what was expected, or after all the turns that finalizers could want. */
async function settled(expected?: Held): Promise<Held> {
  for (let turns = 0; turns < 100; turns++) {
    if (expected !== undefined && turns > 0 && JSON.stringify(native.held()) === JSON.stringify(expected)) break;
    if (expected === undefined && turns === 20) break;
    collect!();
    await turn();
  }
  return native.held();
}

/** Does `work` with each request failing once; without a fault it must give the same each time. */
async function eachFault(name: string, work: () => unknown, refused: (error: unknown) => boolean = typed): Promise<void> {
  const expected = await work();
  const before = await settled();
  let refusals = 0;
  for (let nth = 1; ; nth++) {
    native.failNth(nth);
    const request = `${name}: request ${nth}`;
    let refusal: unknown;
    try {
      assert.deepEqual(await work(), expected, `${request} failed and the result is another`);
    } catch (error) {
      if (!refused(error)) throw new Error(`${request}, ${native.failedRequest()}, failed with ${String(error)}`, { cause: error });
      refusal = error;
    }
    const fired = native.failedRequest() !== undefined;
    native.failNth(0);
    refusals += Number(refusal !== undefined);
    assert.ok(fired || refusal === undefined, `${request} was refused without a fault: ${String(refusal)}`);
    assert.deepEqual(await settled(before), before, `${request} left something over`);
    if (fired) continue;
    console.log(`NOTE: ${name}: ${nth - 1} requests failed one after another, ${refusals} typed errors, the others made no difference`);
    return;
  }
}

function typed(error: unknown): boolean {
  const { code, message } = (error ?? {}) as { code?: unknown; message?: unknown };
  return codes.has(code as string) && typeof message === "string" && message.length > 0;
}

const bench = await openBench("mha");
const { manifest, config } = bench.checkpoint;
const options = { backend: "cpu", threads: 2, weights: "map", kvType: "f32", kvPages: 64 } as const;

/** A prompt with a picture, cuts, a study and everything that a sequence can be given; then two tokens behind it, told as they come. */
const prompt = prefill(bench, { ids: [1, -200, 5], features: undefined }, bench.cuts("himap"), new Pages(), 0, 4);
const steps: StepInput[] = [
  {
    images: [{ features: new Float32Array(config.imageTokens * config.hidden).fill(0.01) }],
    sequences: [{ ...prompt, returnScores: true, study: { logits: "last", hidden: true, scores: true } }],
    copies: Int32Array.of(1, 62),
  },
  {
    images: [],
    sequences: [{
      ...decode(bench, prompt, 7, 1, 2), allowed: new Uint32Array(14).fill(2 ** 32 - 1), stop: Int32Array.of(3),
      adjust: { tokens: Int32Array.of(1), add: Float32Array.of(1), multiply: Float32Array.of(1) },
    }],
  },
];

async function answer(engine: NativeEngine): Promise<string> {
  let text = "";
  let told = 0;
  for (const input of steps) {
    const { sequences } = await engine.step(input, (tokens) => void (told += tokens.length));
    for (const { candidates, cuts } of sequences) text += bits(candidates) + JSON.stringify(cuts);
  }
  return `${text} ${told}`;
}

const picture: PreprocessJob = {
  pixels: new Uint8Array(9 * 7 * 3).fill(90), width: 9, height: 7, channels: 3, geometry: "pad", side: 14, mean: [0.5, 0.4, 0.3], std: [0.2, 0.3, 0.4],
};
const descriptor = openSync(fileURLToPath(import.meta.url), "r");

await eachFault("plan", () => native.plan({ layers: 6, length: 70, imageTokens: 64, newTokens: 4, cuts: [{ before: 2, keep: 30 }] }));
await eachFault("memoryOf", () => native.memoryOf(manifest, 700, 1));
await eachFault("deviceMemory", () => void native.deviceMemory("cpu")); // where the library cannot be opened, nothing is told
await eachFault("a refusal", () => assert.throws(() => native.plan({} as never), { code: "ERR_INVALID_ARG" }), (error) => (error as Error).message.includes("ERR_OUT_OF_MEMORY"));
await eachFault("lockFile", () => native.lockFile({ descriptor }));
await eachFault("backends", () => native.backends().map(({ name }) => name)); // or one is not usable, with the reason
await eachFault("preprocess", () => native.preprocess(picture));
await eachFault("a model opened and closed", async () => {
  let done = 0;
  const engine = await native.open(manifest, options, (bytes) => {
    done = bytes;
  });
  await engine.close();
  return done;
});
{
  const engine = await native.open(manifest, options);
  const expected = await answer(engine);
  await eachFault("steps", () => answer(engine));
  assert.equal(await answer(engine), expected);
  await engine.close();
}

// A worker has a module of its own, and threads for pictures that only its first picture starts.
const script = `
  const { parentPort, workerData } = require("node:worker_threads");
  const { file, picture } = workerData;
  (async () => (await require(file).preprocess(picture)).bytes.length)().then(
    (bytes) => parentPort.postMessage({ bytes }), ({ code, message }) => parentPort.postMessage({ code, message }));`;
await eachFault("the module in a worker", async () => {
  const worker = new Worker(script, { eval: true, workerData: { file, picture } });
  const [answered] = await Promise.all([
    new Promise<{ code?: string; message?: string }>((resolve, reject) => worker.once("message", resolve).once("error", reject)),
    new Promise((resolve) => worker.once("exit", resolve)),
  ]);
  if (answered.message !== undefined) throw Object.assign(new Error(answered.message), { code: answered.code });
  return answered;
});
