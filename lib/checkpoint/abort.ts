import { abortedError } from "../watch.js";

/** Ends the opening of a checkpoint when its caller has given up. */
export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw abortedError("opening a checkpoint", signal.reason);
}
