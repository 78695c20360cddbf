/** Every fault of a `generate` call found and reported together; defaults applied; nothing of the caller's objects kept but pictures. */

import type { StepSampling } from "../binding/native.js";
import { Faults } from "../check.js";
import { generateDefaults as defaults, limits } from "../defaults.js";
import { checkPruning, seedRule } from "../pruning/check.js";
import { resolveCuts, type ResolvedCut } from "../pruning/resolve.js";
import type { AdjustOptions } from "../sampling/adjust.js";
import { keyOf } from "../sampling/philox.js";
import type { CacheMode, GenerateOptions, ImageAspectRatio, Message, Pruning } from "../types.js";
import { checkMessages, type ImageFacts } from "./messages.js";

/** What a request is checked against. */
export interface RequestFacts extends ImageFacts {
  layers: number;
  vocabulary: number;
  eos: number;
  /** Of `load`, for requests that name none. */
  pruning: Pruning;
  imageAspectRatio: ImageAspectRatio;
  /** Samples that one request may ask for. */
  mostSamples: number;
}

/** A checked request. */
export interface GenerateRequest {
  messages: Message[];
  n: number;
  priority: number;
  /** As asked for; the model's positions may leave less. */
  maxTokens: number;
  sampling: StepSampling;
  /** Penalties, bias, and the ids that end the answer. */
  adjust: AdjustOptions;
  stop: string[];
  logprobs: number | undefined;
  cuts: ResolvedCut[];
  cache: CacheMode;
  imageAspectRatio: ImageAspectRatio;
  autoOrient: boolean;
  scores: boolean;
  signal: AbortSignal | undefined;
  timeoutMs: number;
}

const optionNames = [
  "n", "priority", "maxTokens", "minTokens", "temperature", "topP", "topK", "minP", "seed", "repetitionPenalty",
  "presencePenalty", "frequencyPenalty", "logitBias", "stop", "stopTokenIds", "logprobs", "pruning", "imageAspectRatio",
  "autoOrient", "scores", "signal", "timeoutMs",
] as const satisfies readonly (keyof GenerateOptions)[];

/** The longest delay that a timer of Node holds, ms. */
const longestDelayMs = 2 ** 31 - 1;

/** Numbers, their ranges and, in `defaults`, their values when left out. */
export const numberRules = {
  priority: { min: -limits.priority, max: limits.priority, integer: true },
  maxTokens: { min: 1, max: Number.MAX_SAFE_INTEGER, integer: true },
  minTokens: { min: 0, max: Number.MAX_SAFE_INTEGER, integer: true },
  temperature: { min: 0, max: limits.temperature },
  topP: { min: 0, max: 1 },
  topK: { min: 0, max: 2 ** 31 - 1, integer: true },
  minP: { min: 0, max: 1 },
  seed: seedRule,
  repetitionPenalty: { min: 0.01, max: limits.penalty },
  presencePenalty: { min: -limits.penalty, max: limits.penalty },
  frequencyPenalty: { min: -limits.penalty, max: limits.penalty },
  timeoutMs: { min: 1, max: longestDelayMs },
} as const;

/**
 * @param timeoutMs where the options name none
 * @throws HimapError ERR_INVALID_ARG with every fault of messages and options
 */
