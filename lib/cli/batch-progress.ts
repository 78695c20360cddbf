/** How far a batch job is: a bar on a terminal, a line now and then elsewhere; and what it came to. */

import path from "node:path";

import type { JobEnd, JobProgress } from "../batch/job.js";
import { durationText, millisecondsText, numberText, percentText, plural, printable } from "../text.js";
import type { Terminal } from "./command.js";
import { barText } from "./progress.js";

/** Milliseconds between two drawings of the bar, and between two lines. */
const interval = { bar: 80, line: 10_000 };

export interface JobBar {
  update: (progress: JobProgress) => void;
  /** Wipes the bar. */
  end(): void;
}

export function jobBar(terminal: Pick<Terminal, "note" | "isTerminal">, now: () => number = () => performance.now()): JobBar {
  const onTerminal = terminal.isTerminal.error;
  let last = now();
  let drawn = false;
  return {
    update(progress) {
      const at = now();
      if (at - last < (onTerminal ? interval.bar : interval.line)) return;
      last = at;
      drawn = onTerminal;
      const text = progressText(progress);
      terminal.note(onTerminal ? `\r\x1b[K${barText(progress.ended, progress.total)} ${text}` : `${text}\n`);
    },
    end() {
      if (drawn) terminal.note("\r\x1b[K");
      drawn = false;
    },
  };
}

/** `120 of 3000 items, 2 failed, 8.40/s, 5 min 43 s left, 13 % of image tokens kept` */
export function progressText({ total, ended, failed, stats }: JobProgress): string {
  const rate = stats.requestsPerSecond;
  return [
    `${ended} of ${plural(total, "item")}`,
    ...(failed > 0 ? [`${failed} failed`] : []),
    ...(rate > 0 ? [`${numberText(rate)}/s`, `${durationText(((total - ended) / rate) * 1000)} left`] : []),
    ...(stats.imageTokens > 0 ? [`${percentText(stats.keptImageTokens / stats.imageTokens)} of image tokens kept`] : []),
  ].join(", ");
}

/** What there is at the end, in a few lines. */
export function summaryText({ total, ended, failed, failures, strangers, stats }: JobEnd, output: string): string {
  const { done, imageTokens, keptImageTokens, completionTokens, elapsedMs, requestsPerSecond, completionTokensPerSecond } = stats;
  const ran = done + stats.failed;
  const name = path.basename(output);
  const time = elapsedMs < 60_000 ? millisecondsText(elapsedMs) : durationText(elapsedMs);
  const rate = `${numberText(requestsPerSecond)}/s, ${numberText(completionTokensPerSecond)} tokens/s`;
  const kept = imageTokens === 0 ? "" : `, ${keptImageTokens} of ${imageTokens} image tokens kept (${percentText(keptImageTokens / imageTokens)})`;
  return [
    `${name}: ${ended} of ${plural(total, "item")}${failed > 0 ? `, ${failed} failed (--retry-failed runs them again)` : ""}`,
    ...failures.map(({ code, count, message }) => `  ${count} ${code}${count > 1 ? ", the first" : ""}: ${printable(message)}`),
    ran === 0 ? "this run: there was nothing to do" : `this run: ${plural(ran, "item")} in ${time}, ${rate}, ${plural(completionTokens, "token")} out${kept}`,
    ...(strangers > 0 ? [`${name} also holds ${plural(strangers, "result")} of items that the input does not have`] : []),
    "",
  ].join("\n");
}
