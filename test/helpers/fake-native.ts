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

/** Tokens that a prompt leaves in one of its stages. */
function tokensOf({ ids, cuts }: StepSequence, stage: number): number {
  const images = ids.filter((id) => id < 0).length;
  return ids.length - images + (stage === 0 ? images : cuts[stage - 1]!.keep);
}

/** A step that native code must never be given. */
const complain = (message: string): never => {
  throw Object.assign(new Error(`fake native: ${message}`), { code: "ERR_INTERNAL" });
};

/** A page that one sequence writes to belongs to that sequence and one of its layers alone. */
function checkWriters(sequences: readonly StepSequence[]): void {
  const uses = new Map<number, number>();
  const written: number[] = [];
  for (const sequence of sequences) {
    sequence.stages.forEach(({ cached, blocks, pages }, i) => {
      for (const page of pages) uses.set(page, (uses.get(page) ?? 0) + 1);
      const first = sequence.phase === "prefill" ? 0 : cached >> 5;
      const end = (sequence.phase === "prefill" ? tokensOf(sequence, i) : cached + 1) + sequence.burst - 1;
      for (let layer = 0; layer < pages.length; layer += blocks) {
        for (let block = first; block <= (end - 1) >> 5; block++) written.push(pages[layer + block] ?? complain("a burst has too few pages"));
      }
    });
  }
  if (written.some((page) => uses.get(page) !== 1)) complain("a page that is written to belongs to two sequences or layers");
}

export interface FakeOptions {
  vocabulary?: number;
  layers?: number;
  hidden?: number;
  /** Milliseconds that a pass takes; 0: a turn of the event loop. */
  delay?: () => number;
  /** Called before each step; what it throws the step rejects with. */
  before?: (step: number, input: StepInput) => void;
  /** The same after its tokens have been told. */
  after?: (step: number) => void;
  /** Tokens with a logit. Default 100. */
  logits?: number;
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
  /** What pages hold: a hash of each token, 0 where none was written, and the rows of the prompt that was put there. */
  readonly #pages = new Map<number, { slots: Int32Array; promptRows: number }>();
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
    checkWriters(input.sequences);
    this.#copy(input.copies ?? new Int32Array(0));
    const { hidden = 8 } = this.#options;
    const sequences = await this.#burst(input.sequences, () => this.#yielded >= ticket, onTokens);
    this.#options.after?.(step);
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
    return {
      ...row,
      phase: "decode",
      ids: Int32Array.of(token),
      positions: Int32Array.of(position),
      spans: new Int32Array(0),
      cuts: [],
      stages: row.stages.map((stage, i) => ({ ...stage, cached: row.phase === "decode" ? stage.cached + 1 : tokensOf(row, i) })),
    };
  }

  #copy(copies: Int32Array): void {
    for (let i = 0; i < copies.length; i += 2) {
      const from = this.#pages.get(copies[i]!) ?? complain("a page is copied that nothing was written to");
      this.#pages.set(copies[i + 1]!, { ...from, slots: from.slots.slice() });
    }
  }

  /** Calls `visit` with the page and the slot of each token of a stage from `first` on, in each of its layers. */
  #eachSlot({ blocks, pages }: StepSequence["stages"][number], first: number, end: number, visit: (page: number, slot: number, token: number) => void): void {
    for (let layer = 0; layer < pages.length; layer += blocks) {
      for (let token = first; token < end; token++) visit(pages[layer + (token >> 5)]!, token & 31, token);
    }
  }

  #write(page: number, slot: number, hash: number, promptRows: number): void {
    const held = this.#pages.get(page) ?? { slots: new Int32Array(pageTokens), promptRows };
    this.#pages.set(page, { slots: held.slots, promptRows });
    held.slots[slot] = hash | 1;
  }

  /** Writes a row or a prompt to its pages. Returns a hash of all that is cached, and how many tokens were generated before. */
  #cache(sequence: StepSequence): { hash: number; generated: number } {
    const { ids, positions, stages } = sequence;
    const rows = ids.length;
    let hash = 17;
    if (sequence.phase === "prefill") {
      const hashes = Array.from(ids, (id, row) => (hash = mix(mix(hash, id), positions[row]!)));
      stages.forEach((stage, i) => {
        const tokens = tokensOf(sequence, i);
        this.#eachSlot(stage, 0, tokens, (page, slot, token) => this.#write(page, slot, hashes[rows - tokens + token]!, rows));
      });
      return { hash, generated: 0 };
    }
    if (rows !== 1 || sequence.spans.length > 0 || sequence.cuts.length > 0) complain("decode takes one row");
    const row = mix(mix(hash, ids[0]!), positions[0]!);
    let promptRows = 0;
    for (const stage of stages) {
      this.#eachSlot(stage, 0, stage.cached, (page, slot) => {
        const held = this.#pages.get(page);
        if (!held?.slots[slot]) return complain("decode reads what was never written");
        promptRows = held.promptRows;
        hash = mix(hash, held.slots[slot]);
      });
    }
    for (const stage of stages) {
      this.#eachSlot(stage, stage.cached, stage.cached + 1, (page, slot) => this.#write(page, slot, row, promptRows));
    }
    return { hash: mix(hash, row), generated: positions[0]! - promptRows + 1 };
  }

  #advance(sequence: StepSequence): StepOutput["sequences"][number] {
    const { vocabulary = 448 } = this.#options;
    const imageRows = sequence.ids.filter((id) => id < 0).length;
    sequence.stages.forEach(({ blocks, pages, cached }, i) => {
      if (pages.length % Math.max(blocks, 1) !== 0) complain("pages of a stage are not layers * blocks");
      const tokens = sequence.phase === "decode" ? cached + 1 : tokensOf(sequence, i);
      if (tokens > blocks * pageTokens && pages.length > 0) complain("too few pages");
    });
    const { hash, generated } = this.#cache(sequence);
    const logits = new Map<number, number>();
    const { logits: count = 100 } = this.#options;
    for (let i = 0; i < count; i++) logits.set(mix(hash, i) % vocabulary, 10 - i * 0.1);
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
      bytes: new Uint8Array(3 * side * side).fill(pixels[0]!),
    }),
    open: async () => engine,
    lockFile: () => true,
    memoryOf: () => ({ vectors: 0, workspace: 0 }),
    deviceMemory: () => ({ free: 2 ** 32, total: 2 ** 33 }),
  };
}
