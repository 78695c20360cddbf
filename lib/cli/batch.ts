/** `himap batch`: thousands of questions, results in a file, resumable. */

import { hashOf, hashOfJobs, lineItems, pictureItems, type Item, type ItemDefaults, type Shard } from "../batch/items.js";
import { runJob, type JobEnd } from "../batch/job.js";
import { Journal } from "../batch/journal.js";
import { listPictures } from "../batch/pictures.js";
import type { Header } from "../batch/records.js";
import { Results } from "../batch/results.js";
import { loadNative } from "../binding/load.js";
import { Faults, phrase } from "../check.js";
import { batchDefaults, generateDefaults, maxCrashes } from "../defaults.js";
import { HimapError } from "../errors.cjs";
import { load } from "../load.js";
import { checkPruning } from "../pruning/check.js";
import { checkBatch } from "../request/batch.js";
import type { Engine, GenerateOptions } from "../types.js";
import { jobBar, summaryText } from "./batch-progress.js";
import { defineCommand, UsageError, type Arguments, type Stop, type Terminal } from "./command.js";
import { answerRules, generateOptionsOf, loadOptionsOf, loadRules, roomRules } from "./options.js";
import { checkOutput, jsonText } from "./output.js";
import { progressBar } from "./progress.js";

const rules = {
  input: { kind: "text", value: "FILE", help: "items, a JSON object in each line: prompt, image or images, id, options; or messages" },
  images: { kind: "text", value: "DIR|GLOB", help: "instead: every picture below a folder, or every file that a pattern matches" },
  prompt: { kind: "text", value: "TEXT", help: "with --images: what to ask about each" },
  output: { kind: "text", value: "FILE", help: "the results, a JSON object in each line; where the file exists, the job goes on" },
  shard: { kind: "text", value: "I/N", help: "only every Nth item, from the Ith on (default 1/1)" },
  retryFailed: { kind: "flag", help: "run the items again whose result is a failure" },
  maxCrashes: {
    kind: "text", value: "N",
    help: `give an item up that was alone in flight at N crashes of the process (default ${maxCrashes}); off: never`,
  },
  maxInFlight: { kind: "number", value: "N", help: "items in flight at most (default: what keeps the engine busy)" },
  ...answerRules,
  timeoutMs: { kind: "number", value: "MS", help: `fail an item so many milliseconds after it was submitted (default ${batchDefaults.timeoutMs}, a day)` },
  n: { kind: "number", value: "N", help: "answers drawn for each item (default 1)" },
  json: { kind: "flag", help: "the summary as one JSON object on standard output" },
  ...loadRules,
  ...roomRules,
} as const;

type Given = Arguments<typeof rules>["options"];

export const batch = defineCommand({
  name: "batch",
  summary: "answer many questions into a file of results; ended at any moment, the same command goes on where it was",
  operands: { MODEL: "a checkpoint's folder" },
  options: rules,
  notes: [
    "The first Ctrl-C finishes what is in flight, the second stops at once. Exit codes: 0 every item has an answer, 1 some "
      + "failed or the run did, 130 or 143 interrupted.",
    "For example: himap batch ./llava-1.5-7b-hf --images photos --prompt \"What is this?\" --output results.jsonl --pruning himap",
  ],
  async run({ operands: [folder], options: given }, terminal) {
    const plan = readPlan(given);
    const drain = terminal.drain();
    drain.addEventListener("abort", () => terminal.note("\nhimap: finishing what is in flight; Ctrl-C again stops at once\n"));
    try {
      const end = await runBatch(folder!, given, plan, terminal, drain);
      await terminal.write(given.json ? jsonText(end) : summaryText(end, plan.output));
      return exitCodeOf(end, drain);
    } catch (cause) {
      const stopped = drain.aborted && !terminal.signal.aborted && cause instanceof HimapError && cause.code === "ERR_ABORTED";
      if (stopped) return (drain.reason as Stop).exitCode;
      throw cause;
    }
  },
});

/** Items may be left without having been stopped: where the input was cut short while the job ran. */
export function exitCodeOf({ total, ended, failed }: JobEnd, drain: AbortSignal): number {
  if (ended < total && drain.aborted) return (drain.reason as Stop).exitCode;
  return ended < total || failed > 0 ? 1 : 0;
}

/** What the command line asks for, understood. */
interface Plan {
  output: string;
  shard: Shard;
  maxCrashes: number | undefined;
  defaults: ItemDefaults;
}

function readPlan(given: Given): Plan {
  const { input, images, prompt, output } = given;
  if (output === undefined) throw new UsageError(["expected a file for --output but received nothing"]);
  if ((input === undefined) === (images === undefined)) throw new UsageError(["expected either --input or --images"]);
  if ((images === undefined) !== (prompt === undefined)) throw new UsageError(["expected --prompt with --images, and only there"]);
  return {
    output,
    shard: readShard(given.shard ?? "1/1"),
    maxCrashes: readMaxCrashes(given.maxCrashes),
    defaults: { options: { ...generateOptionsOf(given), ...(given.n !== undefined && { n: given.n }) }, system: given.system },
  };
}

