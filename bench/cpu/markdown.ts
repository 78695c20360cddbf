/** Results as Markdown, for docs/performance.md to copy whole. */

import type { RunFacts } from "../result.js";
import type { Others } from "./machine.js";
import type { TextFigures, TextRow } from "./text.js";
import type { VisionRow } from "./vision.js";
import type { VisionRivalFigures } from "./vision-rival.js";

/** The SIMD path is the engine's own; ceilings are measured on the same. */
const weights = "weights, threads, SIMD";
const nameOf = ({ type, threads, simd }: Pick<TextRow, "type" | "threads" | "simd">): string => `${type}, ${threads}, ${simd}`;
const share = (part: number, whole: number): string => `${((100 * part) / whole).toFixed(0)} %`;

/** The first column to the left, the others to the right. */
export function table(head: string[], rows: string[][]): string {
  return [head, head.map((_, i) => (i === 0 ? "---" : "---:")), ...rows].map((cells) => `| ${cells.join(" | ")} |\n`).join("");
}

/** What made the tables below it, where, and how quiet it was. */
export function caption(command: string, file: string, { machine, commit, seconds }: RunFacts, runs: readonly Others[]): string {
  const most = (of: keyof Others): string => Math.max(...runs.map((run) => run[of] ?? 0)).toFixed(2);
  const niced = most("background");
  const sampled = runs.filter(({ company }) => company !== undefined);
  return (
    `\`${command}\`${commit === undefined ? "" : ` at ${commit}`} on ${machine.processors} processors (${machine.processor}), other processes\n` +
    `taking at most ${most("others")} of them${niced === "0.00" ? "" : `, work of low priority ${niced}`}` +
    `${sampled.length === 0 ? "" : `, the host at most ${(100 * Number(most("company"))).toFixed(0)} % of their speed`}; \`${file}\` has the figures. ` +
    `${(seconds / 60).toPrecision(2)} minutes.\n`
  );
}

/** Nothing where no text was measured. */
export function textTables(rows: TextRow[], rival: string): string {
  if (rows.length === 0) return "";
  const prefill = ({ prefill: { tokensPerSecond, gflops } }: TextFigures): string => `${tokensPerSecond.toFixed(1)} (${gflops.toFixed(0)})`;
  const decode = ({ decode: { tokensPerSecond, gbs } }: TextFigures): string => `${tokensPerSecond.toFixed(2)} (${gbs.toFixed(1)})`;
  return [
    "Prefill, tokens/s (GFLOP/s)\n\n",
    table(
      [weights, "himap", rival, "himap / rival", "FMA ceiling, GFLOP/s", "himap's share", "tokens equal", "last logits"],
      rows.map((row) => [
        nameOf(row), prefill(row.himap), prefill(row.rival), (row.rival.prefill.seconds / row.himap.prefill.seconds).toFixed(2),
        row.ceilings.fmaGflops.toFixed(0), share(row.himap.prefill.gflops, row.ceilings.fmaGflops), String(row.sameTokens), `\`${row.himap.logits}\``,
      ]),
    ),
    "\nDecode, tokens/s (GB/s)\n\n",
    table(
      [weights, "himap", rival, "himap / rival", "read ceiling, GB/s", "himap's share"],
      rows.map((row) => [
        nameOf(row), decode(row.himap), decode(row.rival), (row.rival.decode.seconds / row.himap.decode.seconds).toFixed(2),
        row.ceilings.readGBs.toFixed(1), share(row.himap.decode.gbs, row.ceilings.readGBs),
      ]),
    ),
  ].join("");
}

/** Nothing where no picture was measured. */
export function visionTable(rows: VisionRow[]): string {
  if (rows.length === 0) return "";
  const dense = (of: VisionRow): VisionRow => rows.find(({ preset, type, threads }) => preset === "none" && type === of.type && threads === of.threads)!;
  return `A picture and 64 text tokens, up to the first token\n\n${table(
    [
      weights, "pruning", "picture to pixels, ms", "tower and projector, s (GFLOP/s, of ceiling)", "prefill, s (GFLOP/s)",
      "prefill against dense", "first token, s", "last logits",
    ],
    rows.map((row) => [
      nameOf(row), `\`${row.preset}\``, (1000 * row.seconds.picture).toFixed(1),
      `${row.seconds.vision.toFixed(2)} (${row.gflops.vision.toFixed(0)}, ${share(row.gflops.vision, row.ceilings.fmaGflops)})`,
      `${row.seconds.prefill.toFixed(2)} (${row.gflops.prefill.toFixed(0)})`,
      `${(dense(row).seconds.prefill / row.seconds.prefill).toFixed(2)}x`, row.seconds.total.toFixed(2), `\`${row.logits}\``,
    ]),
  )}`;
}

/** Nothing where it was not asked for. */
export function visionRivalTable(rows: VisionRivalFigures[]): string {
  if (rows.length === 0) return "";
  return `The same picture through another engine\n\n${table(
    ["weights, threads", "engine", "its prompt's tokens", "its prompt's time, s", "first token, s", "processors kept busy"],
    rows.map((row) => [
      `${row.type}, ${row.threads}`, row.rival, String(row.promptTokens), row.prompt.toFixed(2), row.total.toFixed(2), (row.processor / row.total).toFixed(2),
    ]),
  )}`;
}
