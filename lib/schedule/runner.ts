/**
 * Runs works on one native engine by continuous batching. A work waits for its turn, is prepared a little ahead, joins
 * the works that run between two steps, advances with all of them, and leaves when it has ended. Every work that is
 * submitted ends exactly once: by its own `finish`, or by `fail`.
 *
 * A step runs on natively for as many tokens as its sequences may produce without JavaScript, so a busy event loop does
 * not hold the engine up. It is ended early, by `yield`, when that lets a work join or leave.
 */

import type { NativeEngine, StepToken } from "../binding/native.js";
import type { Clock } from "../clock.js";
import { limits } from "../defaults.js";
import { HimapError, type ErrorCode } from "../errors.cjs";
import { choose } from "./admission.js";
import type { Observer, RunnerState } from "./observer.js";
import { Lease, PagePool } from "./pages.js";
import { rankOf, type Entry } from "./queue.js";
import { JoinedStep } from "./step.js";
import { Waiting } from "./waiting.js";
import type { Work } from "./work.js";

export interface RunnerOptions {
  /** Pages of the engine's KV pool. */
  pages: number;
  /** Sequences that run at once. */
  maxBatch: number;
  /** Works that may wait, in preparation or ready included. */
  maxQueue: number;
  /** Makes a HimapError of whatever was thrown. */
  toError: (cause: unknown) => HimapError;
  clock: Clock;
  observer?: Observer | undefined;
}

/** Failures of a step that one part of it may be the reason of, and in which nothing was done that cannot be done again. */
const partCodes: ReadonlySet<ErrorCode> = new Set(["ERR_INVALID_ARG", "ERR_OUT_OF_MEMORY"]);

