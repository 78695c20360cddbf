/** What ends a request from outside: its signal and its deadline. */

import { setMaxListeners } from "node:events";

import { phrase } from "./check.js";
import { systemClock, type Clock } from "./clock.js";
import { HimapError } from "./errors.cjs";
import type { PartialResult } from "./types.js";

export function abortedError(what: string, reason: unknown, partial?: PartialResult | undefined): HimapError {
  return new HimapError("ERR_ABORTED", `${what}: the request was aborted`, { cause: reason, partial });
}

export function timeoutError(what: string, timeoutMs: number, partial?: PartialResult | undefined): HimapError {
  return new HimapError("ERR_TIMEOUT", `${what}: the request took longer than its ${timeoutMs} ms`, { partial });
}

export interface Ends {
  /** The signal has fired, with this reason. */
  abort(reason: unknown): void;
  /** The time is up. */
  timeout(timeoutMs: number): void;
}

/**
 * Watches a signal and a clock. Returns the function that stops watching: a signal may live much longer than a request,
 * and would keep everything that it could still reach.
 */
export function watch(signal: AbortSignal | undefined, timeoutMs: number | undefined, ends: Ends, clock: Clock = systemClock): () => void {
  const unlisten = signal && onAbort(signal, () => ends.abort(signal.reason));
  const stopTimer = timeoutMs === undefined ? undefined : clock.after(timeoutMs, () => ends.timeout(timeoutMs));
  return () => {
    stopTimer?.();
    unlisten?.();
  };
}

/**
 * Calls back when a signal fires that has not yet. Returns the function that stops this; it never throws, since signals may be
 * anybody's objects, and what ends must not fail for them.
 * @throws HimapError ERR_INVALID_ARG where the signal takes no listener
 */
export function onAbort(signal: AbortSignal, call: () => void): () => void {
  try {
    manyListeners(signal).addEventListener("abort", call, { once: true });
  } catch (cause) {
    throw new HimapError("ERR_INVALID_ARG", phrase("an AbortSignal that takes listeners", "signal", signal), { cause });
  }
  return () => {
    try {
      signal.removeEventListener("abort", call);
    } catch {
      // It keeps the listener, which does nothing any more.
    }
  };
}

/** One signal may end many requests, or all pictures of one; Node would warn of the eleventh listener. */
export function manyListeners(signal: AbortSignal): AbortSignal {
  if (signal instanceof AbortSignal) setMaxListeners(0, signal);
  return signal;
}
