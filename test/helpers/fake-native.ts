/** A native module without native code: deterministic candidates, and checks of everything that crosses. */

import type {
  Candidates, NativeEngine, NativeModule, NativeStage, PlanJob, StepInput, StepOutput, StepResult, StepSequence, StepToken,
} from "../../lib/binding/native.js";
import { chooseToken } from "../../lib/sampling/sampler.js";

const pageTokens = 32;

/** As native/prune/plan.cc, without its checks. */
export function fakePlan({ layers, length, imageTokens, newTokens, cuts }: PlanJob): NativeStage[] {
  let first = 0;
  let alive = imageTokens;
  return [...cuts, { before: layers, keep: 0 }].map(({ before, keep }) => {
    const tokens = length - imageTokens + alive;
    const capacity = tokens + newTokens;
    const stage = { first, end: before, tokens, imageTokens: alive, capacity, blocks: Math.ceil(capacity / pageTokens) };
    first = before;
    alive = keep;
    return stage;
  });
}

function mix(state: number, value: number): number {
  let x = Math.imul(state ^ value, 0x9e3779b1) >>> 0;
  x ^= x >>> 15;
  return Math.imul(x, 0x85ebca77) >>> 0;
}

/** A step that native code must never be given. */
const complain = (message: string): never => {
  throw Object.assign(new Error(`fake native: ${message}`), { code: "ERR_INTERNAL" });
};

export interface FakeOptions {
  vocabulary?: number;
  layers?: number;
  hidden?: number;
  /** Milliseconds that a pass takes; 0: a turn of the event loop. */
  delay?: () => number;
  /** Called before each step; what it throws the step rejects with. */
  before?: (step: number, input: StepInput) => void;
  /** Ids that come first in every candidate list of the nth token, for scripted answers. */
  script?: (index: number) => number | undefined;
}

export class FakeEngine implements NativeEngine {
  readonly info = { threads: 1, simd: "portable", mappedBytes: 0, weightBytes: 0, kvBytes: 0 } as const;
  readonly log: StepInput[] = [];
  steps = 0;
  interrupts = 0;
  yields = 0;
  closed = false;
  readonly #options: FakeOptions;
  /** Hash of what was cached, by the sequence's first page. */
  readonly #cache = new Map<number, { hash: number; tokens: number; generated: number }>();
  #queue: Promise<unknown> = Promise.resolve();
  #interrupt: (() => void) | undefined;
  /** Steps asked for and ended, and the last step that is to end at its next token. */
  #asked = 0;
  #ended = 0;
  #yielded = 0;

  constructor(options: FakeOptions = {}) {
    this.#options = options;
  }

  step(input: StepInput, onTokens: (tokens: StepToken[]) => void = () => {}): Promise<StepOutput> {
    if (this.closed) return Promise.reject(Object.assign(new Error("closed"), { code: "ERR_DISPOSED" }));
    const ticket = ++this.#asked;
    const run = this.#queue.then(() => this.#run(input, ticket, onTokens)).finally(() => (this.#ended = ticket));
    this.#queue = run.catch(() => {});
    return run;
  }

  yield(): void {
    this.yields += 1;
    this.#yielded = Math.min(this.#ended + 1, this.#asked);
  }

  interrupt(): void {
    this.interrupts += 1;
    this.#interrupt?.();
  }

  async close(): Promise<void> {
    this.closed = true;
    this.#interrupt?.();
    await this.#queue;
  }