export class Runner {
  readonly pool: PagePool;
  readonly #engine: Pick<NativeEngine, "step" | "yield" | "interrupt">;
  readonly #options: RunnerOptions;
  /** Every work that was accepted and has not left. */
  readonly #entries = new Map<Work, Entry>();
  readonly #waiting = new Waiting({
    ready: () => this.#onReady(),
    failed: (entry, cause) => this.#refuse(entry, this.#options.toError(cause)),
  });
  /** Those that take part in steps; a leaving one until the step under way has ended. */
  readonly #running = new Set<Entry>();
  /** Works that have ended well, whose results are handed on as soon as the engine has its next step. */
  readonly #finished: Entry[] = [];
  /** The step under way, and when it began. */
  #step: JoinedStep<Entry> | undefined;
  #stepStart = 0;
  /** Something waits for the step under way to end. */
  #yieldDue = false;
  #loop: Promise<void> | undefined;
  /** Why nothing is accepted any more. */
  #refusal: (() => HimapError) | undefined;
  readonly #whenEmpty: (() => void)[] = [];

  constructor(engine: Pick<NativeEngine, "step" | "yield" | "interrupt">, options: RunnerOptions) {
    this.#engine = engine;
    this.#options = options;
    this.pool = new PagePool(options.pages);
  }

  get state(): RunnerState {
    return {
      ...this.#waiting.counts,
      running: this.#running.size,
      sequences: this.#count(({ sequences }) => sequences),
      pagesInUse: this.pool.inUse,
      pages: this.pool.size,
    };
  }

  /** Whether one more work may wait: otherwise `submit` ends it with ERR_QUEUE_FULL. */
  get hasRoom(): boolean {
    return this.#entries.size - this.#running.size < this.#options.maxQueue;
  }

  submit(work: Work): void {
    const submitted = this.#options.clock.now();
    let entry: Entry;
    try {
      entry = this.#enter(work, submitted);
    } catch (cause) {
      this.#settle(work, submitted, this.#options.toError(cause));
      return;
    }
    this.#entries.set(work, entry);
    this.#options.observer?.queued(work);
    this.#waiting.add(entry);
  }

  /** Ends a work wherever it stands; nothing happens to one that has ended. */
  cancel(work: Work, error: HimapError): void {
    const entry = this.#entries.get(work);
    if (!entry || entry.state === "leaving") return;
    if (entry.state === "running") {
      this.#leave(entry, error);
      // Worth ending at once when nobody waits for it any more, and at the next token otherwise.
      if (this.#step?.owners.every(({ state }) => state === "leaving")) this.#engine.interrupt();
      else this.#yieldSoon();
      return;
    }
    this.#refuse(entry, error);
    this.#waiting.remove(entry);
  }

  /** Takes no more works, each refused with an error of `makeRefusal`; resolves when those accepted have ended. */
  async drain(makeRefusal: () => HimapError): Promise<void> {
    this.#refusal ??= makeRefusal;
    if (this.#entries.size > 0) await new Promise<void>((resolve) => this.#whenEmpty.push(resolve));
  }

  /** Ends every work with an error of `makeError`, refuses every later one, and resolves when the last step has ended. */
  async close(makeRefusal: () => HimapError, makeError: (work: Work) => HimapError): Promise<void> {
    this.#refusal = makeRefusal;
    for (const { work } of [...this.#waiting.all(), ...this.#running]) this.cancel(work, makeError(work));
    await this.#loop;
  }

  #enter(work: Work, submitted: number): Entry {
    const { maxQueue, maxBatch } = this.#options;
    if (this.#refusal) throw this.#refusal();
    if (!this.hasRoom) {
      throw new HimapError("ERR_QUEUE_FULL", `${work.kind}: expected at most ${maxQueue} requests to wait but received one more`, {
        hint: "send it again later, or raise maxQueue in load()",
      });
    }
    const demand = work.measure();
    if (demand.pages > this.pool.size || demand.sequences > maxBatch) {
      const expected = `at most ${this.pool.size} pages and ${maxBatch} sequences`;
      throw new HimapError("ERR_INTERNAL", `[runner] expected ${expected} for a work but received ${demand.pages} and ${demand.sequences}`);
    }
    return {
      work,
      demand,
      submitted,
      rank: rankOf(submitted, work.priority, limits.ageingMs),
      state: "waiting",
      controller: new AbortController(),
      lease: undefined,
      overtaken: 0,
      answered: false,
    };
  }

  #onReady(): void {
    if (this.#step && choose(this.#waiting.ready, this.#room()).joining.length > 0) this.#yieldSoon();
    this.#loop ??= this.#run();
  }

  async #run(): Promise<void> {
    // A turn of the event loop later, so that works that are submitted together start together.
    await new Promise((resolve) => setImmediate(resolve));
    try {
      for (let more = this.#admit(); this.#running.size > 0; more = this.#admit()) await this.#advance(more);
      this.#handOn();
    } catch (cause) {
      this.#abandon(this.#options.toError(cause));
    }
    this.#loop = undefined;
  }

  /** Lets in whoever fits. True where more would fit into the step after this one. */
  #admit(): boolean {
    const { joining, passed, more } = choose(this.#waiting.ready, this.#room());
    for (const [entry, times] of passed) entry.overtaken += times;
    for (const entry of joining) {
      this.#waiting.remove(entry);
      entry.state = "running";
      entry.lease = new Lease(this.pool, this.pool.take(entry.demand.pages)!);
      this.#running.add(entry);
      this.#options.observer?.started(entry.work, { waitedMs: this.#options.clock.now() - entry.submitted, pages: entry.demand.pages });
      this.#guard(entry, () => entry.work.start(entry.lease!));
    }
    return more;
  }

  /** One step of all that run. @param more others could join right after it: it makes one pass only */
  async #advance(more: boolean): Promise<void> {
    const step = new JoinedStep<Entry>();
    for (const entry of [...this.#running]) {
      if (entry.state === "running") this.#guard(entry, () => step.add(entry, entry.work.next(), more ? 1 : Infinity));
      if (entry.state === "leaving") this.#release(entry);
    }
    if (step.size > 0) await this.#carryOut(step);
  }

  async #carryOut(step: JoinedStep<Entry>): Promise<void> {
    const { input } = step;
    this.#step = step;
    this.#stepStart = this.#options.clock.now();
    this.#yieldDue = false;
    try {
      const running = this.#engine.step(input, (tokens) => this.#take(step, tokens));
      this.#handOn();
      const output = await running;
      this.#step = undefined;
      const prefills = input.sequences.filter(({ phase }) => phase === "prefill");
      this.#options.observer?.stepped({
        wallMs: this.#options.clock.now() - this.#stepStart,
        timings: output.timings,
        sequences: input.sequences.length,
        prefills: prefills.length,
        prefillRows: prefills.reduce((sum, { ids }) => sum + ids.length, 0),
        images: input.images.length,
        passes: step.passes,
      });
      for (const { owner, output: part } of step.split(output)) {
        if (owner.state !== "running") continue;
        this.#guard(owner, () => {
          const done = owner.work.accept(part);
          this.#noteFirst(owner);
          if (!done) return;
          owner.state = "leaving";
          this.#finished.push(owner);
        });
      }
    } catch (cause) {
      this.#step = undefined;
      const error = this.#options.toError(cause);
      if (step.size > 1 && step.passes === 0 && partCodes.has(error.code)) return this.#carryOutApart(step);
      for (const entry of step.owners) if (entry.state === "running") this.#leave(entry, error);
    }
    for (const entry of step.owners) if (entry.state === "leaving") this.#release(entry);
  }

  /** A step that one of its parts may have spoiled: each goes alone, so that what it ends of is its own. */
  async #carryOutApart(step: JoinedStep<Entry>): Promise<void> {
    for (const part of step.apart()) {
      const owner = part.owners[0]!;
      if (owner.state === "running") await this.#carryOut(part);
      else this.#release(owner);
    }
  }

  /** What passes of the step under way gave. */
  #take(step: JoinedStep<Entry>, tokens: readonly StepToken[]): void {
    for (const token of tokens) {
      const { owner, index } = step.ownerOf(token.sequence);
      step.passes += 1;
      if (owner.state !== "running") continue;
      this.#guard(owner, () => {
        if (owner.work.take(index, token)) this.#yieldDue = true;
      });
      this.#noteFirst(owner);
    }
    if (this.#yieldDue) this.#yieldSoon();
  }

  #noteFirst(entry: Entry): void {
    if (entry.answered || entry.work.tokens === 0) return;
    entry.answered = true;
    this.#options.observer?.firstToken(entry.work, this.#options.clock.now() - entry.submitted);
  }

  /**
   * Ends the step under way at its next token. Not before it has run for a moment, and then when its next tokens come: where
   * a pass takes less than the way into JavaScript and back, leaving and joining would cost more than they bring.
   */
  #yieldSoon(): void {
    if (!this.#step) return;
    this.#yieldDue = true;
    if (this.#options.clock.now() - this.#stepStart >= limits.burstMs) this.#engine.yield();
  }

  #room(): { pages: number; sequences: number; standingRows: number } {
    return {
      pages: this.pool.free,
      sequences: this.#options.maxBatch - this.#count(({ sequences }) => sequences),
      standingRows: this.#count(({ standing, rows }) => (standing ? rows : 0)),
    };
  }

  #count(of: (demand: Entry["demand"]) => number): number {
    let sum = 0;
    for (const { demand } of this.#running) sum += of(demand);
    return sum;
  }

  /** What a work throws ends that work and no other. */
  #guard(entry: Entry, action: () => unknown): void {
    try {
      action();
    } catch (cause) {
      if (entry.state === "running") this.#leave(entry, this.#options.toError(cause));
      this.#yieldDue = true;
    }
  }

  /** Ends a work that does not run. */
  #refuse(entry: Entry, error: HimapError): void {
    this.#forget(entry);
    this.#settle(entry.work, entry.submitted, error);
  }

  /** Ends a running work; its pages stay its own until no step can touch them. */
  #leave(entry: Entry, error: HimapError): void {
    entry.state = "leaving";
    this.#settle(entry.work, entry.submitted, error);
  }

  /** What callers do with a result, such as asking for the next one, then takes no time of the engine. */
  #handOn(): void {
    for (const { work, submitted } of this.#finished.splice(0)) {
      try {
        work.finish();
      } catch (cause) {
        this.#settle(work, submitted, this.#options.toError(cause));
        continue;
      }
      this.#options.observer?.ended(work, { outcome: "done", totalMs: this.#options.clock.now() - submitted });
    }
  }

  #release(entry: Entry): void {
    this.#running.delete(entry);
    entry.lease?.end();
    this.#forget(entry);
  }

  #forget(entry: Entry): void {
    this.#entries.delete(entry.work);
    if (this.#entries.size > 0) return;
    // There is no next step whose start results could wait for.
    this.#handOn();
    for (const resolve of this.#whenEmpty.splice(0)) resolve();
  }

  /** Hands an error on, once for a work. */
  #settle(work: Work, submitted: number, error: HimapError): void {
    try {
      work.fail(error);
    } catch {
      // It is over either way, and the others must not suffer for it.
    }
    const outcome: ErrorCode = error.code;
    this.#options.observer?.ended(work, { outcome, totalMs: this.#options.clock.now() - submitted });
  }

  /** A defect of ours: the loop has ended, and nothing may be left waiting for it. */
  #abandon(error: HimapError): void {
    this.#refusal = () => error;
    this.#step = undefined;
    this.#handOn();
    for (const entry of [...this.#entries.values()]) {
      if (entry.state !== "running") this.cancel(entry.work, error);
      else this.#leave(entry, error);
    }
    this.#running.clear();
    for (const entry of [...this.#entries.values()]) this.#forget(entry);
  }
}
