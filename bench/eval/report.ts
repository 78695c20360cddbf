/** From answers to figures: one row for each preset, and each against no pruning. */

import { median } from "../../lib/cli/output.js";
import type { Preset } from "../../lib/types.js";
import type { Others } from "../cpu/machine.js";
import type { Question } from "./score.js";
import { bootstrapOver, mcnemar, mean, wilson, type Interval } from "./statistics.js";

/** One answer and what it took. */
export interface Answered {
  text: string;
  right: boolean;
  /** At the end-of-sequence token, not at the limit. */
  ended: boolean;
  /** Image tokens in a layer, the mean over the layers. */
  imageTokensPerLayer: number;
  /** Of the unpruned multiply-accumulates of image tokens alone (the paper's count). */
  paperShare: number;
  /** Operations of vision tower and whole prefill, and their share of the unpruned. */
  prefillFlops: number;
  prefillShare: number;
  prefillMs: number;
  kvBytes: number;
}

export interface Accuracy {
  /** Over several runs: their sum. */
  right: number;
  count: number;
  share: number;
  /** Wilson, 95 %; over several runs that of their mean, for they ask the same questions. */
  interval: Interval;
}

/** One preset against another on the same questions. */
export interface Comparison {
  /** Difference of the shares of right answers. */
  difference: number;
  /** 95 %, bootstrap over scenes. */
  interval: Interval;
  /** Questions right only before, and only now; of single runs. */
  lost?: number;
  won?: number;
  /** McNemar's exact test, two-sided; of single runs. */
  p?: number;
}

export interface Row {
  preset: Preset;
  /** 1, or the number of seeds. */
  runs: number;
  accuracy: Accuracy;
  byType: Record<string, Accuracy>;
  /** Accuracy of each run, where there are several. */
  runShares?: number[];
  /** Share of answers that are those without pruning, to the letter. */
  agreement: number;
  /** Answers cut off at the limit. */
  unfinished: number;
  imageTokensPerLayer: number;
  paperShare: number;
  prefillFlops: number;
  prefillShare: number;
  /** Median over all questions and runs. */
  prefillMs: number;
  kvBytes: number;
  /** Against `none`; not of `none` itself. */
  againstNone?: Comparison;
}

export interface Report {
  rows: Row[];
  /** `himap` against the other presets. */
  himapAgainst: Partial<Record<Preset, Comparison>>;
  /** The same questions about a uniform picture, unpruned. */
  blank: { accuracy: Accuracy; byType: Record<string, Accuracy> };
}

export interface Evaluation extends Report, Others {
  simd: string;
  threads: number;
  fingerprint: string;
  questions: number;
  scenes: number;
  layers: number;
  imageTokens: number;
  maxTokens: number;
  /** Median milliseconds in which a scene of raw pixels is encoded. */
  encodeMs: number;
}

export interface Run {
  preset: Preset;
  /** One for each question, in order. */
  answers: readonly Answered[];
}

/** @param runs `none` among them; a preset may come several times */
export function report(questions: readonly Question[], runs: readonly Run[], blank: readonly Answered[]): Report {
  const interval = bootstrapOver(questions.map(({ scene }) => scene));
  const byPreset = new Map<Preset, (readonly Answered[])[]>();
  for (const { preset, answers } of runs) byPreset.set(preset, [...(byPreset.get(preset) ?? []), answers]);
  const none = byPreset.get("none")!;
  const rows = [...byPreset].map(([preset, own]) => ({
    ...rowOf(questions, preset, own, none[0]!),
    ...(preset !== "none" && { againstNone: compare(none, own, interval) }),
  }));
  const himap = byPreset.get("himap");
  const others = [...byPreset].filter(([preset]) => preset !== "himap" && preset !== "none");
  return {
    rows,
    himapAgainst: himap ? Object.fromEntries(others.map(([preset, own]) => [preset, compare(own, himap, interval)])) : {},
    blank: accuracies(questions, [blank]),
  };
}

function rowOf(questions: readonly Question[], preset: Preset, runs: readonly (readonly Answered[])[], none: readonly Answered[]): Row {
  const all = runs.flat();
  const average = (value: (answer: Answered) => number): number => mean(all.map(value));
  return {
    preset,
    runs: runs.length,
    ...accuracies(questions, runs),
    ...(runs.length > 1 && { runShares: runs.map((run) => mean(run.map(({ right }) => Number(right)))) }),
    agreement: mean(runs.flatMap((run) => run.map(({ text }, i) => Number(text === none[i]!.text)))),
    unfinished: all.filter(({ ended }) => !ended).length,
    imageTokensPerLayer: average((answer) => answer.imageTokensPerLayer),
    paperShare: average((answer) => answer.paperShare),
    prefillFlops: average((answer) => answer.prefillFlops),
    prefillShare: average((answer) => answer.prefillShare),
    prefillMs: median(all.map((answer) => answer.prefillMs)),
    kvBytes: average((answer) => answer.kvBytes),
  };
}

function accuracies(questions: readonly Question[], runs: readonly (readonly Answered[])[]): { accuracy: Accuracy; byType: Record<string, Accuracy> } {
  const of = (indices: readonly number[]): Accuracy => {
    const right = runs.reduce((sum, run) => sum + indices.filter((i) => run[i]!.right).length, 0);
    const count = indices.length * runs.length;
    return { right, count, share: right / count, interval: wilson(right / runs.length, indices.length) };
  };
  const indices = [...questions.keys()];
  const types = [...new Set(questions.map(({ type }) => type))].sort();
  const byType = types.map((type) => [type, of(indices.filter((i) => questions[i]!.type === type))] as const);
  return { accuracy: of(indices), byType: Object.fromEntries(byType) };
}

/** Paired by question; of several runs the mean per question. */
function compare(before: readonly (readonly Answered[])[], after: readonly (readonly Answered[])[], interval: (values: readonly number[]) => Interval): Comparison {
  const share = (runs: readonly (readonly Answered[])[], i: number): number => mean(runs.map((run) => Number(run[i]!.right)));
  const differences = before[0]!.map((_, i) => share(after, i) - share(before, i));
  const comparison = { difference: mean(differences), interval: interval(differences) };
  if (before.length > 1 || after.length > 1) return comparison;
  const lost = differences.filter((difference) => difference < 0).length;
  const won = differences.filter((difference) => difference > 0).length;
  return { ...comparison, lost, won, p: mcnemar(lost, won) };
}
