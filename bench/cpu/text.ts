/** A text prompt and some decode steps, our engine and the rival taking turns. */

import type { WeightType } from "../../lib/checkpoint/types.js";
import type { HimapPeer } from "./himap-peer.js";
import type { LlamaPeer } from "./llama-peer.js";
import { readOnce, withCeilings, type Additions, type Ceilings } from "./machine.js";
import type { BenchModel } from "./models.js";
import { Peer } from "./peer.js";
import { medianOf, repeat, same, type Repetitions, type Watched } from "./repeat.js";
import type { TextRun } from "./text-run.js";
import { decodeBytes, decodeFlops, prefillFlops } from "./work.js";

export interface TextSettings {
  prompt: number;
  steps: number;
  repetitions: Repetitions;
}

/** One engine's figures, medians of `runs`. */
export interface TextFigures {
  /** `gflopsPerProcessor` divides by the processor time that was taken, whoever else used the machine. */
  prefill: { seconds: number; tokensPerSecond: number; gflops: number; gflopsPerProcessor: number };
  decode: { seconds: number; tokensPerSecond: number; gflops: number; gbs: number };
  /** Hash of the last logits: of our best 64 and their log-sum-exp; the rival shows tokens only. */
  logits?: string;
  runs: Omit<Watched<TextRun>, "tokens" | "logits">[];
}

export interface TextRow {
  type: WeightType;
  threads: number;
  simd: string;
  ceilings: Ceilings;
  himap: TextFigures;
  rival: TextFigures & { kernels: string };
  /** Greedy tokens that both engines agree upon, from the first one on, of `steps` + 1. */
  sameTokens: number;
}

/** Ids of a prompt, the same for all: BOS, then ordinary tokens. */
export function promptIds(count: number, vocabulary: number): number[] {
  return Array.from({ length: count }, (_, i) => (i === 0 ? 1 : 300 + ((i * 7919 + i * i * 31) % (vocabulary - 400))));
}

function figures(
  model: BenchModel, runs: Watched<TextRun>[], { prompt, steps }: TextSettings, kvElementBytes: number,
): TextFigures {
  const prefill = medianOf(runs, (run) => run.prefill);
  const decode = medianOf(runs, (run) => run.decode);
  const operations = prefillFlops(model.checkpoint, prompt);
  const logits = runs[0]!.logits === undefined ? undefined : same(runs, (run) => run.logits, "hash of the last logits");
  return {
    prefill: {
      seconds: prefill,
      tokensPerSecond: prompt / prefill,
      gflops: operations / prefill / 1e9,
      gflopsPerProcessor: operations / medianOf(runs, (run) => run.prefillProcessor) / 1e9,
    },
    decode: {
      seconds: decode,
      tokensPerSecond: steps / decode,
      gflops: decodeFlops(model.checkpoint, prompt, steps) / decode / 1e9,
      gbs: decodeBytes(model.checkpoint, prompt, steps, kvElementBytes) / decode / 1e9,
    },
    ...(logits !== undefined && { logits }),
    runs: runs.map(({ tokens: _tokens, logits: _logits, ...run }) => run),
  };
}

export async function benchText(model: BenchModel, threads: number, settings: TextSettings, additions: Additions): Promise<TextRow> {
  const { checkpoint, decoder, type } = model;
  const { prompt: length, steps } = settings;
  const positions = 64 * Math.ceil((length + steps + 1) / 64);
  const himap = new Peer<HimapPeer>("./himap-peer.ts");
  const llama = new Peer<LlamaPeer>("./llama-peer.ts");
  try {
    const { simd } = await himap.ask("open", { model: checkpoint.folder, threads, positions });
    const { kernels } = await llama.ask("open", { model: decoder, threads, positions, prompt: length });
    await readOnce([...checkpoint.files.map((file) => file.path), decoder]);
    // A few tokens touch every weight, so that nobody pays for the first mapping of its pages.
    const short = { prompt: promptIds(8, checkpoint.config.vocabulary), steps: 1 };
    await himap.ask("text", short);
    await llama.ask("text", short);

    const job = { prompt: promptIds(length, checkpoint.config.vocabulary), steps };
    const contenders = [
      { name: "himap", run: () => himap.ask("text", job) },
      { name: "node-llama-cpp", run: () => llama.ask("text", job) },
    ];
    const tell = (line: string): void => console.error(`${type}, ${threads} threads: ${line}`);
    const { result, ceilings } = await withCeilings(simd, threads, () => repeat(contenders, settings.repetitions, tell, additions));
    const [ours, theirs] = result;
    const differs = ours![0]!.tokens.findIndex((token, i) => token !== theirs![0]!.tokens[i]);
    return {
      type, threads, simd, ceilings,
      himap: figures(model, ours!, settings, 4),
      rival: { ...figures(model, theirs!, settings, 2), kernels },
      sameTokens: differs < 0 ? steps + 1 : differs,
    };
  } finally {
    await Promise.all([himap.close(), llama.close()]);
  }
}