function readShard(text: string): Shard {
  const [, number, count] = (/^([1-9]\d{0,8})\/([1-9]\d{0,8})$/.exec(text) ?? []).map(Number);
  if (number !== undefined && number <= count!) return { number, count: count! };
  throw new UsageError([phrase("I/N with I from 1 to N", "--shard", text)]);
}

function readMaxCrashes(text: string | undefined): number | undefined {
  if (text === undefined) return maxCrashes;
  if (text === "off") return undefined;
  if (/^[1-9]\d{0,8}$/.test(text)) return Number(text);
  throw new UsageError([phrase("a number of at least 1, or off,", "--max-crashes", text)]);
}

/** Locks, opens, runs, and gives everything back. */
async function runBatch(folder: string, given: Given, plan: Plan, terminal: Terminal, drain: AbortSignal): Promise<JobEnd> {
  // Before the model is opened: what cannot be written, or another process works on, is not to be waited for.
  await checkOutput(plan.output, "--output");
  const journal = await Journal.open(plan.output, (file) => loadNative().lockFile(file));
  let end: JobEnd;
  try {
    end = await openAndRun(folder, given, plan, journal, terminal, drain);
  } catch (cause) {
    // A device that is lost is a crash, though the process outlives it. What is told is why the run failed.
    const lost = cause instanceof HimapError && cause.code === "ERR_DEVICE_LOST";
    await journal.close(lost ? "crash" : "end").catch(() => undefined);
    throw cause;
  }
  await journal.close(end.suspects === 0 ? "forget" : "end");
  return end;
}

async function openAndRun(
  folder: string, given: Given, plan: Plan, journal: Journal, terminal: Terminal, drain: AbortSignal,
): Promise<JobEnd> {
  const { signal } = terminal;
  const { maxInFlight } = given;
  const input = await openInput(given, plan);
  const bar = progressBar(terminal, "opening");
  const loading = { ...loadOptionsOf(given), signal: AbortSignal.any([signal, drain]), onProgress: bar.update };
  const engine = await load(folder, loading).finally(() => bar.end());
  try {
    await checkOptions(engine, plan.defaults.options, maxInFlight);
    const results = await Results.open(plan.output, headerOf(engine, given, plan.shard, input), given.retryFailed === true);
    const progress = jobBar(terminal);
    try {
      return await runJob({ ...plan, engine, items: input.items, results, journal, maxInFlight, drain, signal, onProgress: progress.update });
    } finally {
      progress.end();
      await results.close();
    }
  } finally {
    await engine.dispose();
  }
}

interface Input {
  /** Reads it from its start. */
  items: () => Iterable<Item> | AsyncIterable<Item>;
  /**
   * Of one shard of several: a hash of what the places of all items, and so the shards that they are in, hang on. In a
   * folder or a job file that has changed, every place may be another.
   */
  places?: { pictures: string } | { input: string };
}

async function openInput({ input, images, prompt }: Given, { defaults, shard }: Plan): Promise<Input> {
  const sharded = shard.count > 1;
  if (input !== undefined) {
    // Opened once beforehand: a file that is not there is said before the model is opened.
    for await (const _ of lineItems(input, defaults)) break;
    return { items: () => lineItems(input, defaults), ...(sharded && { places: { input: await hashOfJobs(input) } }) };
  }
  const pictures = await listPictures(images!);
  const hash = hashOf(JSON.stringify(pictures.map(({ id }) => id)));
  return { items: () => pictureItems(pictures, prompt!, defaults), ...(sharded && { places: { pictures: hash } }) };
}

/**
 * Options that no item could be run with are said once, instead of by every item: a request that is aborted before it
 * begins is checked all the same. What of a policy depends on the prompt remains each item's: the cuts are left out.
 */
async function checkOptions(engine: Engine, { pruning, ...options }: GenerateOptions, maxInFlight: number | undefined): Promise<void> {
  checkBatch([], { maxInFlight }, 1);
  const faults = new Faults();
  const policy = pruning === undefined ? undefined : checkPruning(pruning, "pruning", engine.info.layers, faults);
  faults.raise("batch");
  try {
    await engine.generate("", { ...options, ...(policy && { pruning: { cuts: [], cache: policy.cache } }), signal: AbortSignal.abort() });
  } catch (cause) {
    if ((cause as HimapError).code !== "ERR_ABORTED") throw cause;
  }
}

/** What must stay the same for a job to go on: how long an item may take, and threads, change no answer. */
function headerOf({ info }: Engine, given: Given, { number, count }: Shard, { places }: Input): Header {
  const { device, kvType, template, imageAspectRatio } = info;
  const { system, prompt, pruning = "none", cache = "frozen", stop } = given;
  const { n, maxTokens, minTokens, temperature, topP, topK, minP, seed, repetitionPenalty, presencePenalty, frequencyPenalty, autoOrient } = {
    ...generateDefaults, ...given,
  };
  return {
    fingerprint: info.fingerprint,
    settings: {
      shard: `${number}/${count}`, ...places, prompt, system, device, kvType, template, imageAspectRatio, pruning, cache, n, maxTokens, minTokens,
      temperature, topP, topK, minP, seed, repetitionPenalty, presencePenalty, frequencyPenalty, stop, autoOrient,
    },
  };
}
