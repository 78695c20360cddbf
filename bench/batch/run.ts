/** What a run of many requests is, the same for every engine, and what is measured of it. */

import type { Preset } from "../../lib/types.js";

export interface BatchRequest {
  text: string;
  /** Bytes of an encoded picture. */
  picture?: Uint8Array;
}

export interface BatchJob {
  requests: BatchRequest[];
  /** Requests under way at once; the next begins when one ends. */
  concurrency: number;
  maxTokens: number;
  pruning: Preset;
}

/** What both engines are measured by. */
export interface Throughput {
  /** Seconds for all requests, and processor seconds of the whole process meanwhile. */
  seconds: number;
  processor: number;
  /** Tokens produced, the first of each answer included. */
  tokens: number;
  /** Tokens a second while every request was past its first token and none had ended; only where all were under way at once. */
  decodeTokensPerSecond?: number;
}

export interface BatchRun extends Throughput {
  /** Milliseconds from asking to the first token. */
  firstToken: { median: number; p99: number };
  /** Most bytes of the KV pool in use. */
  kvPeakBytes: number;
  /** Milliseconds of the engine, and what of them it waited between steps though there were requests. */
  engine: { vision: number; prefill: number; decode: number; idle: number; steps: number };
  idleShare: number;
  loop: LoopDelay;
  /** Of all tokens, in the order of the requests. */
  hash: string;
  /** Answers, in the order of the requests. */
  texts: string[];
}

/** How long JavaScript's event loop kept others waiting, in milliseconds. */
export interface LoopDelay {
  p99: number;
  max: number;
  /** Reading a small file by `fs.promises`, again and again. */
  readFile: { count: number; median: number; p99: number; max: number };
}

/** Measures the rate between the first token of the last to begin and the end of the first to end. */
export class DecodeWindow {
  readonly #sequences: number;
  #begun = 0;
  #from: { at: number; tokens: number } | undefined;
  #to: { at: number; tokens: number } | undefined;

  constructor(sequences: number) {
    this.#sequences = sequences;
  }

  /** A sequence has its first token. @param tokens of all sequences by now */
  begun(tokens: number): void {
    if (++this.#begun === this.#sequences && !this.#to) this.#from = { at: performance.now(), tokens };
  }

  /** A sequence has ended. */
  ended(tokens: number): void {
    this.#to ??= { at: performance.now(), tokens };
  }

  get tokensPerSecond(): number | undefined {
    if (!this.#from || !this.#to || this.#to.at <= this.#from.at) return undefined;
    return ((this.#to.tokens - this.#from.tokens) / (this.#to.at - this.#from.at)) * 1000;
  }
}

/** The value below which a share of the values lies. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? NaN;
}
