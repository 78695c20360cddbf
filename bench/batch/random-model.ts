/** A model of real size and random weights: one sequence and several at once, text and pictures, and the rival with text. */

import { readFileSync } from "node:fs";

import type { Preset } from "../../lib/types.js";
import { readOnce } from "../cpu/machine.js";
import type { BenchModel } from "../cpu/models.js";
import { Peer } from "../cpu/peer.js";
import { medianOf, repeat, same, type Repetitions, type Watched } from "../cpu/repeat.js";
import { picture } from "../cpu/vision.js";
import type { HimapBatchPeer } from "./himap-peer.js";
import type { LlamaBatchPeer } from "./llama-peer.js";
import { sizedPrompts } from "./requests.js";
import type { BatchRun, Throughput } from "./run.js";

export interface RandomModelSettings {
  threads: number;
  /** Sequences that are run at once, the first of them 1. */
  sequences: number[];
  promptTokens: number;
  newTokens: number;
}

export interface RandomModelRow {
  engine: string;
  input: "text" | "picture and text";
  pruning: Preset;
  sequences: number;
  /** Medians. */
  requestsPerSecond: number;
  tokensPerSecond: number;
  decodeTokensPerSecond?: number;
  /** Absent where an engine does not tell. */
  kvPeakBytes?: number;
  idleShare?: number;
  hash?: string;
  runs: Watched<Omit<BatchRun, "texts" | "hash"> | Throughput>[];
}

type Common = Pick<RandomModelRow, "requestsPerSecond" | "tokensPerSecond" | "decodeTokensPerSecond">;

function rates(runs: readonly Throughput[], sequences: number): Common {
  const seconds = medianOf(runs, (run) => run.seconds);
  const decode = runs.flatMap(({ decodeTokensPerSecond }) => decodeTokensPerSecond ?? []);
  return {
    requestsPerSecond: sequences / seconds,
    tokensPerSecond: runs[0]!.tokens / seconds,
    ...(decode.length > 0 && { decodeTokensPerSecond: medianOf(decode, (rate) => rate) }),
  };
}

function himapRow(
  input: RandomModelRow["input"], pruning: Preset, sequences: number, runs: Watched<BatchRun>[],
): RandomModelRow {
  return {
    engine: "himap", input, pruning, sequences, ...rates(runs, sequences),
    kvPeakBytes: Math.max(...runs.map((run) => run.kvPeakBytes)),
    idleShare: medianOf(runs, (run) => run.idleShare),
    hash: same(runs, (run) => run.hash, "hash of all tokens"),
    runs: runs.map(({ texts: _texts, hash: _hash, ...run }) => run),
  };
}

/** Bytes of a pool for as many prompts of this length, with room to spare. */
const poolBytes = ({ checkpoint }: BenchModel, tokens: number, sequences: number): number =>
  2 * checkpoint.config.layers * checkpoint.config.kvHeads * checkpoint.config.headDim * 4 * (tokens + 64) * sequences;

/** Text, our engine and the rival taking turns, one sequence and several. */
export async function benchText(
  model: BenchModel, { threads, sequences, promptTokens, newTokens }: RandomModelSettings, repetitions: Repetitions,
): Promise<RandomModelRow[]> {
  const { checkpoint, decoder } = model;
  const most = Math.max(...sequences);
  const prompts = await sizedPrompts(checkpoint, most, promptTokens, false);
  await readOnce([...checkpoint.files.map((file) => file.path), decoder]);
  const himap = new Peer<HimapBatchPeer>("../batch/himap-peer.ts");
  const llama = new Peer<LlamaBatchPeer>("../batch/llama-peer.ts");
  const kvBytes = poolBytes(model, promptTokens + newTokens, most);
  const ours = (count: number): Promise<BatchRun> =>
    himap.ask("run", {
      folder: checkpoint.folder, threads, kvBytes,
      job: { requests: prompts.slice(0, count).map(({ text }) => ({ text })), concurrency: count, maxTokens: newTokens, pruning: "none" },
    });
  const theirs = (count: number): Promise<Throughput> =>
    llama.ask("run", { model: decoder, threads, prompts: prompts.slice(0, count).map(({ ids }) => ids), tokens: newTokens });
  try {
    // Every weight is touched once before anything is timed.
    await ours(1);
    await theirs(1);
    const tell = (line: string): void => console.error(`text: ${line}`);
    const runs = await repeat<BatchRun | Throughput>(
      sequences.flatMap((count) => [
        { name: `himap, ${count} at once`, run: () => ours(count) },
        { name: `node-llama-cpp, ${count} at once`, run: () => theirs(count) },
      ]),
      repetitions,
      tell,
    );
    return sequences.flatMap((count, i): RandomModelRow[] => [
      himapRow("text", "none", count, runs[2 * i] as Watched<BatchRun>[]),
      { engine: "node-llama-cpp", input: "text", pruning: "none", sequences: count, ...rates(runs[2 * i + 1]!, count), runs: runs[2 * i + 1]! },
    ]);
  } finally {
    await Promise.all([himap.close(), llama.close()]);
  }
}

/** A picture and text, dense and pruned, one sequence and several. */
export async function benchPictures(
  model: BenchModel, { threads, sequences, promptTokens, newTokens }: RandomModelSettings, repetitions: Repetitions,
): Promise<RandomModelRow[]> {
  const { checkpoint } = model;
  const most = Math.max(...sequences);
  const prompts = await sizedPrompts(checkpoint, most, promptTokens, true);
  const bytes = readFileSync(picture);
  const peer = new Peer<HimapBatchPeer>("../batch/himap-peer.ts");
  const kvBytes = poolBytes(model, checkpoint.config.imageTokens + promptTokens + newTokens, most);
  try {
    const compared = sequences.flatMap((count) => (["none", "himap"] as const).map((pruning) => ({ count, pruning })));
    const runs = await repeat(
      compared.map(({ count, pruning }) => ({
        name: `${pruning}, ${count} at once`,
        run: () =>
          peer.ask("run", {
            folder: checkpoint.folder, threads, kvBytes,
            job: {
              requests: prompts.slice(0, count).map(({ text }) => ({ text, picture: bytes })), concurrency: count, maxTokens: newTokens, pruning,
            },
          }),
      })),
      repetitions,
      (line) => console.error(`pictures: ${line}`),
    );
    return compared.map(({ count, pruning }, i) => himapRow("picture and text", pruning, count, runs[i]!));
  } finally {
    await peer.close();
  }
}
