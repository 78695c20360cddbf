/**
 * Mixed load on models/pico-llava for as long as asked: answers with and without pruning, streamed and aborted, pictures in
 * every form, bad requests; half of it on one engine that lives as long as the run, half on engines that are loaded and
 * disposed of. Resident memory is sampled after a forced collection while only the first is open, since mapped weights and
 * copied ones weigh differently; the slope of a line through the samples must stay below a bound.
 *   npm run soak -- [--minutes 120]
 *
 * The bound is 1 MB per hour from 60 minutes on, the first ten minutes left out as warm-up. Shorter runs cannot see that
 * little: allocator and collector take and give back some megabytes at a time, and one such step in a run of m minutes is a
 * slope of 60 / m times as much per hour. So below 60 minutes it is the rise of the line over the whole run that is bounded,
 * by 16 MB (runs of twenty seconds came to -19, -7, 1 and 4 MB), after a third of it as warm-up.
 *
 * The script in package.json takes out what allocators keep for later, which comes and goes by megabytes and is nobody's leak:
 * one arena of the C library instead of one for every thread (in runs of four minutes the samples stood 1.3 MB from their
 * line, then 0.5), larger blocks given back at once, a young generation of V8 that does not grow. And it runs as one JavaScript
 * file: the hooks with which tsx reads TypeScript have a thread and a V8 heap of their own, which hears of every `import()`, so of
 * every picture, and grew from 6 to 13 MB in an hour.
 */

import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

import { HimapError, load, type Engine, type ImageInput, type Message } from "../../lib/index.js";
import { Random } from "../helpers/random.js";

const { values } = parseArgs({ options: { minutes: { type: "string", default: "120" } } });
const minutes = Number(values.minutes);
const collect = globalThis.gc;
if (collect === undefined) throw new Error("expected node to be started with --expose-gc");

const root = fileURLToPath(new URL("../..", import.meta.url));
const folder = `${root}/models/pico-llava`;
const file = `${root}/test/golden/mha/short.png`;
const bytes = readFileSync(file);
const random = new Random(1);

/** Every form that a picture may have. */
const forms: (() => ImageInput)[] = [
  () => ({ path: file }),
  () => new URL(`file://${file}`),
  () => bytes,
  () => new Blob([bytes]),
  () => new Blob([bytes]).stream(),
  () => ({ pixels: new Uint8Array(60 * 40 * 3).fill(random.below(256)), width: 60, height: 40, channels: 3 }),
  () => ({ pixels: new Uint8Array(33 * 90 * 4).fill(random.below(256)), width: 33, height: 90, channels: 4 }),
];
const ask = (...images: ImageInput[]): Message[] => [
  { role: "user", content: [...images.map((image) => ({ type: "image", image }) as const), { type: "text", text: "How many red shapes are there?" }] },
];
const picture = (): ImageInput => random.pick(forms)();

/** One piece of work, and how it may end: "done", or with an error of this code. */
interface Piece {
  run: (engine: Engine) => PromiseLike<unknown>;
  ends: readonly string[];
}

const piece = (run: Piece["run"], ...ends: string[]): Piece => ({ run, ends });

const good: Piece[] = [
  piece((engine) => engine.generate(ask(picture()), { maxTokens: 8, pruning: "himap" }), "done"),
  piece((engine) => engine.generate(ask(picture()), { maxTokens: 8, pruning: "none", temperature: 1, seed: random.below(1000) }), "done"),
  piece((engine) => engine.generate("Hello", { maxTokens: 8 }), "done"),
  piece((engine) => engine.forward(ask(picture()), { scores: true, logits: "all" }), "done"),
  piece(async (engine) => engine.generate(ask({ embedding: await engine.encodeImage(picture()) }), { maxTokens: 3 }), "done"),
  piece(async (engine) => {
    let left = random.below(5);
    for await (const _ of engine.generate(ask(picture()), { maxTokens: 20, pruning: "himap" })) if (left-- === 0) break;
  }, "done"),
];
const works: Piece[] = [
  ...good,
  piece(async (engine) => {
    const controller = new AbortController();
    setTimeout(() => controller.abort(), random.below(20));
    await engine.generate(ask(picture()), { maxTokens: 20, signal: controller.signal });
  }, "done", "ERR_ABORTED"),
  piece((engine) => engine.generate(ask(bytes.subarray(0, 100 + random.below(200))), {}), "ERR_BAD_IMAGE"),
  piece((engine) => engine.generate(ask(new Uint8Array(50)), {}), "ERR_BAD_IMAGE"),
  piece((engine) => engine.generate("x ".repeat(20_000), { maxTokens: 2 }), "ERR_CONTEXT_OVERFLOW"),
  piece((engine) => engine.generate("x", { maxTokens: -1 }), "ERR_INVALID_ARG"),
  piece((engine) => engine.generate([{ role: "nobody", content: "x" }] as never, {}), "ERR_INVALID_ARG"),
];

