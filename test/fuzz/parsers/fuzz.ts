/** Runs a parser on inputs made of inputs, keeping those that reach code which none before reached. */

import { HimapError } from "../../../lib/errors.cjs";
import { Random } from "../../helpers/random.js";
import { Coverage } from "./coverage.js";
import { mutate } from "./mutate.js";
import { keptInputs, type Target } from "./targets.js";

export interface FuzzOptions {
  inputs: number;
  seed: number;
  /** Milliseconds of processor time that one input of at most 64 KB may take. */
  limitMs: number;
  /** Bytes that the process may grow by. */
  memory: number;
  onProgress?: (done: number, report: FuzzReport) => void;
}

export interface FuzzReport {
  inputs: number;
  /** Inputs that were not refused. */
  accepted: number;
  /** Inputs that others were made of at the end. */
  corpus: number;
  /** Characters of source that have run. */
  covered: number;
  slowestMs: number;
  /** Bytes that the process has grown by. */
  grown: number;
  /** What should not have happened, with the input that did it. */
  finding?: { what: string; input: Uint8Array };
  /** Inputs that reached new code, beyond the seeds. */
  found: Uint8Array[];
}

/** Inputs between two looks at the counters, which cost about as much as a hundred inputs. */
const batch = 200;

/** How a parser ended: what it accepted or refused is fine, all else is a finding. */
async function attempt({ run }: Target, input: Uint8Array): Promise<{ accepted: boolean; what?: string }> {
  try {
    await run(input);
    return { accepted: true };
  } catch (error) {
    if (!(error instanceof HimapError)) {
      return { accepted: false, what: error instanceof Error ? (error.stack ?? error.message) : String(error) };
    }
    if (error.code === "ERR_INTERNAL") return { accepted: false, what: error.message };
    if (!/: expected .+ for .+ but received /s.test(error.message)) {
      return { accepted: false, what: `a message without its phrase: ${error.message}` };
    }
    if (error.message.length > 4000) return { accepted: false, what: `a message of ${error.message.length} characters` };
    return { accepted: false };
  }
}

/** Ends at the first finding. The same seed gives the same inputs. */
export async function fuzz(
  name: string,
  target: Target,
  { inputs, seed, limitMs, memory, onProgress }: FuzzOptions,
): Promise<FuzzReport> {
  const random = new Random(seed);
  const coverage = new Coverage();
  const corpus: Uint8Array[] = [];
  const report: FuzzReport = { inputs: 0, accepted: 0, corpus: 0, covered: 0, slowestMs: 0, grown: 0, found: [] };
  const rss = process.memoryUsage.rss();

  /** Milliseconds that this process has computed: a parser never waits, and other work on the machine does not count. */
  const computed = (): number => {
    const { user, system } = process.cpuUsage();
    return (user + system) / 1000;
  };
  const one = async (input: Uint8Array): Promise<boolean> => {
    const started = computed();
    const { accepted, what } = await attempt(target, input);
    const ms = computed() - started;
    report.inputs++;
    report.slowestMs = Math.max(report.slowestMs, ms);
    if (accepted) report.accepted++;
    if (what !== undefined) report.finding = { what, input };
    else if (ms > limitMs)
      report.finding = { what: `${ms.toFixed(0)} ms for ${input.length} bytes, at most ${limitMs} allowed`, input };
    return report.finding === undefined;
  };
  const finish = (): FuzzReport => {
    coverage.end();
    return { ...report, corpus: corpus.length, covered: coverage.size };
  };

  for (const input of [...target.seeds(), ...keptInputs(name)]) {
    if (!(await one(input))) return finish();
    coverage.add(coverage.take());
    corpus.push(input);
  }
  while (report.inputs < inputs) {
    const made: Uint8Array[] = [];
    for (let i = 0; i < Math.min(batch, inputs - report.inputs); i++) {
      // The newest are the least explored.
      const base = random.below(3) === 0 ? corpus.at(-1 - random.below(Math.min(8, corpus.length)))! : random.pick(corpus);
      made.push(mutate(base, random.pick(corpus), target.words, random));
    }
    for (const input of made) if (!(await one(input))) return finish();
    const trace = coverage.take();
    if (coverage.isNew(trace)) {
      await explore(made);
      coverage.add(trace);
    }
    report.grown = Math.max(report.grown, process.memoryUsage.rss() - rss);
    if (report.grown > memory) {
      report.finding = { what: `the process grew by ${report.grown} bytes, at most ${memory} allowed`, input: made.at(-1)! };
      return finish();
    }
    onProgress?.(report.inputs, { ...report, corpus: corpus.length, covered: coverage.size });
  }
  return finish();

  /** Halves inputs that together brought something new until those stand alone that did. */
  async function explore(made: readonly Uint8Array[]): Promise<void> {
    for (const input of made) await attempt(target, input);
    const trace = coverage.take();
    if (!coverage.isNew(trace)) return;
    if (made.length === 1) {
      coverage.add(trace);
      corpus.push(made[0]!);
      report.found.push(made[0]!);
      return;
    }
    const middle = Math.ceil(made.length / 2);
    await explore(made.slice(0, middle));
    await explore(made.slice(middle));
  }
}
