/** One answer: prompt in, prefill, then a token a step until a stop; or a prefill a step, where every token decides anew. */

import type { Candidates, StepSequence } from "../binding/native.js";
import { HimapError } from "../errors.cjs";
import type { GenerationControls } from "../generation.js";
import { checkCharacters, checkDemand, checkLength, demandOf, type Demand, type Model } from "../model.js";
import { renderPrompt, type Prompt } from "../prompt/index.js";
import { compileCuts } from "../pruning/compile.js";
import type { GenerateRequest } from "../request/generate.js";
import { answerResult } from "../result.js";
import { Adjustments } from "../sampling/adjust.js";
import { logprobsOf } from "../sampling/logprobs.js";
import { chooseToken } from "../sampling/sampler.js";
import { StopScanner } from "../sampling/stop.js";
import type { DetokenizerStream, Tokenizer } from "../tokenizer/types.js";
import type { CutResult, FinishReason, Result, TokenLogprob } from "../types.js";
import { firstPositions, packSpans, pageTables } from "./layout.js";
import { preparePictures, type Pictures } from "./pictures.js";
import type { Work, WorkOutput, WorkStep } from "./work.js";

/** What is known of an answer once its prefill is over. */
export interface AnswerState {
  prompt: Prompt;
  demand: Demand;
  pictures: Pictures;
  cuts: CutResult[];
  text: string;
  tokens: number[];
  logprobs: TokenLogprob[] | undefined;
  timings: Result["timings"];
}

export class Answer implements Work {
  readonly #model: Model;
  readonly #request: GenerateRequest;
  readonly #controls: Pick<GenerationControls, "push" | "finish" | "fail">;
  readonly #decoder: DetokenizerStream;
  readonly #scanner: StopScanner;
  readonly #submitted = performance.now();
  #adjustments!: Adjustments;
  #pages!: Int32Array;
  /** The request's, or what the model's positions leave. */
  #maxTokens = 0;
  #firstTokenAt = 0;
  #state: AnswerState | undefined;
  #prefilled = false;
  /** Tokens whose text has not been handed on yet. */
  #pending: number[] = [];

  constructor(model: Model, request: GenerateRequest, controls: Pick<GenerationControls, "push" | "finish" | "fail">) {
    this.#model = model;
    this.#request = request;
    this.#controls = controls;
    this.#decoder = model.tokenizer.stream();
    this.#scanner = new StopScanner(request.stop);
  }

  get pageCount(): number {
    return this.#state!.demand.pages;
  }

