/** The small model that ships under many requests at once: what a request costs besides arithmetic. */

import path from "node:path";

import { packageRoot } from "../../lib/package.js";
import type { Preset } from "../../lib/types.js";
import { Peer } from "../cpu/peer.js";
import { medianOf, repeat, same, type Repetitions, type Watched } from "../cpu/repeat.js";
import { isRight } from "../eval/score.js";
import type { HimapBatchPeer } from "./himap-peer.js";
import { sceneRequests } from "./requests.js";
import type { BatchRun } from "./run.js";

export interface PicoRow {
  pruning: Preset;
  concurrency: number;
  requests: number;
  /** Medians. */
  requestsPerSecond: number;
  tokensPerSecond: number;
  kvPeakBytes: number;
  idleShare: number;
  /** Requests a second, as a share of those of one at a time. */
  againstOne: number;
  /** Answers that are right, of `requests`. */
  right: number;
  /** Of all tokens: the same at every concurrency. */
  hash: string;
  runs: Omit<Watched<BatchRun>, "texts" | "hash">[];
}

/** Longer than any right answer. */
const maxTokens = 64;

export async function benchPico(threads: number, concurrencies: number[], count: number, repetitions: Repetitions): Promise<PicoRow[]> {
  const { requests, questions } = await sceneRequests(count);
  const folder = path.join(packageRoot, "models", "pico-llava");
  const peer = new Peer<HimapBatchPeer>("../batch/himap-peer.ts");
  const rows: PicoRow[] = [];
  try {
    for (const pruning of ["none", "himap"] as const) {
      const run = (concurrency: number) => () =>
        peer.ask("run", { folder, threads, kvBytes: "auto", job: { requests, concurrency, maxTokens, pruning } });
      const contenders = concurrencies.map((concurrency) => ({ name: `${concurrency} at once`, run: run(concurrency) }));
      const runs = await repeat(contenders, repetitions, (line) => console.error(`pico, ${pruning}: ${line}`));
      const hash = same(runs.flat(), (one) => one.hash, "hash of all tokens");
      const seconds = runs.map((of) => medianOf(of, (one) => one.seconds));
      concurrencies.forEach((concurrency, i) => {
        const of = runs[i]!;
        rows.push({
          pruning, concurrency, requests: count, hash,
          requestsPerSecond: count / seconds[i]!,
          tokensPerSecond: of[0]!.tokens / seconds[i]!,
          kvPeakBytes: Math.max(...of.map((one) => one.kvPeakBytes)),
          idleShare: medianOf(of, (one) => one.idleShare),
          againstOne: seconds[concurrencies.indexOf(1)]! / seconds[i]!,
          right: questions.filter((question, at) => isRight(question, of[0]!.texts[at]!)).length,
          runs: of.map(({ texts: _texts, hash: _hash, ...one }) => one),
        });
      });
    }
  } finally {
    await peer.close();
  }
  return rows;
}
