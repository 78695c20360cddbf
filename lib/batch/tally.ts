/** What a run of many requests has come to. */

import type { BatchStats, Result } from "../types.js";

/** Counts outcomes. The clock runs from the first one that is begun to `stop`. */
export class Tally {
  done = 0;
  failed = 0;
  promptTokens = 0;
  completionTokens = 0;
  imageTokens = 0;
  keptImageTokens = 0;
  readonly #now: () => number;
  #started: number | undefined;
  #stopped: number | undefined;

  /** @param now a clock in milliseconds */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  start(): void {
    this.#started ??= this.#now();
  }

  stop(): void {
    this.#stopped ??= this.#now();
  }

  /** A request that ended well, or with `undefined` one that failed. */
  add(result: Pick<Result, "usage"> | undefined): void {
    if (!result) {
      this.failed += 1;
      return;
    }
    const { usage } = result;
    this.done += 1;
    this.promptTokens += usage.promptTokens;
    this.completionTokens += usage.completionTokens;
    this.imageTokens += usage.imageTokens;
    this.keptImageTokens += keptImageTokens(result);
  }

  /** All figures; `inFlight` and `unread` are the caller's. */
  stats(inFlight: number, unread: number): BatchStats {
    const elapsedMs = this.#started === undefined ? 0 : (this.#stopped ?? this.#now()) - this.#started;
    const perSecond = (count: number): number => (elapsedMs > 0 ? (count / elapsedMs) * 1000 : 0);
    const { done, failed, promptTokens, completionTokens, imageTokens, keptImageTokens } = this;
    return {
      done, failed, inFlight, unread, promptTokens, completionTokens, imageTokens, keptImageTokens, elapsedMs,
      requestsPerSecond: perSecond(done + failed),
      completionTokensPerSecond: perSecond(completionTokens),
    };
  }
}

/** Image tokens that the layers behind the last cut hold. */
export function keptImageTokens({ usage }: Pick<Result, "usage">): number {
  return usage.imageTokensPerStage.at(-1) ?? 0;
}
