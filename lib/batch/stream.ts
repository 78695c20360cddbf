/**
 * Many requests, their outcomes read as they are wanted. At most `maxInFlight` jobs are taken from the input and not yet
 * read, so that a slow reader holds up the input and not the memory. Every job that is taken has exactly one outcome,
 * unless the reader leaves.
 */

import { setImmediate as turn } from "node:timers/promises";

import { describe, phrase } from "../check.js";
import { HimapError, type ErrorCode } from "../errors.cjs";
import type { BatchRequest } from "../request/batch.js";
import type { Batch, BatchStats, Engine, Generation, Job, Outcome, Result } from "../types.js";
import { abortedError, watch } from "../watch.js";
import { Tally } from "./tally.js";

/** Failures of the engine and not of a request: what follows would fail alike. */
const fatal: readonly ErrorCode[] = ["ERR_DISPOSED", "ERR_DEVICE_LOST"];

/** Milliseconds after which a full queue is looked at again: others use the engine too, and nobody tells of their ends. */
const queueEvery = 20;

/**
 * Jobs after which the event loop has a turn: where the input is synchronous, jobs that fail at once and a loop body that
 * waits for nothing would be microtasks for ever, and no timer would fire.
 */
const turnEvery = 64;

/** What a batch asks of an engine. */
export interface BatchEngine extends Pick<Engine, "generate"> {
  /** Whether one more request may wait now: the next `generate` then does not fail with ERR_QUEUE_FULL. */
  hasRoom(): boolean;
}

/** A job that was taken; `outcome` once it has ended. */
interface Entry<K> {
  outcome?: Outcome<K>;
  generation?: Generation;
}

interface Waiter<K> {
  resolve(step: IteratorResult<Outcome<K>, undefined>): void;
  reject(error: HimapError): void;
}

export class BatchStream<K> implements Batch<K> {
  readonly #engine: BatchEngine;
  readonly #request: BatchRequest<K>;
  readonly #tally = new Tally();
  readonly #waiters: Waiter<K>[] = [];
  /** What was taken and not yet read: in the order of the input, and those that have ended in the order in which they did. */
  readonly #taken = new Set<Entry<K>>();
  readonly #ended = new Set<Entry<K>>();
  /** Submit those that wait for room in the engine's queue, first come first. */
  readonly #line: (() => void)[] = [];
  #lineTimer: NodeJS.Timeout | undefined;
  #input: Iterator<Job<K>> | AsyncIterator<Job<K>> | undefined;
  #reading = false;
  #pulling = false;
  /** The input is making a job. */
  #making = false;
  #pulled = 0;
  /** Nothing more is taken: the input has ended or was closed. */
  #closed = false;
  /** Told once the outcomes of what was taken have been read. */
  #failure: HimapError | undefined;
  /** Requests end now: the signal fired, or the reader left. */
  #stop: { reason: unknown } | undefined;
  #unwatch: (() => void) | undefined;

  constructor(engine: BatchEngine, request: BatchRequest<K>) {
    this.#engine = engine;
    this.#request = request;
  }

  get stats(): BatchStats {
    return this.#tally.stats(this.#taken.size - this.#ended.size, this.#ended.size);
  }

  /** The outcomes, once: a second reader would see only part of them, so it gets ERR_INVALID_ARG. */
  [Symbol.asyncIterator](): AsyncIterator<Outcome<K>, undefined> {
    if (this.#reading) {
      throw new HimapError("ERR_INVALID_ARG", "batch: expected one reader for its outcomes but received a second");
    }
    this.#reading = true;
    return {
      next: () => this.#next(),
      return: async () => {
        await this.#leave();
        return { done: true, value: undefined };
      },
    };
  }