  async prepare(signal: AbortSignal): Promise<void> {
    const { template, tokenizer, facts, poolPages, checkpoint } = this.#model;
    const { messages, maxTokens, cuts, imageAspectRatio, autoOrient } = this.#request;
    checkCharacters(messages, 1, this.#model);
    const prompt = renderPrompt(messages, { template, tokenizer, imageTokens: facts.imageTokens });
    const length = prompt.ids.length;
    checkLength(length, 1, this.#model);
    this.#maxTokens = Math.min(maxTokens, checkpoint.config.maxPositions - length);
    const demand = demandOf(this.#model, { length, imageTokens: length - prompt.textTokens, newTokens: this.#maxTokens, cuts });
    checkDemand(demand, poolPages);
    const pictures = await preparePictures(this.#model, prompt.images, { imageAspectRatio, autoOrient, signal });
    this.#adjustments = new Adjustments(this.#request.adjust, prompt.ids);
    this.#state = {
      prompt,
      demand,
      pictures,
      cuts: [],
      text: "",
      tokens: [],
      logprobs: this.#request.logprobs === undefined ? undefined : [],
      timings: { queue: 0, decode: pictures.decodeMs, vision: 0, prefill: 0, generate: 0 },
    };
  }

  start(pages: Int32Array): void {
    this.#pages = pages;
    const { timings } = this.#state!;
    timings.queue = performance.now() - this.#submitted - timings.decode;
  }

  next(): WorkStep {
    const { prompt, demand, pictures, tokens } = this.#state!;
    const { sampling, cuts, cache, scores, adjust: { stopIds } } = this.#request;
    const adjust = this.#adjustments.next();
    const common = { stop: Int32Array.from(stopIds), burst: 1, sampling, ...(adjust && { adjust }) };
    if (!this.#prefilled || cache === "redecide") {
      const ids = new Int32Array(prompt.ids.length + tokens.length);
      ids.set(prompt.ids);
      ids.set(tokens, prompt.ids.length);
      const sequence: StepSequence = {
        phase: "prefill",
        ids,
        positions: firstPositions(ids.length),
        spans: packSpans(prompt.spans),
        cuts: compileCuts(cuts),
        stages: pageTables(demand.stages, this.#pages),
        ...common,
        returnScores: scores,
      };
      // What the first prefill makes of a picture serves those that follow.
      const returnFeatures = cache === "redecide" && !this.#prefilled;
      return { images: pictures.images.map((image) => (returnFeatures ? { ...image, returnFeatures } : image)), sequence };
    }
    const sequence: StepSequence = {
      phase: "decode",
      ids: Int32Array.of(tokens.at(-1)!),
      positions: Int32Array.of(prompt.ids.length + tokens.length - 1),
      spans: new Int32Array(0),
      cuts: [],
      stages: pageTables(demand.stages, this.#pages, tokens.length - 1),
      ...common,
    };
    return { images: [], sequence };
  }

  accept({ images, sequence, timings }: WorkOutput): boolean {
    const state = this.#state!;
    const redecide = this.#request.cache === "redecide";
    if (!this.#prefilled) {
      this.#prefilled = true;
      this.#firstTokenAt = performance.now();
      state.timings.vision = timings.vision;
      state.timings.prefill = timings.prefill;
      state.cuts = sequence!.cuts.map((cut, i) => ({ before: this.#request.cuts[i]!.before, ...cut, ...(redecide && { steps: [] }) }));
      // Their pixels are no longer needed, and an answer may take long.
      state.pictures.images = redecide ? images.map(({ features }) => ({ features: features! })) : [];
    }
    if (redecide) sequence!.cuts.forEach((cut, i) => state.cuts[i]!.steps!.push(cut));
    const reason = this.#take(sequence!.candidates.at(-1)!);
    state.timings.generate = performance.now() - this.#firstTokenAt;
    if (!reason) return false;
    this.#controls.finish({ ...answerResult(this.#model, this.#request, state), finishReason: reason });
    return true;
  }

  fail(error: HimapError): void {
    this.#controls.fail(error);
  }

  /** What there is of the result; `undefined` before the first token. */
  partial(): Omit<Result, "finishReason"> | undefined {
    return this.#prefilled ? answerResult(this.#model, this.#request, this.#state!) : undefined;
  }

  /** Chooses the next token and hands its text on. Returns why the answer ends, where it does. */
  #take(candidates: Candidates): FinishReason | undefined {
    const state = this.#state!;
    const { sampling, logprobs, adjust: { stopIds } } = this.#request;
    checkCandidates(candidates);
    const chosen = chooseToken(candidates, sampling, state.prompt.ids.length + state.tokens.length);
    const id = candidates.ids[chosen]!;
    state.tokens.push(id);
    state.logprobs?.push(logprobsOf(candidates, chosen, logprobs!, (token) => pieceText(this.#model.tokenizer, token)));
    this.#adjustments.push(id);
    this.#pending.push(id);

    const stopped = stopIds.has(id);
    if (!stopped) this.#emit(this.#scanner.push(this.#decoder.push(id)));
    let reason: FinishReason | undefined;
    if (stopped || this.#scanner.stopped) reason = "stop";
    else if (state.tokens.length >= this.#maxTokens) reason = "length";
    if (reason) {
      const tail = this.#scanner.push(this.#decoder.end());
      this.#emit(tail + this.#scanner.end(), true);
    }
    return reason;
  }

  /** Hands text on, with the tokens that it completes. At the end tokens without text are handed on too. */
  #emit(text: string, last = false): void {
    if (text === "" && !(last && this.#pending.length > 0)) return;
    this.#state!.text += text;
    this.#controls.push({ text, tokens: this.#pending });
    this.#pending = [];
  }
}

function checkCandidates({ ids, logits }: Candidates): void {
  if (ids.length > 0 && logits[0]! > -Infinity) return;
  if (ids.length > 0 && Number.isNaN(logits[0])) {
    throw new HimapError("ERR_BAD_CHECKPOINT", "expected numbers for the model's logits but received NaN", {
      hint: "the weights hold NaN, or values beyond the range of their arithmetic",
    });
  }
  throw new HimapError("ERR_INVALID_ARG", "generate: expected at least one allowed token for logitBias but received biases that forbid all");
}

/** A token's own text: spaces for the vocabulary's marks, ASCII bytes as characters, other bytes as `<0xNN>`. */
function pieceText(tokenizer: Tokenizer, id: number): string {
  const piece = tokenizer.piece(id);
  const byte = /^<0x([0-7][0-9A-F])>$/.exec(piece);
  return byte ? String.fromCharCode(parseInt(byte[1]!, 16)) : piece.replaceAll("\u2581", " ");
}
