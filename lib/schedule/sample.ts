/** One answer to a prompt: its tokens, their text, and where it ends. */

import type { Candidates, StepSampling, StepSequence, StepToken } from "../binding/native.js";
import { HimapError } from "../errors.cjs";
import type { GenerateRequest } from "../request/generate.js";
import { Adjustments } from "../sampling/adjust.js";
import { logprobsOf } from "../sampling/logprobs.js";
import { checkNumbers, chooseToken } from "../sampling/sampler.js";
import { StopScanner } from "../sampling/stop.js";
import type { DetokenizerStream, Tokenizer } from "../tokenizer/types.js";
import type { Delta, FinishReason, TokenLogprob } from "../types.js";

export interface SampleOptions {
  tokenizer: Tokenizer;
  request: GenerateRequest;
  /** Ids of the prompt; negative at image rows. */
  prompt: Int32Array;
  /** Most tokens: the request's, or what the model's positions leave. */
  maxTokens: number;
  push: (delta: Delta) => void;
}

export class Sample {
  readonly tokens: number[] = [];
  readonly logprobs: TokenLogprob[] | undefined;
  readonly sampling: StepSampling;
  text = "";
  /** Why it has ended, once it has. */
  finishReason: FinishReason | undefined;
  readonly #options: SampleOptions;
  readonly #decoder: DetokenizerStream;
  readonly #scanner: StopScanner;
  readonly #adjustments: Adjustments;
  /** Tokens whose text has not been handed on yet. */
  #pending: number[] = [];

  /** @param index among the samples of its request */
  constructor(index: number, options: SampleOptions) {
    const { request, tokenizer, prompt } = options;
    this.#options = options;
    this.sampling = { ...request.sampling, sample: index };
    this.logprobs = request.logprobs === undefined ? undefined : [];
    this.#decoder = tokenizer.stream();
    this.#scanner = new StopScanner(request.stop);
    this.#adjustments = new Adjustments(request.adjust, prompt);
  }

  /** What the logits are changed by, and for how many tokens native code may go on alone. */
  next(): { adjust: StepSequence["adjust"]; burst: number } {
    const left = this.#options.maxTokens - this.tokens.length;
    return { burst: Math.min(left, this.#adjustments.steadyFor), adjust: this.#adjustments.next() };
  }

  /** Takes the next token, chosen natively or to be chosen here. Nothing happens once it has ended. */
  take({ token, candidates }: Pick<StepToken, "token" | "candidates">): void {
    if (this.finishReason) return;
    const { tokenizer, request, prompt, maxTokens } = this.#options;
    if (candidates) this.#checkCandidates(candidates);
    const id = token ?? candidates!.ids[chooseToken(candidates!, this.sampling, prompt.length + this.tokens.length)]!;
    this.tokens.push(id);
    this.logprobs?.push(logprobsOf(candidates!, candidates!.ids.indexOf(id), request.logprobs!, (other) => pieceText(tokenizer, other)));
    this.#adjustments.push(id);
    this.#pending.push(id);

    const stopped = request.adjust.stopIds.has(id);
    if (!stopped) this.#emit(this.#scanner.push(this.#decoder.push(id)));
    if (stopped || this.#scanner.stopped) this.finishReason = "stop";
    else if (this.tokens.length >= maxTokens) this.finishReason = "length";
    if (!this.finishReason) return;
    const tail = this.#scanner.push(this.#decoder.end());
    this.#emit(tail + this.#scanner.end(), true);
  }

  #checkCandidates(candidates: Candidates): void {
    checkNumbers(candidates);
    if (candidates.logits[0]! > -Infinity) return;
    const { logitBias, minTokens } = this.#options.request.adjust;
    const banned = [...logitBias.values()].includes(-Infinity);
    const where = this.tokens.length >= minTokens ? "logitBias" : `stopTokenIds before minTokens${banned ? " and logitBias" : ""}`;
    throw new HimapError("ERR_INVALID_ARG", `generate: expected at least one allowed token for ${where} but received what forbids all`);
  }

  /** Hands text on, with the tokens that it completes. At the end tokens without text are handed on too. */
  #emit(text: string, last = false): void {
    if (text === "" && !(last && this.#pending.length > 0)) return;
    this.text += text;
    this.#options.push({ text, tokens: this.#pending, sample: this.sampling.sample });
    this.#pending = [];
  }
}

/** A token's own text: spaces for the vocabulary's marks, ASCII bytes as characters, other bytes as `<0xNN>`. */
function pieceText(tokenizer: Tokenizer, id: number): string {
  const piece = tokenizer.piece(id);
  const byte = /^<0x([0-7][0-9A-F])>$/.exec(piece);
  return byte ? String.fromCharCode(parseInt(byte[1]!, 16)) : piece.replaceAll("\u2581", " ");
}
