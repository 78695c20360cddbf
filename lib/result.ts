/** What an answer comes down to, and what a prompt costs. */

import { pagesOf, type Model } from "./model.js";
import { countFlops } from "./pruning/flops.js";
import type { GenerateRequest } from "./request/generate.js";
import type { AnswerState } from "./schedule/answer.js";
import type { NativeStage } from "./binding/native.js";
import type { Sample } from "./schedule/sample.js";
import type { PartialResult, Result, SampleResult, Stage } from "./types.js";

export function partialResult(model: Model, request: GenerateRequest, state: AnswerState): PartialResult {
  const { prompt, demand, pictures, cuts, samples, timings } = state;
  const { textTokens } = prompt;
  const imageTokens = prompt.ids.length - textTokens;
  const completionTokens = samples.reduce((sum, { tokens }) => sum + tokens.length, 0);
  const prefills = request.cache === "redecide" ? completionTokens : 1;
  return {
    ...sampleResult(samples[0]!),
    usage: {
      promptTokens: prompt.ids.length,
      imageTokens,
      imageTokensPerStage: demand.stages.map((stage) => stage.imageTokens),
      completionTokens,
      prefills,
    },
    timings: { ...timings },
    cuts: cuts.map(({ steps, ...cut }) => ({ ...cut, ...(steps && { steps: [...steps] }) })),
    flops: countFlops(model.checkpoint.config, { textTokens, imageTokens, encodedImages: pictures.encoded, cuts: request.cuts, prefills }),
    kvBytes: demand.pages * model.pageBytes,
    images: pictures.placements,
    ...(samples.length > 1 && {
      samples: samples.map((sample) => ({ ...sampleResult(sample), ...(sample.finishReason && { finishReason: sample.finishReason }) })),
    }),
  };
}

/** The result of an answer all of whose samples have ended. */
export function wholeResult(model: Model, request: GenerateRequest, state: AnswerState): Result {
  const { samples, ...result } = partialResult(model, request, state);
  return {
    ...result,
    finishReason: state.samples[0]!.finishReason!,
    ...(samples && { samples: samples.map((sample, i) => ({ ...sample, finishReason: state.samples[i]!.finishReason! })) }),
  };
}

function sampleResult({ text, tokens, logprobs }: Sample): Omit<SampleResult, "finishReason"> {
  return { text, tokens: Uint32Array.from(tokens), ...(logprobs && { logprobs: [...logprobs] }) };
}

export function publicStage(stage: NativeStage, pageBytes: number): Stage {
  return {
    firstLayer: stage.first,
    endLayer: stage.end,
    tokens: stage.tokens,
    imageTokens: stage.imageTokens,
    kvBytes: pagesOf(stage) * pageBytes,
  };
}
