/** Penalties, bias and bans, as the sparse changes to the logits that each step carries. */

import type { StepSequence } from "../binding/native.js";

export interface AdjustOptions {
  repetitionPenalty: number;
  presencePenalty: number;
  frequencyPenalty: number;
  logitBias: ReadonlyMap<number, number>;
  minTokens: number;
  /** Ids that end the answer; not produced before `minTokens`. */
  stopIds: ReadonlySet<number>;
}

/**
 * What one answer's logits are changed by, step after step. Per token id: the repetition penalty applies to ids of the
 * prompt and of the answer, presence and frequency to ids of the answer; then the bias is added.
 */
export class Adjustments {
  readonly #options: AdjustOptions;
  /** Occurrences in the answer, by id; 0 for ids that matter for another reason. */
  readonly #counts = new Map<number, number>();
  readonly #seen = new Set<number>();
  #answered = 0;

  /** @param prompt ids of the prompt; negative ones (image rows) are passed over. */
  constructor(options: AdjustOptions, prompt: ArrayLike<number>) {
    this.#options = options;
    if (options.repetitionPenalty !== 1) {
      for (let i = 0; i < prompt.length; i++) {
        const id = prompt[i]!;
        if (id < 0) continue;
        this.#seen.add(id);
        this.#counts.set(id, 0);
      }
    }
    for (const id of options.logitBias.keys()) this.#counts.set(id, 0);
    if (options.minTokens > 0) for (const id of options.stopIds) this.#counts.set(id, 0);
  }

  /** For how many tokens, the next one included, `next` gives what it gives now. */
  get steadyFor(): number {
    const { repetitionPenalty, presencePenalty, frequencyPenalty, minTokens, stopIds } = this.#options;
    if (repetitionPenalty !== 1 || presencePenalty !== 0 || frequencyPenalty !== 0) return 1;
    return this.#answered < minTokens && stopIds.size > 0 ? minTokens - this.#answered : Infinity;
  }

  /** Notes a token of the answer. */
  push(id: number): void {
    const { repetitionPenalty, presencePenalty, frequencyPenalty } = this.#options;
    this.#answered += 1;
    if (repetitionPenalty === 1 && presencePenalty === 0 && frequencyPenalty === 0) return;
    this.#seen.add(id);
    this.#counts.set(id, (this.#counts.get(id) ?? 0) + 1);
  }

  /** The changes for the next token, ids ascending; `undefined` where nothing changes. */
  next(): NonNullable<StepSequence["adjust"]> | undefined {
    const { repetitionPenalty, presencePenalty, frequencyPenalty, logitBias, minTokens, stopIds } = this.#options;
    const early = this.#answered < minTokens;
    const tokens: number[] = [];
    const add: number[] = [];
    const multiply: number[] = [];
    for (const id of [...this.#counts.keys()].sort((a, b) => a - b)) {
      const count = this.#counts.get(id)!;
      let sum = logitBias.get(id) ?? 0;
      if (count > 0) sum -= presencePenalty + count * frequencyPenalty;
      if (early && stopIds.has(id)) sum = -Infinity;
      const factor = this.#seen.has(id) ? repetitionPenalty : 1;
      if (sum === 0 && factor === 1) continue;
      tokens.push(id);
      add.push(sum);
      multiply.push(factor);
    }
    if (tokens.length === 0) return undefined;
    return { tokens: Int32Array.from(tokens), add: Float32Array.from(add), multiply: Float32Array.from(multiply) };
  }
}