  async #run(input: StepInput, ticket: number, onTokens: (tokens: StepToken[]) => void): Promise<StepOutput> {
    this.log.push(input);
    const step = this.steps++;
    this.#options.before?.(step, input);
    await this.#pass();
    const pages = input.sequences.flatMap(({ stages }) => stages.flatMap((stage) => [...stage.pages]));
    if (new Set(pages).size !== pages.length) complain("a page belongs to two sequences or layers");
    const { hidden = 8 } = this.#options;
    const sequences = await this.#burst(input.sequences, () => this.#yielded >= ticket, onTokens);
    return {
      images: input.images.map(({ returnFeatures, returnVision, pixels, features }) => ({
        ...(returnFeatures && { features: features ?? new Float32Array(64 * hidden).fill(pixels![0]!) }),
        ...(returnVision && { vision: new Float32Array(64) }),
      })),
      sequences,
      timings: { vision: 1, prefill: 2, decode: 3, idle: 0 },
    };
  }

  /** The time of one pass. */
  #pass(): Promise<void> {
    return new Promise<void>((resolve, reject) => {
      const delay = this.#options.delay?.() ?? 0;
      const timer = delay > 0 ? setTimeout(resolve, delay) : setImmediate(resolve);
      this.#interrupt = () => {
        clearTimeout(timer as NodeJS.Timeout);
        clearImmediate(timer as NodeJS.Immediate);
        reject(Object.assign(new Error("interrupted"), { code: "ERR_ABORTED" }));
      };
    }).finally(() => (this.#interrupt = undefined));
  }

  /** Every sequence until its burst is over, as native/engine/engine.cc does it. */
  async #burst(sequences: readonly StepSequence[], yielded: () => boolean, onTokens: (tokens: StepToken[]) => void): Promise<StepResult[]> {
    const results: StepResult[] = [];
    const tokens: number[][] = sequences.map(() => []);
    let running = sequences.map((row, index) => ({ index, row, passes: 1 }));
    for (;;) {
      const events: StepToken[] = [];
      const next: typeof running = [];
      for (const { index, row, passes } of running) {
        const { stop, burst, candidates: wanted = "all", sampling } = sequences[index]!;
        const result = this.#advance(row);
        const candidates = result.candidates[0]!;
        const position = row.positions.at(-1)! + 1;
        const token = passes < burst && !yielded() ? candidates.ids[chooseToken(candidates, sampling, position)]! : undefined;
        const shown = wanted === "all" || token === undefined ? [candidates] : [];
        events.push({ sequence: index, ...(token !== undefined && { token }), ...(shown[0] && { candidates: shown[0] }) });
        if (token !== undefined) tokens[index]!.push(token);
        results[index] = { ...(results[index] ?? result), candidates: [...(results[index]?.candidates ?? []), ...shown] };
        if (token === undefined || stop.includes(token)) continue;
        next.push({ index, row: this.#following(row, token, position), passes: passes + 1 });
      }
      onTokens(events);
      if (next.length === 0) return results.map((result, i) => ({ ...result, tokens: Int32Array.from(tokens[i]!) }));
      running = next;
      await this.#pass();
    }
  }

  /** The decode row behind a row or a prompt. */
  #following(row: StepSequence, token: number, position: number): StepSequence {
    const { tokens } = this.#cache.get(row.stages.find(({ pages }) => pages.length > 0)?.pages[0] ?? -1)!;
    return {
      ...row,
      phase: "decode",
      ids: Int32Array.of(token),
      positions: Int32Array.of(position),
      spans: new Int32Array(0),
      cuts: [],
      stages: row.stages.map((stage, i) => ({ ...stage, cached: i === 0 ? tokens : stage.cached })),
    };
  }

  #advance(sequence: StepSequence): StepOutput["sequences"][number] {
    const { vocabulary = 448 } = this.#options;
    const first = sequence.stages.find(({ pages }) => pages.length > 0)?.pages[0] ?? -1;
    const imageRows = sequence.ids.filter((id) => id < 0).length;
    let hash = 17;
    let generated = 0;
    if (sequence.phase === "decode") {
      const cached = this.#cache.get(first) ?? complain("decode without prefill");
      if (sequence.ids.length !== 1 || sequence.spans.length > 0 || sequence.cuts.length > 0) complain("decode takes one row");
      if (sequence.stages[0]!.cached !== cached.tokens) complain(`cached ${sequence.stages[0]!.cached}, not ${cached.tokens}`);
      ({ hash, generated } = cached);
      generated += 1;
    }
    for (const { blocks, pages, cached } of sequence.stages) {
      if (pages.length % Math.max(blocks, 1) !== 0) complain("pages of a stage are not layers * blocks");
      if (cached + sequence.ids.length - imageRows > blocks * pageTokens && pages.length > 0) complain("too few pages");
    }
    sequence.ids.forEach((id, row) => (hash = mix(mix(hash, id), sequence.positions[row]!)));
    const tokens = (this.#cache.get(first)?.tokens ?? 0) + 1;
    this.#cache.set(first, { hash, tokens: sequence.phase === "decode" ? tokens : sequence.ids.length, generated });

    const logits = new Map<number, number>();
    for (let i = 0; i < 100; i++) logits.set(mix(hash, i) % vocabulary, 10 - i * 0.1);
    const scripted = this.#options.script?.(generated);
    if (scripted !== undefined) logits.set(scripted, 50);
    const { tokens: ids = [], add = [], multiply = [] } = sequence.adjust ?? {};
    for (let i = 0; i < ids.length; i++) {
      const x = logits.get(ids[i]!);
      if (x !== undefined) logits.set(ids[i]!, (x < 0 ? x * multiply[i]! : x / multiply[i]!) + add[i]!);
    }
    const best = [...logits].sort((a, b) => b[1] - a[1] || a[0] - b[0]).slice(0, 64);
    const candidates: Candidates = {
      ids: Int32Array.from(best, ([id]) => id),
      logits: Float32Array.from(best, ([, logit]) => logit),
      logSumExp: Math.log([...logits.values()].reduce((sum, logit) => sum + Math.exp(logit), 0)),
    };
    let alive = Array.from({ length: imageRows }, (_, i) => i);
    const cuts = sequence.cuts.map(({ keep, keptRanks }) => {
      const scores = Float32Array.from(alive, (index) => index);
      alive = keptRanks ? [...keptRanks].map((rank) => alive[rank]!) : alive.slice(0, keep);
      return { kept: Uint32Array.from(alive), ...(sequence.returnScores && !keptRanks && { scores }) };
    });
    return {
      tokens: new Int32Array(0),
      candidates: [candidates],
      cuts,
      ...(sequence.study && { logits: new Float32Array(vocabulary), positions: sequence.positions.slice(-1) }),
    };
  }
}

export function fakeModule(options: FakeOptions = {}, engine = new FakeEngine(options)): NativeModule {
  return {
    version: "0.0.0",
    errorCodes: [],
    pageTokens,
    pageBytes: (kvHeads, headDim, kvType) => 2 * kvHeads * headDim * pageTokens * (kvType === "f32" ? 4 : 2),
    plan: fakePlan,
    backends: () => [{ name: "cpu", usable: true, path: "fake" }],
    preprocess: async ({ side, pixels }) => ({
      pixels: new Float32Array(3 * side * side).fill(pixels[0]! / 255),
      bytes: new Uint8Array(3 * side * side),
    }),
    open: async () => engine,
    memoryOf: () => ({ vectors: 0, workspace: 0 }),
    deviceMemory: () => ({ free: 2 ** 32, total: 2 ** 33 }),
  };
}
