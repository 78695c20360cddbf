/**
 * Random arguments thrown at the addon's own functions, past every check of TypeScript: each call returns, or fails with a
 * code (or with what an argument's own getter threw), every promise settles, and the module works at the end as before.
 *   npm run fuzz:boundary -- [--calls 200000] [--seed 1]
 */

import { createRequire } from "node:module";
import { parseArgs } from "node:util";

import { nativePath } from "../../lib/binding/load.js";
import type { NativeEngine, NativeModule, StepInput } from "../../lib/binding/native.js";
import { Random } from "../helpers/random.js";
import { bits, decode, openBench, Pages, prefill } from "../helpers/steps.js";
import { OwnError, spoil, strange } from "./strange.js";

const { values } = parseArgs({ options: { calls: { type: "string", default: "200000" }, seed: { type: "string", default: "1" } } });
const calls = Number(values.calls);
const random = new Random(Number(values.seed));
const native = createRequire(import.meta.url)(nativePath()) as NativeModule;
const codes = new Set(native.errorCodes);
type Any = (...args: unknown[]) => unknown;

const bench = await openBench("mha");
const options = { backend: "cpu", threads: 1, weights: "map", kvType: "f32", kvPages: 64 } as const;
const { manifest } = bench.checkpoint;
const engine = await native.open(manifest, options);
const prompt = bench.prompt("text");

/** A prompt without and one with an image, a decode row, and both phases in one step: short, for there are many. */
function steps(): StepInput[] {
  const text = prefill(bench, prompt, [], new Pages(), 0, 2);
  const imageTokens = bench.checkpoint.config.imageTokens;
  const withImage = prefill(bench, { ids: [1, -200, 5], features: undefined }, bench.cuts("himap"), new Pages(), 0, 2);
  const images = [{ features: new Float32Array(imageTokens * bench.checkpoint.config.hidden).fill(0.01) }];
  return [
    { images: [], sequences: [{ ...text, adjust: { tokens: Int32Array.of(1), add: Float32Array.of(1), multiply: Float32Array.of(1) } }] },
    { images, sequences: [{ ...withImage, returnScores: true, study: { logits: "last", hidden: true, scores: true } }] },
    { images: [], sequences: [{ ...decode(bench, text, 7, 1, 2), allowed: new Uint32Array(14).fill(2 ** 32 - 1), stop: Int32Array.of(3), candidates: "last" }] },
    { images, sequences: [withImage, decode(bench, text, 9, 1)], copies: Int32Array.of(1, 62) },
  ];
}

const job = () => ({
  pixels: new Uint8Array(9 * 7 * 3).fill(90), width: 9, height: 7, channels: 3 as const, geometry: random.pick(["pad", "crop"] as const), side: 14,
  mean: [0.5, 0.4, 0.3], std: [0.2, 0.3, 0.4],
});
const planJob = () => ({ layers: 6, length: 70, imageTokens: 64, newTokens: 4, cuts: [{ before: 2, keep: 30 }, { before: 4, keep: 10 }] });

/** Three arguments: usually nearly right, otherwise anything. */
function triple(right: unknown[]): unknown[] {
  const args = [...right, ...Array.from({ length: 3 - right.length }, () => undefined)];
  const at = random.below(Math.max(1, right.length));
  const chosen = args[at];
  if (random.below(3) === 0) args[random.below(3)] = strange(random);
  else if (typeof chosen === "object" && chosen !== null) args[at] = spoil(random, chosen);
  else if (typeof chosen === "string" && chosen.length > 100) args[at] = spoilText(chosen);
  else args[at] = strange(random);
  return args;
}

function spoilText(text: string): string {
  const at = random.below(text.length);
  return text.slice(0, at) + random.pick(["", "\n", " ", "-", "9", "9999999999999999999", "\0", "%00", "é"]) + text.slice(at + random.below(12));
}

const throwing = (): never => {
  throw new OwnError();
};

/** Functions by how often they are called; opening a model is the slow one. */
const targets: [share: number, name: string, call: () => unknown][] = [
  [45, "step", () => (engine.step as Any)(...triple([random.pick(steps()), random.pick([undefined, () => {}, throwing])]))],
  [16, "preprocess", () => (native.preprocess as Any)(...triple([job()]))],
  [16, "plan", () => (native.plan as Any)(...triple([planJob()]))],
  [8, "pageBytes", () => (native.pageBytes as Any)(...triple([4, 64, "f16"]))],
  [6, "memoryOf", () => (native.memoryOf as Any)(...triple([manifest, 700, 1]))],
  [4, "open", () => (native.open as Any)(...triple([manifest, { ...options }, random.pick([() => {}, () => false, strange(random)])]))],
  [2, "yield", () => (engine.yield as Any)(...triple([]))],
  [1, "deviceMemory", () => (native.deviceMemory as Any)(...triple([random.pick(["cpu", "cuda"])]))],
  [2, "interrupt", () => (engine.interrupt as Any)(...triple([]))],
  [2, "backends", () => (native.backends as Any)(...triple([]))],
  [1, "close", () => closed[random.below(2) ? "step" : "close"]!(...triple([random.pick(steps())]))],
];
const gone = await native.open(manifest, options);
await gone.close();
const closed = gone as unknown as Record<string, Any>;

const counts = new Map<string, number>();
const count = (what: string): void => void counts.set(what, (counts.get(what) ?? 0) + 1);

/** What a failure may be: a code with a sentence, the argument's own error, or the language's for a revoked proxy or a class called as one. */
function judge(name: string, error: unknown): void {
  if (error instanceof OwnError) return count("the argument's own error");
  const { code, message } = (error ?? {}) as { code?: unknown; message?: unknown };
  if (error instanceof TypeError && code === undefined && /proxy|convert|iterat|class constructor/i.test(error.message)) return count("the language's own error");
  if (typeof code === "string" && codes.has(code) && code !== "ERR_INTERNAL" && typeof message === "string" && message.length > 0) return count(code);
  console.error(`${name} failed with`, error);
  process.exit(1);
}

async function settle(name: string, promise: Promise<unknown>): Promise<void> {
  try {
    const result = await promise;
    count("done");
    if (name === "open") await (result as NativeEngine).close();
  } catch (error) {
    judge(name, error);
  }
}

/** What must be the same at the end. */
async function fingerprint(): Promise<string> {
  let text = "";
  for (const input of steps()) for (const { candidates } of (await engine.step(input)).sequences) text += bits(candidates);
  return text;
}

const bag = targets.flatMap(([share, name, call]) => Array.from({ length: share }, () => ({ name, call })));
const expected = await fingerprint();
const started = performance.now();
let open: Promise<void>[] = [];
for (let i = 0; i < calls; i++) {
  const { name, call } = random.pick(bag);
  try {
    const result = call();
    if (result instanceof Promise) open.push(settle(name, result));
    else count("done");
  } catch (error) {
    judge(name, error);
  }
  if (open.length < 64) continue;
  await Promise.all(open);
  open = [];
}
await Promise.all(open);
if ((await fingerprint()) !== expected) {
  console.error("the engine answers otherwise than before");
  process.exit(1);
}
const summary = [...counts].sort().map(([what, n]) => `${what} ${n}`).join(", ");
console.log(`NOTE: ${calls} calls in ${((performance.now() - started) / 1000).toFixed(1)} s: ${summary}`);