export function checkGenerate(
  messages: unknown, options: unknown, facts: RequestFacts, timeoutMs: number = defaults.timeoutMs,
): GenerateRequest {
  const faults = new Faults();
  const conversation = checkMessages(messages, facts, faults);
  const given = faults.properties(options === undefined ? {} : options, "options", optionNames) ?? {};

  const number = (name: keyof typeof numberRules): number =>
    given[name] === undefined ? defaults[name] : (faults.number(given[name], name, numberRules[name]) ?? defaults[name]);
  const flag = (name: "autoOrient" | "scores"): boolean =>
    given[name] === undefined ? defaults[name] : (faults.boolean(given[name], name) ?? defaults[name]);
  const optional = <T>(name: keyof GenerateOptions, read: (value: unknown) => T | undefined): T | undefined =>
    given[name] === undefined ? undefined : read(given[name]);

  const [maxTokens, minTokens] = [number("maxTokens"), number("minTokens")];
  if (minTokens > maxTokens) faults.add(`at most ${maxTokens}, that is maxTokens,`, "minTokens", minTokens);
  const policy = checkPruning(given.pruning ?? facts.pruning, "pruning", facts.layers, faults);
  const n = optional("n", (value) => faults.number(value, "n", { min: 1, max: facts.mostSamples, integer: true })) ?? defaults.n;
  if (n > 1 && policy?.cache === "redecide") faults.add("1, as cache: \"redecide\" decides for one answer,", "n", n);
  const stopIds = optional("stopTokenIds", (value) => readStopIds(value, facts.vocabulary, faults)) ?? [];

  const request: GenerateRequest = {
    messages: conversation?.messages ?? [],
    n,
    priority: number("priority"),
    maxTokens,
    sampling: {
      temperature: number("temperature"),
      topK: number("topK"),
      topP: number("topP"),
      minP: number("minP"),
      seed: keyOf(number("seed")),
      sample: 0,
    },
    adjust: {
      repetitionPenalty: number("repetitionPenalty"),
      presencePenalty: number("presencePenalty"),
      frequencyPenalty: number("frequencyPenalty"),
      logitBias: optional("logitBias", (value) => readLogitBias(value, facts.vocabulary, faults)) ?? new Map(),
      minTokens,
      stopIds: new Set([facts.eos, ...stopIds]),
    },
    stop: optional("stop", (value) => readStops(value, faults)) ?? [],
    logprobs: optional("logprobs", (value) => faults.number(value, "logprobs", { min: 0, max: limits.candidates, integer: true })),
    cuts: policy && conversation ? resolveCuts(policy.cuts, "pruning", conversation.images * facts.imageTokens, faults) : [],
    cache: policy?.cache ?? "frozen",
    imageAspectRatio: readAspect(given.imageAspectRatio, facts, faults),
    autoOrient: flag("autoOrient"),
    scores: flag("scores"),
    signal: optional("signal", (value) => faults.signal(value, "signal")),
    timeoutMs: given.timeoutMs === undefined ? timeoutMs : number("timeoutMs"),
  };
  faults.raise("generate");
  return request;
}

/** How pictures are made square: what the request asks for, or what the engine does. */
export function readAspect(value: unknown, facts: RequestFacts, faults: Faults): ImageAspectRatio {
  if (value === undefined) return facts.imageAspectRatio;
  return faults.oneOf(value, "imageAspectRatio", ["pad", "crop"]) ?? facts.imageAspectRatio;
}

function readStops(value: unknown, faults: Faults): string[] {
  const list = typeof value === "string" ? [value] : faults.elements(value, "stop", limits.stops);
  const stops: string[] = [];
  (list ?? []).forEach((stop, i) => {
    const where = typeof value === "string" ? "stop" : `stop[${i}]`;
    if (typeof stop === "string" && stop.length > 0 && stop.length <= limits.stopCharacters) stops.push(stop);
    else faults.add(`a string of 1 to ${limits.stopCharacters} characters`, where, stop);
  });
  return stops;
}

function readStopIds(value: unknown, vocabulary: number, faults: Faults): number[] {
  const list = faults.elements(value, "stopTokenIds", limits.stopTokenIds) ?? [];
  return list.map((id, i) => faults.number(id, `stopTokenIds[${i}]`, { min: 0, max: vocabulary - 1, integer: true }) ?? 0);
}

function readLogitBias(value: unknown, vocabulary: number, faults: Faults): Map<number, number> {
  const bias = new Map<number, number>();
  let entries: [string, unknown][];
  try {
    if (typeof value !== "object" || value === null || Array.isArray(value)) throw new TypeError();
    entries = Object.entries(value);
  } catch {
    faults.add("an object from token id to number", "logitBias", value);
    return bias;
  }
  if (entries.length > limits.logitBias) {
    faults.add(`at most ${limits.logitBias} entries`, "logitBias", entries.length);
    return bias;
  }
  for (const [key, amount] of entries) {
    const id = /^(0|[1-9]\d{0,9})$/.test(key) ? Number(key) : NaN;
    // NaN and +Infinity fail it.
    const right = typeof amount === "number" && (amount === -Infinity || Math.abs(amount) <= 1e4);
    if (!(id < vocabulary)) faults.add(`a token id from 0 to ${vocabulary - 1}`, "a key of logitBias", key);
    else if (!right) faults.add("a number from -10000 to 10000, or -Infinity,", `logitBias[${key}]`, amount);
    else bias.set(id, amount);
  }
  return bias;
}
