/**
 * A batch job: every item of the input gets one record in the results, however often the process is ended and started
 * again. A record is written before anything depends on it; what was in flight at the end is simply run again.
 */

import { phrase } from "../check.js";
import { HimapError, type ErrorCode } from "../errors.cjs";
import type { BatchStats, Engine, Job } from "../types.js";
import { inShard, type Item, type Shard } from "./items.js";
import type { Journal, Suspects } from "./journal.js";
import { crashed, failureOf, successOf, type Failure, type FailureCount, type ItemRecord } from "./records.js";
import type { Results } from "./results.js";
import { Tally } from "./tally.js";

/** Ends of the run and not of an item, which is left for the next run. */
const notOfAnItem: readonly ErrorCode[] = ["ERR_ABORTED", "ERR_DISPOSED", "ERR_DEVICE_LOST"];

export interface BatchJob {
  engine: Pick<Engine, "batch">;
  /** Reads the input from its start; called more than once. */
  items: () => Iterable<Item> | AsyncIterable<Item>;
  shard: Shard;
  results: Results;
  journal: Journal;
  /** Crashes with an item alone in flight after which it is recorded as failed; `undefined`: crashes are not looked into. */
  maxCrashes: number | undefined;
  maxInFlight?: number | undefined;
  /** Nothing more is begun once it fires. */
  drain: AbortSignal;
  /** Ends at once. */
  signal: AbortSignal;
  onProgress?: (progress: JobProgress) => void;
}

export interface JobProgress {
  /** Items of the shard, those that have ended in this run or before, and failures among these. */
  total: number;
  ended: number;
  failed: number;
  /** Of this run. */
  stats: BatchStats;
}

export interface JobEnd extends JobProgress {
  /** All failures that the results hold, by code. */
  failures: FailureCount[];
  /** Records of items that the input does not have any more. */
  strangers: number;
  /** Items that were in flight at a crash and have not been tried again. */
  suspects: number;
}

/**
 * Runs what has no record yet.
 * @throws HimapError ERR_INVALID_ARG where an item has changed since its record was written, or the results cannot be
 * written; ERR_ABORTED, ERR_DISPOSED and ERR_DEVICE_LOST as they come. What was recorded stands.
 */
export async function runJob(job: BatchJob): Promise<JobEnd> {
  const run = new JobRun(job);
  await run.survey();
  return run.run();
}

class JobRun {
  readonly #job: BatchJob;
  readonly #tally = new Tally();
  #suspects: Suspects = new Map();
  /** Suspects as the input has them. */
  readonly #suspectItems: Item[] = [];
  #total = 0;
  #ended = 0;
  #inFlight = 0;
  #strangers = 0;

  constructor(job: BatchJob) {
    this.#job = job;
  }

  /** Reads the whole input: how much there is to do, and whether what is done still is what was asked. */
  async survey(): Promise<void> {
    const { items, shard, results, journal, maxCrashes, signal } = this.#job;
    if (maxCrashes !== undefined) this.#suspects = await journal.suspects((key) => results.has(key));
    for await (const item of items()) {
      signal.throwIfAborted();
      if (!inShard(item, shard)) continue;
      this.#total += 1;
      const done = results.jobOf(item.key);
      if (done === undefined) {
        if (this.#suspects.has(item.key)) this.#suspectItems.push(item);
      } else if (done === item.job) {
        this.#ended += 1;
      } else {
        throw new HimapError("ERR_INVALID_ARG", phrase("the item that its record was written for", `item ${JSON.stringify(item.id)}`, "another one"), {
          hint: "the input has changed: choose another --output, or, if the item failed, let --retry-failed forget its record",
        });
      }
    }
    this.#strangers = results.ended - this.#ended;
  }

  async run(): Promise<JobEnd> {
    const { journal, maxCrashes, items, results } = this.#job;
    this.#tally.start();
    this.#report();
    if (maxCrashes !== undefined) {
      const kept = new Set(this.#suspectItems.map(({ key }) => key));
      for (const key of this.#suspects.keys()) if (!kept.has(key)) this.#suspects.delete(key);
      for (const item of this.#suspectItems) await this.#judge(item, maxCrashes);
      await journal.begin(this.#suspects);
      // One at a time, so that the next crash tells which of them it is owed to.
      for (const item of this.#suspectItems) await this.#answer([item]);
    }
    await this.#answer(items());
    this.#tally.stop();
    await results.sync();
    return { ...this.#progress(), failures: results.failures, strangers: this.#strangers, suspects: this.#suspects.size };
  }

  /** Gives an item up that has ended the process too often. */
  async #judge(item: Item, maxCrashes: number): Promise<void> {
    const crashes = this.#suspects.get(item.key) ?? 0;
    if (crashes < maxCrashes) return;
    const message = `the process ended ${crashes} times while this item alone was in flight`;
    await this.#fail(item, { code: crashed, message, retryable: false });
  }

  async #answer(items: Iterable<Item> | AsyncIterable<Item>): Promise<void> {
    const { engine, signal, maxInFlight } = this.#job;
    for await (const outcome of engine.batch(this.#jobs(items), { signal, ...(maxInFlight !== undefined && { maxInFlight }) })) {
      this.#inFlight -= 1;
      if (outcome.ok) await this.#record(successOf(outcome.key, outcome.value));
      else if (!notOfAnItem.includes(outcome.error.code)) await this.#fail(outcome.key, outcome.error);
      if (outcome.ok) this.#tally.add(outcome.value);
      this.#report();
    }
  }

  /** What is left to do of `items`. One with a fault of its own never comes to the engine. */
  async *#jobs(items: Iterable<Item> | AsyncIterable<Item>): AsyncGenerator<Job<Item>, void> {
    const { drain, shard, results, journal, maxCrashes } = this.#job;
    for await (const item of items) {
      if (drain.aborted) return;
      if (!inShard(item, shard) || results.has(item.key)) continue;
      if (item.request instanceof HimapError) {
        await this.#fail(item, item.request);
        this.#report();
        continue;
      }
      if (maxCrashes !== undefined) await journal.start(item.key);
      this.#inFlight += 1;
      yield { key: item, ...item.request };
    }
  }

  async #fail(item: Item, failure: Failure): Promise<void> {
    await this.#record(failureOf(item, failure));
    this.#tally.add(undefined);
  }

  async #record(record: ItemRecord): Promise<void> {
    await this.#job.results.append(record);
    this.#ended += 1;
    this.#suspects.delete(String(record.id));
  }

  #progress(): JobProgress {
    return { total: this.#total, ended: this.#ended, failed: this.#job.results.failed, stats: this.#tally.stats(this.#inFlight, 0) };
  }

  #report(): void {
    this.#job.onProgress?.(this.#progress());
  }
}
