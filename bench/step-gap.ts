/**
 * How much of its time the engine waits between steps though there is work, with JavaScript free, and blocked for 50 ms again
 * and again.
 *
 *   npm run bench:step-gap [-- MODEL] [-- --out FILE]     default: models/pico-llava
 *
 * `answers`: long answers to text, all under way at once. `pictures`: questions about pictures, each next one asked when one
 * ends. Blocked, nothing can be asked or handed on; what runs should go on. The whole takes about a minute.
 */

import { readFileSync } from "node:fs";
import path from "node:path";
import { parseArgs } from "node:util";

import { load, type Engine } from "../lib/index.js";
import { packageRoot } from "../lib/package.js";
import { LoadWatch, type Others } from "./cpu/machine.js";
import { processorSeconds } from "./cpu/text-run.js";
import { beginRun, resultFile } from "./result.js";

const { values, positionals: [model] } = parseArgs({ allowPositionals: true, options: { out: { type: "string" } } });
const folder = model ?? path.join(packageRoot, "models", "pico-llava");
const out = values.out ?? resultFile("step-gap", [model && path.basename(model)]);
/** Milliseconds that JavaScript is blocked, and then free, before it is blocked again. */
const [blockedMs, freeMs] = [50, 5];
const together = 32;
const rounds = 4;

interface Gap extends Others {
  work: "answers" | "pictures";
  javascript: "free" | "blocked";
  seconds: number;
  tokens: number;
  /** Milliseconds of the engine. */
  busyMs: number;
  idleMs: number;
  idleShare: number;
  steps: number;
  /** Times that JavaScript was blocked while the work ran. */
  blocks: number;
}

/** Blocks the event loop again and again until it is told to stop. */
function blockAgainAndAgain(): () => number {
  let blocks = 0;
  let timer: NodeJS.Timeout;
  const block = (): void => {
    const until = performance.now() + blockedMs;
    while (performance.now() < until);
    blocks += 1;
    timer = setTimeout(block, freeMs);
  };
  timer = setTimeout(block, freeMs);
  return () => {
    clearTimeout(timer);
    return blocks;
  };
}

/** Answers of a few hundred tokens; the end-of-sequence token is forbidden, so that none ends sooner. */
async function longAnswers(engine: Engine): Promise<void> {
  const maxTokens = 400;
  const eos = 2;
  await Promise.all(
    Array.from({ length: together }, (_, i) =>
      engine.generate(`How many red shapes are there? ${"Where is the circle? ".repeat(i % 5)}`, { maxTokens, logitBias: { [eos]: -Infinity } }),
    ),
  );
}

async function pictureQuestions(engine: Engine): Promise<void> {
  const pictures = [1, 2, 3, 4].map((scene) => readFileSync(path.join(packageRoot, "examples", "images", `scene-${scene}.png`)));
  const questions = ["Describe the image.", "How many objects are there?", "What colour is the circle?", "What is at the top left?"];
  let next = 0;
  const askOn = async (): Promise<void> => {
    while (next < together * rounds) {
      const index = next++;
      const [image, text] = [pictures[index % 4]!, questions[Math.floor(index / 4) % 4]!];
      await engine.generate([{ role: "user", content: [{ type: "image", image }, { type: "text", text }] }], { maxTokens: 64 });
    }
  };
  await Promise.all(Array.from({ length: together }, askOn));
}

async function measure(work: Gap["work"], javascript: Gap["javascript"]): Promise<Gap> {
  const engine = await load(folder, { device: "cpu", memory: { embeddingBytes: 0 } });
  try {
    const [watch, processor, started] = [new LoadWatch(), processorSeconds(), performance.now()];
    const stop = javascript === "blocked" ? blockAgainAndAgain() : () => 0;
    await (work === "answers" ? longAnswers : pictureQuestions)(engine);
    const blocks = stop();
    const seconds = (performance.now() - started) / 1000;
    const { steps, tokens } = engine.stats();
    return {
      work, javascript, seconds, tokens: tokens.generated,
      busyMs: steps.vision + steps.prefill + steps.decode, idleMs: steps.idle, idleShare: steps.idleShare, steps: steps.count, blocks,
      ...watch.others(processorSeconds() - processor),
    };
  } finally {
    await engine.dispose();
  }
}

const write = await beginRun(out);
const gaps: Gap[] = [];
for (const work of ["answers", "pictures"] as const) {
  for (const javascript of ["free", "blocked"] as const) {
    const gap = await measure(work, javascript);
    gaps.push(gap);
    const { idleShare, tokens, seconds, steps, others } = gap;
    console.log(
      `${work}, JavaScript ${javascript}: engine idle ${(100 * idleShare).toFixed(1)} % (aim: at most 5 %), ` +
        `${(tokens / seconds).toFixed(0)} tokens/s, ${steps} steps; others took ${others.toFixed(2)} processors`,
    );
  }
}
write({ folder: path.basename(folder), blockedMs, freeMs, together, gaps });
