/** Our engine under many requests, by its public interface: one engine for each run. */

import { createHash } from "node:crypto";
import { subscribe, unsubscribe } from "node:diagnostics_channel";

import { load } from "../../lib/index.js";
import type { Engine, Message, Result, TraceMessages } from "../../lib/types.js";
import { serve } from "../cpu/peer.js";
import { processorSeconds } from "../cpu/text-run.js";
import { LoopGauge } from "./loop-gauge.js";
import { DecodeWindow, quantile, type BatchJob, type BatchRequest, type BatchRun } from "./run.js";

export interface HimapOpen {
  folder: string;
  threads: number;
  kvBytes: number | "auto";
}

function messagesOf({ text, picture }: BatchRequest): string | Message[] {
  if (!picture) return text;
  return [{ role: "user", content: [{ type: "image", image: picture }, { type: "text", text }] }];
}

/** Answers of all requests, `concurrency` under way at once. */
async function answerAll(engine: Engine, { requests, concurrency, maxTokens, pruning }: BatchJob): Promise<Result[]> {
  const results: Result[] = [];
  let next = 0;
  const work = async (): Promise<void> => {
    while (next < requests.length) {
      const index = next++;
      results[index] = await engine.generate(messagesOf(requests[index]!), { maxTokens, pruning });
    }
  };
  await Promise.all(Array.from({ length: Math.min(concurrency, requests.length) }, work));
  return results;
}

async function measure(engine: Engine, job: BatchJob): Promise<BatchRun> {
  const window = job.concurrency >= job.requests.length ? new DecodeWindow(job.requests.length) : undefined;
  const firstTokens: number[] = [];
  const onFirst = (message: unknown): void => {
    firstTokens.push((message as TraceMessages["himap:request:first-token"]).sinceMs);
    window?.begun(engine.stats().tokens.generated);
  };
  const onEnd = (): void => window?.ended(engine.stats().tokens.generated);
  subscribe("himap:request:first-token", onFirst);
  subscribe("himap:request:end", onEnd);
  const gauge = new LoopGauge();
  const [processor, started] = [processorSeconds(), performance.now()];
  const results = await answerAll(engine, job);
  const seconds = (performance.now() - started) / 1000;
  const used = processorSeconds() - processor;
  const loop = await gauge.stop();
  unsubscribe("himap:request:first-token", onFirst);
  unsubscribe("himap:request:end", onEnd);

  const { pages, steps } = engine.stats();
  const hash = createHash("sha256");
  for (const { tokens } of results) hash.update(tokens);
  const decodeTokensPerSecond = window?.tokensPerSecond;
  return {
    seconds,
    processor: used,
    tokens: results.reduce((sum, { tokens }) => sum + tokens.length, 0),
    ...(decodeTokensPerSecond !== undefined && { decodeTokensPerSecond }),
    firstToken: { median: quantile(firstTokens, 0.5), p99: quantile(firstTokens, 0.99) },
    kvPeakBytes: pages.peak * pages.bytes,
    engine: { vision: steps.vision, prefill: steps.prefill, decode: steps.decode, idle: steps.idle, steps: steps.count },
    idleShare: steps.idleShare,
    loop,
    hash: hash.digest("hex").slice(0, 16),
    texts: results.map(({ text }) => text),
  };
}

const handlers = {
  /** Each run on an engine of its own, so that peaks and idle times are of this run alone. */
  async run({ folder, threads, kvBytes, job }: HimapOpen & { job: BatchJob }): Promise<BatchRun> {
    // Without memory of pictures: each is encoded, as in a batch of pictures that are all different.
    const engine = await load(folder, { device: "cpu", threads, memory: { kvBytes, embeddingBytes: 0 } });
    try {
      return await measure(engine, job);
    } finally {
      await engine.dispose();
    }
  },
};

export type HimapBatchPeer = typeof handlers;
serve(handlers);
