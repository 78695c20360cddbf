/** Events for tracing, on channels of `node:diagnostics_channel`. */

import { channel } from "node:diagnostics_channel";

import type { TraceMessages } from "./types.js";

/** Calls `make` and publishes what it returns where somebody subscribes; otherwise it costs one look. */
export type Publish<M> = (make: () => M) => void;

function publisher<K extends keyof TraceMessages>(name: K): Publish<TraceMessages[K]> {
  const to = channel(name);
  return (make) => {
    if (to.hasSubscribers) to.publish(make());
  };
}

export const trace = {
  requestStart: publisher("himap:request:start"),
  requestFirstToken: publisher("himap:request:first-token"),
  requestEnd: publisher("himap:request:end"),
  step: publisher("himap:step"),
};
