/** Results as Markdown tables, for docs/performance.md to copy. */

import { table } from "../cpu/markdown.js";
import type { Aim } from "./aims.js";
import type { PicoRow } from "./pico.js";
import type { RandomModelRow } from "./random-model.js";
import type { LoopDelay } from "./run.js";

const megabytes = (bytes: number | undefined): string => (bytes === undefined ? "" : (bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0));
const percent = (share: number | undefined): string => (share === undefined ? "" : `${(100 * share).toFixed(1)} %`);
const worst = (runs: readonly { loop: LoopDelay }[], of: (loop: LoopDelay) => number): string => Math.max(...runs.map(({ loop }) => of(loop))).toFixed(1);

export function picoTable(rows: PicoRow[]): string {
  return table(
    [
      "pruning, at once", "requests/s", "tokens/s", "against one at a time", "KV peak, MB", "engine idle", "loop delay p99, ms",
      "readFile, slowest, ms", "right answers", "tokens",
    ],
    rows.map((row) => [
      `\`${row.pruning}\`, ${row.concurrency}`, row.requestsPerSecond.toFixed(1), row.tokensPerSecond.toFixed(0), `${row.againstOne.toFixed(2)}x`,
      megabytes(row.kvPeakBytes), percent(row.idleShare), worst(row.runs, ({ p99 }) => p99), worst(row.runs, ({ readFile }) => readFile.max),
      `${row.right} of ${row.requests}`, `\`${row.hash}\``,
    ]),
  );
}

export function randomModelTable(rows: RandomModelRow[]): string {
  const alone = (of: RandomModelRow): RandomModelRow =>
    rows.find(({ engine, input, pruning, sequences }) => engine === of.engine && input === of.input && pruning === of.pruning && sequences === 1)!;
  return table(
    ["engine, input, pruning", "at once", "requests/s", "tokens/s", "against one at a time", "decode, tokens/s", "against one", "KV peak, MB", "engine idle"],
    rows.map((row) => [
      `${row.engine}, ${row.input}, \`${row.pruning}\``, String(row.sequences), row.requestsPerSecond.toFixed(3), row.tokensPerSecond.toFixed(2),
      `${(row.tokensPerSecond / alone(row).tokensPerSecond).toFixed(2)}x`,
      row.decodeTokensPerSecond?.toFixed(2) ?? "", decodeGain(row, alone(row))?.toFixed(2).concat("x") ?? "",
      megabytes(row.kvPeakBytes), percent(row.idleShare),
    ]),
  );
}

/** Tokens a second of all sequences together, while all decode, over those of one. */
export function decodeGain(row: RandomModelRow, alone: RandomModelRow): number | undefined {
  if (row.decodeTokensPerSecond === undefined || alone.decodeTokensPerSecond === undefined) return undefined;
  return row.decodeTokensPerSecond / alone.decodeTokensPerSecond;
}

export function aimsTable(aims: Aim[]): string {
  return table(
    ["figure", "aim", "measured", "met"],
    aims.map(({ what, aim, measured, met }) => [what, aim, measured?.toPrecision(3) ?? "not measured", met === undefined ? "" : met ? "yes" : "no"]),
  );
}
