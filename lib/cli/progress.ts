/** A bar on a terminal's standard error, for what takes longer than a moment. */

import { bytesText } from "../text.js";
import type { LoadProgress } from "../types.js";
import type { Terminal } from "./command.js";

const cells = 24;
/** Milliseconds before the bar appears, and between two drawings. */
const patience = 300;
const interval = 80;

export interface ProgressBar {
  update: (progress: Pick<LoadProgress, "loaded" | "total">) => void;
  /** Wipes the bar. */
  end(): void;
}

/** `[======                  ]` */
export function barText(part: number, whole: number): string {
  const full = Math.round((whole > 0 ? Math.min(1, part / whole) : 0) * cells);
  return `[${"=".repeat(full)}${" ".repeat(cells - full)}]`;
}

export function progressBar(terminal: Terminal, label: string, now: () => number = () => performance.now()): ProgressBar {
  const started = now();
  let drawn: number | undefined;
  return {
    update({ loaded, total }) {
      const at = now();
      if (!terminal.isTerminal.error || at - started < patience || (drawn !== undefined && at - drawn < interval)) return;
      drawn = at;
      terminal.note(`\r\x1b[K${label} ${barText(loaded, total)} ${bytesText(loaded)} of ${bytesText(total)}`);
    },
    end() {
      if (drawn !== undefined) terminal.note("\r\x1b[K");
      drawn = undefined;
    },
  };
}
