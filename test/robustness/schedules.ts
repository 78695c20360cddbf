/**
 * Random lives of the real engine, and the memory that they leave: `npm run test:schedules -- [LIVES]`, default 1,000.
 * The resident size is sampled after a forced collection; from a fifth of the lives on, the line through the samples may
 * rise by 16 MB at most (see soak.ts on why not by less).
 */

import { learn, live, openPico, type Life } from "../helpers/real-schedules.js";

const lives = Number(process.argv[2] ?? 1000);
const collect = globalThis.gc;
if (collect === undefined) throw new Error("expected node to be started with --expose-gc");

await learn(60);
const life: Life = { requests: 0, outcomes: new Map() };
const samples: [life: number, megabytes: number][] = [];
const started = performance.now();
/** A pool that is soon touched as a whole: a large one grows resident with the most that ever ran at once. */
const memory = { kvBytes: 32 * 2 ** 20 };
let engine = await openPico({ memory });
for (let seed = 1; seed <= lives; seed++) {
  const ending = seed % 10 === 0;
  await live(engine, seed, ending, life);
  if (ending) engine = await openPico({ memory });
  if (seed % Math.ceil(lives / 50) !== 0) continue;
  collect();
  collect();
  if (seed >= lives / 5) samples.push([seed, process.memoryUsage().rss / 2 ** 20]);
  if (seed % Math.ceil(lives / 10) === 0) console.error(`${seed} lives, ${((performance.now() - started) / 1000).toFixed(0)} s, ${(process.memoryUsage().rss / 2 ** 20).toFixed(1)} MB`);
}
await engine.dispose();

const mean = (of: 0 | 1): number => samples.reduce((sum, sample) => sum + sample[of], 0) / samples.length;
const [x, y] = [mean(0), mean(1)];
const above = samples.reduce((sum, [seed, megabytes]) => sum + (seed - x) * (megabytes - y), 0);
const below = samples.reduce((sum, [seed]) => sum + (seed - x) ** 2, 0);
const rise = (above / below) * (samples.at(-1)![0] - samples[0]![0]);
console.log(`${lives} lives, ${life.requests} requests: ${[...life.outcomes].sort().map(([end, times]) => `${end} ${times}`).join(", ")}`);
console.log(`resident size from ${samples[0]![1].toFixed(1)} to ${samples.at(-1)![1].toFixed(1)} MB, the line through ${samples.length} samples rises by ${rise.toFixed(1)} MB`);
if (!(rise <= 16)) throw new Error("expected the resident size to rise by at most 16 MB");
