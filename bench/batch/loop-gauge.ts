/** Measures what a load does to everybody else in its process: timers that come late, small files that take long to read. */

import { readFile } from "node:fs/promises";
import path from "node:path";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { setTimeout as sleep } from "node:timers/promises";

import { packageRoot } from "../../lib/package.js";
import { quantile, type LoopDelay } from "./run.js";

const smallFile = path.join(packageRoot, "package.json");
/** Milliseconds between two timers; the monitor's values hold it, so it is taken off. */
const resolution = 1;
const betweenReadsMs = 10;

export class LoopGauge {
  readonly #delay = monitorEventLoopDelay({ resolution });
  readonly #reads: number[] = [];
  #stopped = false;
  readonly #reading: Promise<void>;

  constructor() {
    this.#delay.enable();
    this.#reading = this.#read();
  }

  async stop(): Promise<LoopDelay> {
    this.#delay.disable();
    this.#stopped = true;
    await this.#reading;
    const late = (nanoseconds: number): number => Math.max(0, nanoseconds / 1e6 - resolution);
    const reads = this.#reads;
    return {
      p99: late(this.#delay.percentile(99)),
      max: late(this.#delay.max),
      readFile: { count: reads.length, median: quantile(reads, 0.5), p99: quantile(reads, 0.99), max: Math.max(...reads) },
    };
  }

  async #read(): Promise<void> {
    do {
      const started = performance.now();
      await readFile(smallFile);
      this.#reads.push(performance.now() - started);
      await sleep(betweenReadsMs);
    } while (!this.#stopped);
  }
}
