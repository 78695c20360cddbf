/** Counts what the scheduler tells of itself, and passes it on to whoever traces. */

import type { ErrorCode } from "../errors.cjs";
import type { EmbeddingCache } from "../image/embedding-cache.js";
import type { Observer, RunnerState, StepFacts, WorkFacts } from "../schedule/observer.js";
import { Histogram } from "./histogram.js";
import { Rate } from "./rate.js";
import { trace } from "./trace.js";
import type { EngineStats, TraceRequest } from "./types.js";

/** What a recorder looks at beside what it is told. */
export interface Recorded {
  /** Of the model. */
  fingerprint: string;
  /** Of one KV page. */
  pageBytes: number;
  embeddings: EmbeddingCache | undefined;
  state(): RunnerState;
  /** Milliseconds. */
  now(): number;
}

/** A work that runs. */
interface Start {
  waitedMs: number;
  pages: number;
}

export class Recorder implements Observer {
  /** Seconds of a step, and from a `generate` to its first token. */
  readonly stepSeconds = new Histogram([0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30]);
  readonly firstTokenSeconds = new Histogram([0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300]);
  readonly #of: Recorded;
  readonly #next: Observer | undefined;
  readonly #opened: number;
  readonly #running = new Map<WorkFacts, Start>();
  readonly #ended: EngineStats["requests"]["ended"] = {};
  readonly #steps = { count: 0, vision: 0, prefill: 0, decode: 0, idle: 0 };
  /** Works that were accepted and have not ended. */
  readonly #accepted = new Set<WorkFacts>();
  /** Since the last step there was a moment without any. */
  #rested = true;
  #peakPages = 0;
  /** Tokens of works that have ended. */
  #tokens = 0;
  #prefillRows = 0;
  #imageSeen = 0;
  #imageKept = 0;
  readonly #rate: Rate;
  /** Tokens that `#rate` has been told of. */
  #rated = 0;

  /** @param next is told everything after it has been counted */
  constructor(of: Recorded, next?: Observer) {
    this.#of = of;
    this.#next = next;
    this.#opened = of.now();
    this.#rate = new Rate(this.#opened);
  }

  queued(work: WorkFacts): void {
    this.#accepted.add(work);
    trace.requestStart(() => this.#request(work));
    this.#next?.queued(work);
  }

  started(work: WorkFacts, start: Start): void {
    this.#running.set(work, start);
    this.#imageSeen += work.imageTokens;
    this.#imageKept += work.keptImageTokens;
    this.#peakPages = Math.max(this.#peakPages, this.#of.state().pagesInUse);
    this.#next?.started(work, start);
  }

  firstToken(work: WorkFacts, sinceMs: number): void {
    this.firstTokenSeconds.add(sinceMs / 1000);
    trace.requestFirstToken(() => ({ ...this.#request(work), sinceMs }));
    this.#next?.firstToken(work, sinceMs);
  }

  stepped(step: StepFacts): void {
    const { wallMs, timings, ...facts } = step;
    const { vision, prefill, decode } = timings;
    // Without requests the engine has nothing to do, which is no fault of it.
    const idle = this.#rested ? 0 : timings.idle;
    this.#rested = this.#accepted.size === 0;
    this.#steps.count += 1;
    this.#steps.vision += vision;
    this.#steps.prefill += prefill;
    this.#steps.decode += decode;
    this.#steps.idle += idle;
    this.#prefillRows += facts.prefillRows;
    this.stepSeconds.add((vision + prefill + decode) / 1000);
    this.#countTokens();
    trace.step(() => ({ fingerprint: this.#of.fingerprint, wallMs, vision, prefill, decode, idle, ...facts }));
    this.#next?.stepped(step);
  }

  ended(work: WorkFacts, end: { outcome: "done" | ErrorCode; totalMs: number }): void {
    const { outcome } = end;
    const start = this.#running.get(work);
    this.#running.delete(work);
    this.#tokens += work.tokens;
    this.#ended[outcome] = (this.#ended[outcome] ?? 0) + 1;
    this.#accepted.delete(work);
    if (this.#accepted.size === 0) this.#rested = true;
    trace.requestEnd(() => ({ ...this.#request(work), ...end, tokens: work.tokens, ...start }));
    this.#next?.ended(work, end);
  }

  stats(): EngineStats {
    const { pageBytes, embeddings, state, now } = this.#of;
    const { waiting, preparing, ready, running, sequences, pagesInUse, pages } = state();
    const { vision, prefill, decode, idle } = this.#steps;
    const generated = this.#countTokens();
    return {
      uptimeMs: now() - this.#opened,
      requests: { waiting, preparing, ready, running, ended: { ...this.#ended } },
      sequences,
      pages: { used: pagesInUse, peak: this.#peakPages, total: pages, bytes: pageBytes },
      tokens: {
        generated,
        perSecond: this.#rate.perSecond(now()),
        prefillRows: this.#prefillRows,
        imageSeen: this.#imageSeen,
        imageKept: this.#imageKept,
      },
      steps: { ...this.#steps, idleShare: idle === 0 ? 0 : idle / (vision + prefill + decode + idle) },
      embeddings: {
        hits: embeddings?.hits ?? 0,
        misses: embeddings?.misses ?? 0,
        count: embeddings?.size ?? 0,
        bytes: embeddings?.bytes ?? 0,
        capacity: embeddings?.capacity ?? 0,
      },
    };
  }

  /** All tokens produced so far; those that are new are put down to this moment. */
  #countTokens(): number {
    let tokens = this.#tokens;
    for (const work of this.#running.keys()) tokens += work.tokens;
    this.#rate.add(tokens - this.#rated, this.#of.now());
    this.#rated = tokens;
    return tokens;
  }

  #request({ id, kind, samples, promptTokens, imageTokens, keptImageTokens }: WorkFacts): TraceRequest {
    return { id, kind, fingerprint: this.#of.fingerprint, samples, promptTokens, imageTokens, keptImageTokens };
  }
}
