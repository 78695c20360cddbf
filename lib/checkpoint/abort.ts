import { HimapError } from "../errors.cjs";

/** Ends the opening of a checkpoint when its caller has given up. */
export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw new HimapError("ERR_ABORTED", "the checkpoint's opening was aborted", { cause: signal.reason });
}
