/**
 * The answers to one prompt: a prefill, from which every sample draws its own first token, then a token a pass for each
 * until it ends; or a prefill a step, where every token decides anew what is kept.
 */

import type { StepSequence, StepToken } from "../binding/native.js";
import type { HimapError } from "../errors.cjs";
import type { GenerationControls } from "../generation.js";
import { checkCharacters, checkDemand, checkLength, demandOf, type Demand, type Model } from "../model.js";
import { renderPrompt, type Prompt } from "../prompt/index.js";
import { compileCuts } from "../pruning/compile.js";
import type { GenerateRequest } from "../request/generate.js";
import { imageWhere } from "../request/messages.js";
import { partialResult, wholeResult } from "../result.js";
import type { CutResult, PartialResult, Result } from "../types.js";
import { firstPositions, forkCopies, packSpans, pageTables, sampleTables } from "./layout.js";
import type { Lease } from "./pages.js";
import { preparePictures, type Pictures } from "./pictures.js";
import { Sample } from "./sample.js";
import type { Work, WorkDemand, WorkOutput, WorkStep } from "./work.js";

/** An answer under way. */
export interface AnswerState {
  prompt: Prompt;
  demand: Demand;
  pictures: Pictures;
  /** Known when the step of the prefill has ended. */
  cuts: CutResult[];
  samples: Sample[];
  timings: Result["timings"];
}

export class Answer implements Work {
  readonly kind = "generate";
  readonly id: string;
  readonly #model: Model;
  readonly #request: GenerateRequest;
  readonly #controls: Pick<GenerationControls, "push" | "finish" | "fail">;
  readonly #submitted: number;
  #state: AnswerState | undefined;
  #lease!: Lease;
  /** The samples' page tables. */
  #tables: Int32Array[] = [];
  /** What has been run: nothing, the prompt, the prompt and the first step of samples that parted from it. */
  #phase: "new" | "prefilled" | "parted" = "new";
  /** Whose the sequences of the step under way are. */
  #live: Sample[] = [];
  #firstTokenAt: number | undefined;
  /** With `redecide`, the token of the step under way: it is taken together with what the step decided. */
  #held: StepToken | undefined;

  constructor(id: string, model: Model, request: GenerateRequest, controls: Pick<GenerationControls, "push" | "finish" | "fail">) {
    this.id = id;
    this.#model = model;
    this.#submitted = model.clock.now();
    this.#request = request;
    this.#controls = controls;
  }

  get priority(): number {
    return this.#request.priority;
  }
  get samples(): number {
    return this.#request.n;
  }
  get promptTokens(): number {
    return this.#state?.prompt.ids.length ?? 0;
  }
  get imageTokens(): number {
    return this.#state?.demand.stages[0]!.imageTokens ?? 0;
  }
  get keptImageTokens(): number {
    return this.#state?.demand.stages.at(-1)!.imageTokens ?? 0;
  }
  get tokens(): number {
    return this.#state?.samples.reduce((sum, { tokens }) => sum + tokens.length, 0) ?? 0;
  }