  #next(): Promise<IteratorResult<Outcome<K>, undefined>> {
    return new Promise((resolve, reject) => {
      this.#waiters.push({ resolve, reject });
      this.#open();
      this.#deliver();
    });
  }

  /** Nothing happens before the first outcome is asked for. */
  #open(): void {
    if (this.#input || this.#closed) return;
    this.#tally.start();
    const { signal, open } = this.#request;
    if (signal?.aborted) return this.#abort(signal.reason);
    this.#unwatch = watch(signal, undefined, { abort: (reason) => this.#abort(reason), timeout: () => {} });
    try {
      this.#input = open();
    } catch (cause) {
      this.#end(inputError(cause));
    }
  }

  /** Takes jobs while there is room for them, one after another. */
  async #pull(): Promise<void> {
    if (this.#pulling) return;
    this.#pulling = true;
    while (!this.#closed && this.#taken.size < this.#request.maxInFlight) {
      try {
        if (++this.#pulled % turnEvery === 0) await turn();
        if (this.#closed) break;
        this.#making = true;
        const step = await this.#input!.next();
        // Closed meanwhile: a job that comes too late is not taken.
        if (this.#closed) break;
        if (step.done) this.#end();
        else this.#take(step.value, this.#pulled - 1);
      } catch (cause) {
        if (!this.#closed) this.#end(inputError(cause));
      } finally {
        this.#making = false;
      }
    }
    this.#pulling = false;
    if (this.#closed) this.#deliver();
  }

  /** @param index among the jobs of the input */
  #take(job: Job<K>, index: number): void {
    const entry: Entry<K> = {};
    this.#taken.add(entry);
    void this.#answer(entry, job, index).then((outcome) => {
      if (!this.#taken.has(entry)) return; // the reader has left
      entry.outcome = outcome;
      this.#tally.add(outcome.ok ? outcome.value : undefined);
      this.#ended.add(entry);
      if (!outcome.ok && fatal.includes(outcome.error.code)) this.#end(outcome.error, true);
      this.#submit();
      this.#deliver();
    });
  }

  async #answer(entry: Entry<K>, job: Job<K>, index: number): Promise<Outcome<K>> {
    let key: K | undefined;
    try {
      let request: Pick<Job<K>, "messages" | "options">;
      ({ key, ...request } = readJob(job, index));
      return { key, ok: true, value: await this.#generate(entry, request) };
    } catch (error) {
      return { key: key as K, ok: false, error: error as HimapError };
    }
  }

  /** A full queue is no failure of the request: it is submitted, once, when there is room. Its deadline counts from then. */
  #generate(entry: Entry<K>, { messages, options }: Pick<Job<K>, "messages" | "options">): Promise<Result> {
    return new Promise((resolve, reject) => {
      this.#line.push(() => {
        if (this.#stop) return reject(abortedError("batch", this.#stop.reason));
        entry.generation = this.#engine.generate(messages, options);
        entry.generation.then(resolve, reject);
      });
      this.#submit();
    });
  }

  /** As many of those in the line as the engine has room for; all of them where they are only to be told of the end. */
  #submit(): void {
    clearTimeout(this.#lineTimer);
    while (this.#line.length > 0 && (this.#stop || this.#engine.hasRoom())) this.#line.shift()!();
    if (this.#line.length > 0) this.#lineTimer = setTimeout(() => this.#submit(), queueEvery);
  }

  /** Hands out what has ended, and takes as many new jobs; tells the end when there is nothing left to hand out. */
  #deliver(): void {
    while (this.#waiters.length > 0) {
      const entry = this.#nextEnded();
      if (!entry) break;
      this.#taken.delete(entry);
      this.#ended.delete(entry);
      this.#waiters.shift()!.resolve({ done: false, value: entry.outcome! });
    }
    if (!this.#closed && this.#taken.size < this.#request.maxInFlight) void this.#pull();
    if (!this.#closed || this.#taken.size > 0) return;
    this.#tally.stop();
    this.#unwatch?.();
    for (const waiter of this.#waiters.splice(0)) {
      if (this.#failure) waiter.reject(this.#failure);
      else waiter.resolve({ done: true, value: undefined });
      // The first is told of the failure, the others of the end.
      this.#failure = undefined;
    }
  }

  #nextEnded(): Entry<K> | undefined {
    const [first] = this.#request.ordered ? this.#taken : this.#ended;
    return first?.outcome ? first : undefined;
  }

  #abort(reason: unknown): void {
    this.#end(abortedError("batch", reason), true);
    this.#stopRequests(reason);
    this.#deliver();
  }

  #stopRequests(reason: unknown): void {
    this.#stop = { reason };
    for (const { generation } of this.#taken) generation?.abort(reason);
    this.#submit();
  }

  /** Takes no more jobs. The first failure is the one that is told; `close` where the input has not ended by itself. */
  #end(failure?: HimapError, close = false): void {
    this.#failure ??= failure;
    if (this.#closed) return;
    this.#closed = true;
    // What closing brings is of no account beside the failure that is told.
    if (close) this.#closeInput().catch(() => undefined);
  }

  async #leave(): Promise<void> {
    const closing = this.#closed ? undefined : this.#closeInput();
    this.#closed = true;
    this.#failure = undefined;
    const running = [...this.#taken].map(async ({ generation }) => generation?.then(undefined, () => undefined));
    this.#stopRequests(new Error("the reader of the batch left"));
    this.#taken.clear();
    this.#ended.clear();
    this.#deliver();
    await Promise.all(running);
    await closing;
  }

  /** An input that is making a job closes behind it, and that may never come: nobody waits for it then. */
  async #closeInput(): Promise<void> {
    const closing = (async () => {
      await this.#input?.return?.();
    })();
    if (!this.#making) return closing.catch((cause: unknown) => Promise.reject(inputError(cause)));
    closing.catch(() => undefined);
  }
}

/** Each property read once. What is no job has no key that could tell its outcome, so its place does. @throws HimapError ERR_INVALID_ARG */
function readJob<K>(job: Job<K>, index: number): Job<K> {
  const where = `jobs[${index}]`;
  let fault: unknown;
  try {
    if (typeof job === "object" && job !== null) {
      const { key, messages, options } = job;
      if (key !== undefined) return { key, messages, ...(options !== undefined && { options }) };
      throw new HimapError("ERR_INVALID_ARG", `batch: ${phrase("a key", `${where}.key`, key)}`);
    }
  } catch (cause) {
    if (cause instanceof HimapError) throw cause;
    fault = cause;
  }
  throw new HimapError("ERR_INVALID_ARG", `batch: ${phrase("an object that can be read", where, job)}`, fault === undefined ? {} : { cause: fault });
}

/** An input that is ours says by itself what failed. */
function inputError(cause: unknown): HimapError {
  if (cause instanceof HimapError) return cause;
  return new HimapError("ERR_INVALID_ARG", `batch: expected jobs that can be read to their end but reading failed: ${messageOf(cause)}`, { cause });
}

function messageOf(cause: unknown): string {
  return cause instanceof Error ? cause.message : describe(cause);
}
