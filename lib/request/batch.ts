/** Every fault of a `batch` call found and reported together; defaults applied. What its jobs hold, `generate` checks. */

import { Faults } from "../check.js";
import { limits } from "../defaults.js";
import type { Job } from "../types.js";

/** A checked batch. */
export interface BatchRequest<K> {
  /** Opens the jobs for reading. */
  open: () => Iterator<Job<K>> | AsyncIterator<Job<K>>;
  ordered: boolean;
  maxInFlight: number;
  signal: AbortSignal | undefined;
}

/**
 * @param maxInFlight where the options name none
 * @throws HimapError ERR_INVALID_ARG with every fault
 */
export function checkBatch<K>(jobs: unknown, options: unknown, maxInFlight: number): BatchRequest<K> {
  const faults = new Faults();
  const open = opener<K>(jobs);
  if (!open) faults.add("an iterable or async iterable", "jobs", jobs);
  const given = faults.properties(options === undefined ? {} : options, "options", ["ordered", "maxInFlight", "signal"]) ?? {};
  const optional = <T>(value: unknown, read: (value: unknown) => T | undefined): T | undefined => (value === undefined ? undefined : read(value));
  const rule = { min: 1, max: limits.inFlight, integer: true };
  const request = {
    open: open!,
    ordered: optional(given.ordered, (value) => faults.boolean(value, "ordered")) ?? false,
    maxInFlight: optional(given.maxInFlight, (value) => faults.number(value, "maxInFlight", rule)) ?? maxInFlight,
    signal: optional(given.signal, (value) => faults.signal(value, "signal")),
  };
  faults.raise("batch");
  return request;
}

/** A string can be iterated too, but is no list of jobs. */
function opener<K>(jobs: unknown): BatchRequest<K>["open"] | undefined {
  try {
    const { [Symbol.asyncIterator]: later, [Symbol.iterator]: now } = jobs as AsyncIterable<Job<K>> & Iterable<Job<K>>;
    const method: unknown = later ?? now;
    if (typeof jobs === "string" || typeof method !== "function") return undefined;
    return () => method.call(jobs) as Iterator<Job<K>> | AsyncIterator<Job<K>>;
  } catch {
    return undefined;
  }
}