  measure(): WorkDemand {
    const { template, tokenizer, facts, poolPages, checkpoint } = this.#model;
    const { messages, cuts, n, cache } = this.#request;
    checkCharacters(messages, 1, this.#model);
    const prompt = renderPrompt(messages, { template, tokenizer, imageTokens: facts.imageTokens });
    const length = prompt.ids.length;
    checkLength(length, 1, this.#model);
    const maxTokens = Math.min(this.#request.maxTokens, checkpoint.config.maxPositions - length);
    const imageTokens = length - prompt.textTokens;
    const demand = demandOf(this.#model, { length, imageTokens, newTokens: maxTokens, samples: n, cuts });
    checkDemand(demand, poolPages);
    const sample = { tokenizer, request: this.#request, prompt: prompt.ids, maxTokens, push: this.#controls.push };
    this.#state = {
      prompt,
      demand,
      pictures: { images: [], placements: [], decodeMs: 0, encoded: 0 },
      cuts: [],
      samples: Array.from({ length: n }, (_, index) => new Sample(index, sample)),
      timings: { queue: 0, decode: 0, vision: 0, prefill: 0, generate: 0 },
    };
    // Decided anew at every token, the prefill grows by a row each time: what counts is the last one.
    const standing = cache === "redecide";
    return { pages: demand.pages, sequences: n, rows: standing ? length + maxTokens - 1 : length, images: prompt.images.length, standing };
  }

  async prepare(signal: AbortSignal): Promise<void> {
    const { messages, imageAspectRatio, autoOrient } = this.#request;
    const state = this.#state!;
    if (state.prompt.images.length === 0) return;
    const where = (image: number): string => `generate: ${imageWhere(messages, image)}`;
    state.pictures = await preparePictures(this.#model, state.prompt.images, where, { imageAspectRatio, autoOrient, signal });
    state.timings.decode = state.pictures.decodeMs;
  }

  start(lease: Lease): void {
    const { timings, demand: { stages } } = this.#state!;
    this.#lease = lease;
    this.#tables = sampleTables(stages, lease.pages, this.#request.n, this.#model.native.pageTokens);
    lease.split(this.#tables);
    timings.queue = this.#model.clock.now() - this.#submitted - timings.decode;
  }

  next(): WorkStep {
    const { samples, pictures, demand } = this.#state!;
    if (this.#phase === "new" || this.#request.cache === "redecide") {
      this.#live = [samples[0]!];
      // What the first prefill makes of a picture serves those that follow.
      const returnFeatures = this.#request.cache === "redecide" && this.#phase === "new";
      return {
        images: pictures.images.map((image) => (returnFeatures ? { ...image, returnFeatures } : image)),
        sequences: [this.#prefill(samples[0]!)],
      };
    }
    this.#live = samples.filter(({ finishReason }) => !finishReason);
    const sequences = this.#live.map((sample) => this.#decode(sample));
    if (this.#phase === "parted") return { images: [], sequences };
    const tables = this.#live.map((sample) => this.#tableOf(sample));
    return { images: [], sequences, copies: forkCopies(demand.stages, this.#tables[0]!, tables, this.#model.native.pageTokens) };
  }

  take(sequence: number, token: StepToken): boolean {
    const { samples } = this.#state!;
    this.#firstTokenAt ??= this.#model.clock.now();
    if (this.#request.cache === "redecide") {
      this.#held = token;
      return true;
    }
    // Every sample draws from the prompt's own candidates.
    const drawing = this.#phase === "new" && samples.length > 1 ? samples : [this.#live[sequence]!];
    for (const sample of drawing) sample.take(token);
    return drawing.every(({ finishReason }) => finishReason);
  }

  accept({ images, sequences, timings }: WorkOutput): boolean {
    const state = this.#state!;
    const redecide = this.#request.cache === "redecide";
    if (this.#phase === "new") {
      state.timings.vision = timings.vision;
      state.timings.prefill = timings.prefill;
      state.cuts = sequences[0]!.cuts.map((cut, i) => ({ before: this.#request.cuts[i]!.before, ...cut, ...(redecide && { steps: [] }) }));
      // Their pixels are no longer needed, and an answer may take long.
      state.pictures.images = redecide ? images.map(({ features }) => ({ features: features! })) : [];
    }
    if (redecide) {
      sequences[0]!.cuts.forEach((cut, i) => state.cuts[i]!.steps!.push(cut));
      state.samples[0]!.take(this.#held!);
    }
    this.#phase = this.#phase === "new" && state.samples.length > 1 ? "prefilled" : "parted";
    state.timings.generate = this.#model.clock.now() - this.#firstTokenAt!;
    // Until samples have parted, the first one's table holds what the others are copied from.
    if (this.#phase === "parted") for (const sample of state.samples) if (sample.finishReason) this.#lease.give(this.#tableOf(sample));
    return state.samples.every(({ finishReason }) => finishReason);
  }

  finish(): void {
    this.#controls.finish(wholeResult(this.#model, this.#request, this.#state!));
  }

  fail(error: HimapError): void {
    this.#controls.fail(error);
  }

  /** What there is of the result; `undefined` before the first token. The cuts are missing until the prefill's step has ended. */
  partial(): PartialResult | undefined {
    return this.tokens > 0 ? partialResult(this.#model, this.#request, this.#state!) : undefined;
  }

  #tableOf(sample: Sample): Int32Array {
    return this.#tables[sample.sampling.sample]!;
  }

  #prefill(sample: Sample): StepSequence {
    const { prompt, demand, samples } = this.#state!;
    const { cuts, cache, scores } = this.#request;
    const ids = new Int32Array(prompt.ids.length + sample.tokens.length);
    ids.set(prompt.ids);
    ids.set(sample.tokens, prompt.ids.length);
    return {
      phase: "prefill",
      ids,
      positions: firstPositions(ids.length),
      spans: packSpans(prompt.spans),
      cuts: compileCuts(cuts),
      stages: pageTables(demand.stages, this.#tables[0]!),
      ...this.#common(sample, cache === "redecide" || samples.length > 1 ? 1 : Infinity),
      // The first tells at once of a model that makes no numbers.
      candidates: "all",
      returnScores: scores,
    };
  }

  #decode(sample: Sample): StepSequence {
    const { prompt, demand } = this.#state!;
    const generated = sample.tokens.length - 1;
    return {
      phase: "decode",
      ids: Int32Array.of(sample.tokens[generated]!),
      positions: Int32Array.of(prompt.ids.length + generated),
      spans: noSpans,
      cuts: [],
      stages: pageTables(demand.stages, this.#tableOf(sample), generated),
      ...this.#common(sample, Infinity),
      candidates: sample.logprobs ? "all" : "last",
    };
  }

  #common(sample: Sample, longest: number): Pick<StepSequence, "stop" | "burst" | "sampling" | "adjust"> {
    const { adjust, burst } = sample.next();
    return {
      stop: Int32Array.from(this.#request.adjust.stopIds),
      burst: Math.min(burst, longest),
      sampling: sample.sampling,
      ...(adjust && { adjust }),
    };
  }
}

const noSpans = new Int32Array(0);