// Few pictures are remembered, so that soon each new one has another forgotten.
const steady = await load(folder, { threads: 1, memory: { embeddingBytes: 2 ** 20 } });
let engine = await load(folder);
const counts = new Map<string, number>();
const count = (what: string): void => void counts.set(what, (counts.get(what) ?? 0) + 1);

async function carryOut({ run, ends }: Piece, on: Engine): Promise<void> {
  let end = "done";
  try {
    await run(on);
  } catch (error) {
    if (!(error instanceof HimapError)) throw error;
    end = error.code;
  }
  if (!ends.includes(end)) throw new Error(`expected ${ends.join(" or ")} but received ${end} from ${run.toString()}`);
  count(end);
}

/**
 * What is resident and the process's own. Pages of files, such as mapped weights and Node's code, are left out: the kernel takes
 * them and brings them back as it likes, 63 MB at once in a run of two hours on a busy machine.
 */
function ownMegabytes(): number {
  const kilobytes = process.platform === "linux" ? /^RssAnon:\s+(\d+) kB$/m.exec(readFileSync("/proc/self/status", "utf8"))?.[1] : undefined;
  return kilobytes === undefined ? process.memoryUsage().rss / 2 ** 20 : Number(kilobytes) / 1024;
}

/** The line of least squares through (hours, megabytes): its slope, and the samples' standard deviation from it. */
function fitLine(samples: readonly (readonly [hours: number, megabytes: number])[]): { slope: number; scatter: number } {
  const mean = (of: 0 | 1): number => samples.reduce((sum, sample) => sum + sample[of], 0) / samples.length;
  const [x, y] = [mean(0), mean(1)];
  let above = 0;
  let below = 0;
  for (const [hours, megabytes] of samples) {
    above += (hours - x) * (megabytes - y);
    below += (hours - x) ** 2;
  }
  const slope = above / below;
  const squares = samples.reduce((sum, [hours, megabytes]) => sum + (megabytes - y - slope * (hours - x)) ** 2, 0);
  return { slope, scatter: Math.sqrt(squares / samples.length) };
}

function report(): void {
  const { heapUsed, heapTotal, external } = process.memoryUsage();
  const [used, total, outside] = [heapUsed, heapTotal, external].map((bytes) => (bytes / 2 ** 20).toFixed(1));
  console.error(`${sampled.toFixed(0)} minutes: ${samples.at(-1)![1].toFixed(1)} MB; V8's heap ${used} of ${total}, outside it ${outside}`);
}

/** Works that run at once at the most, and rounds of work between two loads: once the process is warm. */
const together = 4;
const rounds = minutes < 60 ? 5 : 25;

// Memory of the pool is taken as it is used and kept, so it grows with the most that ever ran at once: in an hour of random
// works by 4 MB, were not the heaviest of each kind at once the first thing to run, and the warm-up the busiest time of all.
for (const work of works) {
  for (const form of forms.keys()) await Promise.all(Array.from({ length: together }, () => carryOut(work, form % 2 === 0 ? steady : engine)));
}

const started = performance.now();
const elapsed = (): number => (performance.now() - started) / 60_000;
const warmUp = minutes < 60 ? minutes / 3 : 10;
const samples: [hours: number, megabytes: number][] = [];
let sampled = 0;
for (let round = 1; elapsed() < minutes || samples.length < 4; round++) {
  const warm = elapsed() >= warmUp;
  const most = warm ? together : 2 * together;
  await Promise.all(Array.from({ length: 1 + random.below(most) }, () => carryOut(random.pick(works), random.pick([steady, engine]))));
  if (round % (warm ? rounds : 5) !== 0) continue;
  // Under way while the engine goes.
  const ends = [good[0]!, good[2]!].map(({ run }) => carryOut(piece(run, "done", "ERR_ABORTED", "ERR_DISPOSED"), engine));
  await Promise.all([engine.dispose(), ...ends]);
  if (warm && elapsed() - sampled >= minutes / 200) {
    sampled = elapsed();
    collect();
    collect();
    samples.push([sampled / 60, ownMegabytes()]);
    if (samples.length % 10 === 0) report();
  }
  engine = await load(folder, { weights: random.pick(["map", "copy"]), threads: 1 + random.below(2) });
  count("loaded");
}
await Promise.all([engine.dispose(), steady.dispose()]);

const { slope: perHour, scatter } = fitLine(samples);
const span = samples.at(-1)![0] - samples[0]![0];
const [grown, bound] = minutes < 60 ? [perHour * span, 16] : [perHour, 1];
const summary = [...counts].sort().map(([what, n]) => `${what} ${n}`).join(", ");
console.log(
  `NOTE: ${minutes} minutes (${summary}): resident ${samples[0]![1].toFixed(1)} -> ${samples.at(-1)![1].toFixed(1)} MB in ${samples.length} samples, ` +
    `which stand ${scatter.toFixed(1)} MB from their line, slope ${perHour.toFixed(2)} MB/h; ${grown.toFixed(2)} ${minutes < 60 ? "MB over the run" : "MB/h"}, bound ${bound}`,
);
if (!(grown < bound)) process.exitCode = 1;
