/** An evaluation as Markdown, for docs and README to copy. */

import { bytesText, flopsText, percentText } from "../../lib/text.js";
import { table } from "../cpu/markdown.js";
import type { Accuracy, Comparison, Evaluation, Row } from "./report.js";
import type { Interval } from "./statistics.js";

const points = (share: number): string => (share * 100).toFixed(1);
const signed = (share: number): string => `${share < 0 ? "-" : "+"}${points(Math.abs(share))}`;
const accuracyText = ({ share, interval }: Accuracy): string => `${points(share)} (${points(interval.low)} to ${points(interval.high)})`;
const intervalText = ({ low, high }: Interval): string => `${signed(low)} to ${signed(high)}`;
const nameOf = ({ preset, runs }: Pick<Row, "preset" | "runs">): string => `\`${preset}\`${runs > 1 ? ` (mean of ${runs} seeds)` : ""}`;

export function markdown(evaluation: Evaluation): string {
  const { rows, blank, himapAgainst } = evaluation;
  const types = Object.keys(blank.byType);
  const random = rows.find(({ runShares }) => runShares);
  return [
    `${evaluation.questions} questions about ${evaluation.scenes} scenes, greedy; ${evaluation.threads} threads, ${evaluation.simd}.\n`,
    "Right answers, %, and what they took (operations of vision tower and prefill; median prefill of the decoder; mean KV bytes)\n",
    table(
      ["pruning", "right (95 %)", "same answer as unpruned", "image tokens per layer", "image FLOPs (paper)", "prefill FLOPs", "prefill", "KV"],
      rows.map((row) => [
        nameOf(row), accuracyText(row.accuracy), percentText(row.agreement), row.imageTokensPerLayer.toFixed(1), percentText(row.paperShare),
        `${flopsText(row.prefillFlops)} (${percentText(row.prefillShare)})`, `${row.prefillMs.toFixed(1)} ms`, bytesText(row.kvBytes),
      ]),
    ),
    "Right answers by type of question, % (95 %)\n",
    table(["pruning", ...types], [
      ...rows.map((row) => [nameOf(row), ...types.map((type) => accuracyText(row.byType[type]!))]),
      ["blank image, unpruned", ...types.map((type) => accuracyText(blank.byType[type]!))],
    ]),
    `Blank image in all: ${accuracyText(blank.accuracy)}.${random ? ` \`${random.preset}\` by seed: ${random.runShares!.map(points).join(", ")}.` : ""}\n`,
    ...rows.filter(({ againstNone }) => againstNone).map((row) => `- ${nameOf(row)} against \`none\`: ${comparisonText(row.againstNone!)}\n`),
    ...Object.entries(himapAgainst).map(([preset, comparison]) => `- \`himap\` against \`${preset}\`: ${comparisonText(comparison)}\n`),
    ...(rows.some(({ unfinished }) => unfinished > 0)
      ? [`Answers cut off at ${evaluation.maxTokens} tokens: ${rows.map((row) => `${nameOf(row)} ${row.unfinished}`).join(", ")}.\n`]
      : []),
  ].reduce((text, part, i, parts) => text + (i > 0 && !(part.startsWith("- ") && parts[i - 1]!.startsWith("- ")) ? "\n" : "") + part, "");
}

/** What happened, in words that hold whichever way it went. */
function comparisonText({ difference, interval, lost, won, p }: Comparison): string {
  const verdict = interval.high < 0 ? "loses" : interval.low > 0 ? "wins" : "no difference shown";
  const counts = p === undefined ? "" : `; answers lost ${lost}, won ${won}; exact McNemar p ${p < 0.0001 ? "< 0.0001" : `= ${p.toFixed(4)}`}`;
  return `${verdict}, ${signed(difference)} points (95 % ${intervalText(interval)}, bootstrap over scenes${counts})`;
}
