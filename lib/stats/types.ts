/** What an engine tells of itself. Counts are from its opening on; moments are those of the call. */

import type { ErrorCode } from "../errors.cjs";

export interface EngineStats {
  /** Milliseconds since the engine was opened. */
  uptimeMs: number;
  requests: {
    /** Accepted and not yet looked at. */
    waiting: number;
    /** Having their pictures read and decoded. */
    preparing: number;
    /** Prepared, and waiting for room on the engine. */
    ready: number;
    /** Taking part in steps. */
    running: number;
    /** Those that have ended, by outcome: `done`, or the code of their error. Those refused by a full queue are among them. */
    ended: Partial<Record<"done" | ErrorCode, number>>;
  };
  /** Sequences that take part in steps: a request has one for each of its samples. */
  sequences: number;
  /** The KV pool, in pages of `bytes` bytes. `peak`: most that were in use at once. */
  pages: { used: number; peak: number; total: number; bytes: number };
  tokens: {
    /** Produced by `generate`, requests under way included. */
    generated: number;
    /** Of these, each second of the last ten. */
    perSecond: number;
    /** Rows of all prompts that were run. */
    prefillRows: number;
    /** Image tokens of the prompts that were started, and those of them that the last layers keep. */
    imageSeen: number;
    imageKept: number;
  };
  /** The engine's own time, in milliseconds. */
  steps: {
    count: number;
    vision: number;
    prefill: number;
    decode: number;
    /** Between two steps, though requests were there. */
    idle: number;
    /** `idle` as a share of itself and the three above; 0 before the first step. */
    idleShare: number;
  };
  /** Pictures that are remembered; all 0 with `memory.embeddingBytes: 0`. */
  embeddings: {
    /** Pictures that did not have to be encoded, and those that had. */
    hits: number;
    misses: number;
    count: number;
    bytes: number;
    /** Most bytes that are kept. */
    capacity: number;
  };
}

/**
 * Messages of `node:diagnostics_channel`, by channel. They are made only where somebody subscribes, and are handed out as the
 * thing happens: a subscriber must return quickly.
 */
export interface TraceMessages {
  /** A request was accepted. */
  "himap:request:start": TraceRequest;
  /** Its first token, `sinceMs` milliseconds after it was accepted. `generate` only. */
  "himap:request:first-token": TraceRequest & { sinceMs: number };
  /**
   * It has ended; the only message of one that was refused by a full or closed queue. `outcome` is `done` or the code of its
   * error, `totalMs` milliseconds since it was submitted, `waitedMs` those until it joined the engine's steps and `pages` what
   * it took of the KV pool, both absent where it never did.
   */
  "himap:request:end": TraceRequest & { outcome: "done" | ErrorCode; tokens: number; totalMs: number; waitedMs?: number; pages?: number };
  /** A step of the engine, which may have been many passes. Milliseconds; `idle` as in `EngineStats`, `wallMs` as JavaScript saw it. */
  "himap:step": {
    /** Of the model. */
    fingerprint: string;
    wallMs: number;
    vision: number;
    prefill: number;
    decode: number;
    idle: number;
    sequences: number;
    prefills: number;
    prefillRows: number;
    images: number;
    /** Forward passes, all sequences together. */
    passes: number;
  };
}

export interface TraceRequest {
  /** Unique in the process; of a `generate` it is `Generation.id`. */
  id: string;
  kind: "generate" | "forward" | "encodeImage";
  /** Of the model. */
  fingerprint: string;
  samples: number;
  promptTokens: number;
  imageTokens: number;
  /** Image tokens that the last layers keep. */
  keptImageTokens: number;
}
