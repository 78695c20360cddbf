/** From a picture's file to the first token of the answer, dense and pruned, each phase apart. */

import path from "node:path";

import { packageRoot } from "../../lib/package.js";
import { presets } from "../../lib/pruning/presets.cjs";
import { resolvePruning } from "../../lib/pruning/resolve.js";
import type { Preset } from "../../lib/types.js";
import type { WeightType } from "../../lib/checkpoint/types.js";
import type { HimapPeer } from "./himap-peer.js";
import { readOnce, withCeilings, type Additions, type Ceilings } from "./machine.js";
import type { BenchModel } from "./models.js";
import { Peer } from "./peer.js";
import { medianOf, repeat, same, type Repetitions, type Watched } from "./repeat.js";
import { promptIds } from "./text.js";
import type { VisionJob, VisionRun } from "./vision-run.js";
import { pictureFlops } from "./work.js";

/** 64 text tokens around the picture, as many before it as LLaVA's own prompt has. */
export const textTokens = { before: 35, after: 29 };
export const picture = path.join(packageRoot, "examples", "images", "scene-1.png");

export interface VisionRow {
  type: WeightType;
  threads: number;
  simd: string;
  preset: Preset;
  ceilings: Ceilings;
  /** Medians, in seconds; the whole holds what lies between the phases too. */
  seconds: { picture: number; vision: number; prefill: number; total: number };
  gflops: { vision: number; prefill: number };
  /** Image tokens that each cut kept. */
  kept: number[];
  logits: string;
  runs: Omit<Watched<VisionRun>, "token" | "kept" | "logits">[];
}

function row(model: BenchModel, preset: Preset, runs: Watched<VisionRun>[]): Pick<VisionRow, "preset" | "seconds" | "gflops" | "kept" | "logits" | "runs"> {
  const { layers, imageTokens } = model.checkpoint.config;
  const cuts = resolvePruning({ cuts: presets[preset].cuts(layers, 0) }, { layers, imageTokens });
  const flops = pictureFlops(model.checkpoint, textTokens.before + textTokens.after, cuts);
  const [vision, prefill] = [medianOf(runs, (run) => run.vision), medianOf(runs, (run) => run.prefill)];
  return {
    preset,
    seconds: { picture: medianOf(runs, (run) => run.picture), vision, prefill, total: medianOf(runs, (run) => run.total) },
    gflops: { vision: flops.vision / vision / 1e9, prefill: flops.prefill / prefill / 1e9 },
    kept: runs[0]!.kept,
    logits: same(runs, (run) => run.logits, "hash of the last logits"),
    runs: runs.map(({ token: _token, kept: _kept, logits: _logits, ...run }) => run),
  };
}

export async function benchVision(model: BenchModel, threads: number, repetitions: Repetitions, additions: Additions): Promise<VisionRow[]> {
  const { checkpoint, type } = model;
  const himap = new Peer<HimapPeer>("./himap-peer.ts");
  try {
    const positions = checkpoint.config.imageTokens + textTokens.before + textTokens.after + 16;
    const { simd } = await himap.ask("open", { model: checkpoint.folder, threads, positions });
    await readOnce(checkpoint.files.map((file) => file.path));
    const ids = promptIds(textTokens.before + textTokens.after, checkpoint.config.vocabulary);
    const job: Omit<VisionJob, "preset"> = { picture, before: ids.slice(0, textTokens.before), after: ids.slice(textTokens.before) };
    await himap.ask("vision", { ...job, preset: "himap" });

    const compared = ["none", "himap"] as const;
    const contenders = compared.map((preset) => ({ name: preset, run: () => himap.ask("vision", { ...job, preset }) }));
    const tell = (line: string): void => console.error(`picture, ${type}, ${threads} threads: ${line}`);
    const { result: runs, ceilings } = await withCeilings(simd, threads, () => repeat(contenders, repetitions, tell, additions));
    return compared.map((preset, i) => ({ type, threads, simd, ceilings, ...row(model, preset, runs[i]!) }));
  } finally {
    await himap.close();
  }
}
