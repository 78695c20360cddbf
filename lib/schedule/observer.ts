/**
 * What the scheduler tells of itself: numbers and moments for statistics and tracing. An observer only looks: it must
 * return quickly and never throw, and nothing that it does changes what runs.
 */

import type { StepOutput } from "../binding/native.js";
import type { ErrorCode } from "../errors.cjs";

export type WorkKind = "generate" | "forward" | "encodeImage";

/** A request as an observer sees it: the same object from its first call to its last, its numbers those of the moment. */
export interface WorkFacts {
  /** Unique in the process, such as `generation-7`. */
  readonly id: string;
  readonly kind: WorkKind;
  /** Answers that are drawn from its prompt. */
  readonly samples: number;
  /** Rows of the prompt, the image rows among them, and those of these that the last layers keep. 0 until it is queued. */
  readonly promptTokens: number;
  readonly imageTokens: number;
  readonly keptImageTokens: number;
  /** Tokens produced so far, all samples together. */
  readonly tokens: number;
}

/** One step of the engine that has ended well. */
export interface StepFacts {
  /** Milliseconds from the call of `step` until its outcome reached JavaScript. */
  wallMs: number;
  timings: StepOutput["timings"];
  /** Sequences that took part, prompts included. */
  sequences: number;
  prefills: number;
  /** Rows of the prompts. */
  prefillRows: number;
  /** Images, those given as embeddings included. */
  images: number;
  /** Forward passes, all sequences together: each gave one row of candidates. */
  passes: number;
}

/** What stands where at one moment. */
export interface RunnerState {
  /** Works that wait for their preparation, are being prepared, and wait for the engine. */
  waiting: number;
  preparing: number;
  ready: number;
  /** Works that run, and their sequences. */
  running: number;
  sequences: number;
  /** Pages of the KV pool. */
  pagesInUse: number;
  pages: number;
}

export interface Observer {
  /** A work was accepted and waits. */
  queued(work: WorkFacts): void;
  /** It runs: `waitedMs` since it was queued, its preparation included; `pages` of the KV pool are its own. */
  started(work: WorkFacts, start: { waitedMs: number; pages: number }): void;
  /** The first token of a `generate`, `sinceMs` after it was queued. */
  firstToken(work: WorkFacts, sinceMs: number): void;
  stepped(step: StepFacts): void;
  /** The end of every work, once; of one that was refused without being queued too. `totalMs` since it was submitted. */
  ended(work: WorkFacts, end: { outcome: "done" | ErrorCode; totalMs: number }): void;
}
