/** What an answer comes down to, and what a prompt costs. */

import { pagesOf, type Model } from "./model.js";
import { countFlops } from "./pruning/flops.js";
import type { GenerateRequest } from "./request/generate.js";
import type { AnswerState } from "./schedule/answer.js";
import type { NativeStage } from "./binding/native.js";
import type { Result, Stage } from "./types.js";

export function answerResult(model: Model, request: GenerateRequest, state: AnswerState): Omit<Result, "finishReason"> {
  const { prompt, demand, pictures, cuts, text, tokens, logprobs, timings } = state;
  const { textTokens } = prompt;
  const imageTokens = prompt.ids.length - textTokens;
  const prefills = request.cache === "redecide" ? tokens.length : 1;
  return {
    text,
    tokens: Uint32Array.from(tokens),
    usage: {
      promptTokens: prompt.ids.length,
      imageTokens,
      imageTokensPerStage: demand.stages.map((stage) => stage.imageTokens),
      completionTokens: tokens.length,
      prefills,
    },
    timings: { ...timings },
    cuts: cuts.map(({ steps, ...cut }) => ({ ...cut, ...(steps && { steps: [...steps] }) })),
    flops: countFlops(model.checkpoint.config, { textTokens, imageTokens, encodedImages: pictures.encoded, cuts: request.cuts, prefills }),
    kvBytes: demand.pages * model.pageBytes,
    images: pictures.placements,
    ...(logprobs && { logprobs: [...logprobs] }),
  };
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
