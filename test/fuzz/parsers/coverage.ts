/** Which parts of the parsers have run, from V8's own counters: what tells a new kind of input from more of the same. */

import inspector from "node:inspector";

interface Range {
  startOffset: number;
  endOffset: number;
  count: number;
}
interface Script {
  scriptId: string;
  url: string;
  functions: { ranges: Range[] }[];
}

/** 1 at each character of a script that has run, by script. */
type Trace = Map<string, Uint8Array>;

const own = /\/(?:lib\/(?:batch|checkpoint|tokenizer)|weights-tools)\//;

/** Inner ranges stand behind those around them, so that painting in order leaves each place with its own count. */
function paint(functions: Script["functions"]): Uint8Array {
  const painted = new Uint8Array(functions.reduce((most, { ranges }) => Math.max(most, ranges[0]!.endOffset), 0));
  for (const { ranges } of functions) {
    for (const { startOffset, endOffset, count } of ranges) painted.fill(count > 0 ? 1 : 0, startOffset, endOffset);
  }
  return painted;
}

export class Coverage {
  readonly #session = new inspector.Session();
  readonly #seen: Trace = new Map();
  /** Characters that have run. */
  size = 0;

  constructor() {
    this.#session.connect();
    this.#post("Profiler.enable");
    this.#post("Profiler.startPreciseCoverage", { callCount: true, detailed: true });
  }

  /** What has run since the last call. */
  take(): Trace {
    const { result } = this.#post("Profiler.takePreciseCoverage") as { result: Script[] };
    return new Map(result.filter(({ url }) => own.test(url)).map(({ scriptId, functions }) => [scriptId, paint(functions)]));
  }

  /** Whether some of a trace has never run. */
  isNew(trace: Trace): boolean {
    for (const [script, painted] of trace) {
      const seen = this.#seen.get(script);
      if (painted.some((ran, i) => ran === 1 && seen?.[i] !== 1)) return true;
    }
    return false;
  }

  /** Counts a trace as run; true where some of it was new. */
  add(trace: Trace): boolean {
    const before = this.size;
    for (const [script, painted] of trace) {
      const seen = this.#seen.get(script) ?? new Uint8Array(painted.length);
      const all = seen.length >= painted.length ? seen : new Uint8Array(painted.length);
      if (all !== seen) all.set(seen);
      painted.forEach((ran, i) => {
        if (ran === 1 && all[i] === 0) {
          all[i] = 1;
          this.size++;
        }
      });
      this.#seen.set(script, all);
    }
    return this.size > before;
  }

  /** In one thread the answer comes before the call returns. */
  #post(method: string, parameters: object = {}): unknown {
    let answer: unknown;
    this.#session.post(method, parameters, (error, result) => {
      if (error) throw error;
      answer = result;
    });
    return answer;
  }

  end(): void {
    this.#session.disconnect();
  }
}
