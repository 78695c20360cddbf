/** What a measurement must know of the machine: its ceilings, whether it is quiet, and files in the disk's cache. */

import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { open } from "node:fs/promises";
import { cpus, loadavg, totalmem } from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

import { packageRoot } from "../../lib/package.js";

/** What `himap_bench_ceilings` prints. */
export interface Ceilings {
  /** fp32 multiply-adds of this instruction set from registers, all threads together. */
  fmaGflops: number;
  /** Reads of memory beyond the caches, all threads together. */
  readGBs: number;
}

function runCeilings(what: string, threads: number): unknown {
  const program = path.join(packageRoot, "build", "cmake", "himap_bench_ceilings");
  return JSON.parse(execFileSync(program, [what, String(threads)], { encoding: "utf8" }));
}

/** Measured before `work` and after it, the higher ones: a host gives and takes both within minutes. */
export async function withCeilings<T>(
  simd: string, threads: number, work: () => Promise<T>, measure = (): Ceilings => runCeilings(simd, threads) as Ceilings,
): Promise<{ result: T; ceilings: Ceilings }> {
  const before = measure();
  const result = await work();
  const after = measure();
  const higher = (of: keyof Ceilings): number => Math.max(before[of], after[of]);
  return { result, ceilings: { fmaGflops: higher("fmaGflops"), readGBs: higher("readGBs") } };
}

/**
 * Tells whether the host runs other guests on our cores' other hardware threads, which no count of this machine's shows: plain
 * additions take longer then.
 */
export class Additions {
  readonly #time: () => number;
  #shortest = Infinity;

  /** @param time seconds of a fixed number of additions on as many threads as the work to be watched has */
  constructor(time: () => number) {
    this.#time = time;
  }

  static on(threads: number): Additions {
    return new Additions(() => (runCeilings("additions", threads) as { seconds: number }).seconds);
  }

  /** Seconds that they take now. */
  sample(): number {
    const seconds = this.#time();
    this.#shortest = Math.min(this.#shortest, seconds);
    return seconds;
  }

  /** The share of their speed that additions had lost, against the shortest sample so far. */
  lost(seconds: number): number {
    return 1 - this.#shortest / seconds;
  }
}

export interface Machine {
  processor: string;
  processors: number;
  memoryBytes: number;
  node: string;
  load: number[];
}

export function describeMachine(): Machine {
  return { processor: cpus()[0]!.model, processors: cpus().length, memoryBytes: totalmem(), node: process.version, load: loadavg() };
}

/** Processor seconds since the machine started, all processors together. Linux. */
interface Busy {
  /** Ordinary work, and what the host took. */
  seconds: number;
  /** Work of low priority (`nice`), which gives way to ours but shares caches and memory. */
  niced: number;
}

function busyNow(): Busy {
  const [user, nice, system, , , irq, softirq, steal] = readFileSync("/proc/stat", "utf8").split("\n")[0]!.split(/\s+/).slice(1).map(Number);
  return { seconds: (user! + system! + irq! + softirq! + steal!) / 100, niced: nice! / 100 };
}

/** Processors that were busy for others, on average. */
export interface Others {
  others: number;
  /** And those that were busy with work of low priority. */
  background: number;
  /** The share of their speed that plain additions had lost right before and after (their mean), where that was sampled. */
  company?: number;
}

/** What others take over `ms`, while this process waits. */
export async function loadBefore(ms = 1000): Promise<Others> {
  const watch = new LoadWatch();
  await sleep(ms);
  return watch.others(0);
}

/** Tells how much of the machine others took while something of ours ran. */
export class LoadWatch {
  readonly #busy = busyNow();
  readonly #started = performance.now();

  /** @param own what the run itself used, in processor seconds */
  others(own: number): Others {
    const { seconds, niced } = busyNow();
    const wall = (performance.now() - this.#started) / 1000;
    return { others: Math.max(0, (seconds - this.#busy.seconds - own) / wall), background: (niced - this.#busy.niced) / wall };
  }
}

/** Reads files once from end to end, so that what is timed next finds them in memory. */
export async function readOnce(paths: readonly string[]): Promise<void> {
  const chunk = Buffer.alloc(2 ** 24);
  for (const one of paths) {
    const file = await open(one);
    try {
      while ((await file.read(chunk, 0, chunk.length)).bytesRead > 0);
    } finally {
      await file.close();
    }
  }
}
