import { HimapError } from "../errors.cjs";
import { onAbort } from "../watch.js";

/** Ends the work on a picture whose caller has given up. @throws ERR_ABORTED */
export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw abortedError(signal);
}

function abortedError(signal: AbortSignal): HimapError {
  return new HimapError("ERR_ABORTED", "the reading of an image was aborted", { cause: signal.reason });
}

/**
 * Waits for `work`, or for the signal, whichever is first. Work that cannot be stopped goes on, and what becomes of it is
 * ignored.
 * @throws ERR_ABORTED
 */
export async function orAbort<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (!signal) return work;
  work.catch(() => undefined); // when the signal wins, nobody else looks at its failure
  let unlisten: (() => void) | undefined;
  try {
    return await Promise.race([
      work,
      new Promise<never>((_, reject) => {
        const stop = (): void => reject(abortedError(signal));
        if (signal.aborted) stop();
        else unlisten = onAbort(signal, stop);
      }),
    ]);
  } finally {
    unlisten?.();
  }
}
