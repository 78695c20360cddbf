/** Every fault of a `forward`, `encodeImage`, `plan`, `tokenize` or `detokenize` call. */

import { Faults } from "../check.js";
import { limits, planDefaults } from "../defaults.js";
import { kImageMark } from "../prompt/index.js";
import { checkPruning } from "../pruning/check.js";
import { resolveCuts, type ResolvedCut } from "../pruning/resolve.js";
import type { CacheMode, ForwardOptions, ImageAspectRatio, ImageInput, Message } from "../types.js";
import { checkImage, checkMessages } from "./messages.js";
import { readAspect, type RequestFacts } from "./generate.js";

/** Ids, and what the images hold that are marked among them. */
export interface RawPrompt {
  ids: Int32Array;
  pixels?: Float32Array[];
  features?: Float32Array[];
}

/** The prompt of a study: a conversation to render, or ids. */
export type StudyPrompt = { messages: Message[] } | RawPrompt;

export interface ForwardRequest {
  prompt: StudyPrompt;
  logits: "all" | "last";
  hidden: boolean;
  scores: boolean;
  images: boolean;
  cuts: ResolvedCut[];
  imageAspectRatio: ImageAspectRatio;
  signal: AbortSignal | undefined;
}

/** Beyond `RequestFacts`, what raw input must match. */
export interface StudyFacts extends RequestFacts {
  /** Side of the square that the model sees, pixels. */
  imageSize: number;
}

const forwardNames = [
  "logits", "hidden", "scores", "images", "pruning", "imageAspectRatio", "signal",
] as const satisfies readonly (keyof ForwardOptions)[];

/** @throws HimapError ERR_INVALID_ARG with every fault */
export function checkForward(input: unknown, options: unknown, facts: StudyFacts): ForwardRequest {
  const faults = new Faults();
  let prompt: StudyPrompt | undefined;
  let images = 0;
  let hasText = true;
  if (typeof input === "string" || Array.isArray(input)) {
    const conversation = checkMessages(input, facts, faults);
    prompt = conversation && { messages: conversation.messages };
    images = conversation?.images ?? 0;
  } else {
    const read = readInput(input, facts, faults);
    prompt = read;
    images = read?.ids.filter((id) => id === kImageMark).length ?? 0;
    hasText = read?.ids.length !== images;
  }
  const given = faults.properties(options === undefined ? {} : options, "options", forwardNames) ?? {};
  const flag = (name: "hidden" | "scores" | "images"): boolean => given[name] !== undefined && faults.boolean(given[name], name) === true;
  const policy = checkPruning(given.pruning ?? facts.pruning, "pruning", facts.layers, faults);
  const cuts = policy && prompt ? resolveCuts(policy.cuts, "pruning", images * facts.imageTokens, faults) : [];
  if (!hasText && cuts.at(-1)?.keep === 0) faults.add("cuts that leave a row, where the prompt is images alone,", "pruning", given.pruning);
  const request = {
    logits: given.logits === undefined ? "last" : (faults.oneOf(given.logits, "logits", ["all", "last"]) ?? "last"),
    hidden: flag("hidden"),
    scores: flag("scores"),
    images: flag("images"),
    cuts,
    imageAspectRatio: readAspect(given.imageAspectRatio, facts, faults),
    signal: given.signal === undefined ? undefined : faults.signal(given.signal, "signal"),
  } as const;
  faults.raise("forward");
  return { ...request, prompt: prompt! };
}

/** Whether a value is the id of a token. */
function isId(value: unknown, vocabulary: number): boolean {
  return Number.isSafeInteger(value) && (value as number) >= 0 && (value as number) < vocabulary;
}

function readInput(value: unknown, facts: StudyFacts, faults: Faults): RawPrompt | undefined {
  const input = faults.properties(value, "input", ["ids", "pixels", "features"]);
  if (!input) return undefined;
  const before = faults.count;
  const ids = faults.elements(input.ids, "ids", limits.characters) ?? [];
  if (ids.length === 0 && faults.count === before) faults.add("at least one id", "ids", input.ids);
  const bad = ids.findIndex((id) => id !== kImageMark && !isId(id, facts.vocabulary));
  if (bad >= 0) faults.add(`a token id from 0 to ${facts.vocabulary - 1}, or ${kImageMark} for an image,`, `ids[${bad}]`, ids[bad]);

  const images = ids.filter((id) => id === kImageMark).length;
  if (images > limits.images) faults.add(`at most ${limits.images} images`, "ids", images);
  if (input.pixels !== undefined && input.features !== undefined) faults.add("either pixels or features", "input", value);
  const pixels = readPlanes(input.pixels, "pixels", 3 * facts.imageSize ** 2, faults);
  const features = readPlanes(input.features, "features", facts.imageTokens * facts.hidden, faults);
  const given = pixels?.length ?? features?.length ?? 0;
  if (faults.count === before && given !== images) {
    faults.add(`pixels or features for each of the ${images} images among the ids`, "input", given);
  }
  if (faults.count > before) return undefined;
  return { ids: Int32Array.from(ids as number[]), ...(pixels && { pixels }), ...(features && { features }) };
}

function readPlanes(value: unknown, where: string, length: number, faults: Faults): Float32Array[] | undefined {
  if (value === undefined) return undefined;
  const list = faults.elements(value, where, limits.images);
  list?.forEach((plane, i) => faults.floats(plane, `${where}[${i}]`, length));
  return list as Float32Array[] | undefined;
}

export interface EncodeRequest {
  image: ImageInput;
  imageAspectRatio: ImageAspectRatio;
  autoOrient: boolean;
  signal: AbortSignal | undefined;
}

/** @throws HimapError ERR_INVALID_ARG with every fault */
export function checkEncode(image: unknown, options: unknown, facts: RequestFacts): EncodeRequest {
  const faults = new Faults();
  const input = checkImage(image, "image", facts, faults);
  const given = faults.properties(options === undefined ? {} : options, "options", ["imageAspectRatio", "autoOrient", "signal"]) ?? {};
  const request = {
    imageAspectRatio: readAspect(given.imageAspectRatio, facts, faults),
    autoOrient: given.autoOrient !== undefined && faults.boolean(given.autoOrient, "autoOrient") === true,
    signal: given.signal === undefined ? undefined : faults.signal(given.signal, "signal"),
  };
  faults.raise("encodeImage");
  return { ...request, image: input! };
}

export interface PlanRequest {
  images: number;
  promptTokens: number;
  maxTokens: number;
  n: number;
  cuts: ResolvedCut[];
  cache: CacheMode;
}

/** @throws HimapError ERR_INVALID_ARG with every fault */
export function checkPlan(job: unknown, facts: RequestFacts): PlanRequest {
  const faults = new Faults();
  const given = faults.properties(job === undefined ? {} : job, "job", ["images", "promptTokens", "maxTokens", "n", "pruning"]) ?? {};
  const count = (name: keyof typeof planDefaults, min: number, max: number): number =>
    given[name] === undefined ? planDefaults[name] : (faults.number(given[name], name, { min, max, integer: true }) ?? min);
  const images = count("images", 0, limits.images);
  // Far beyond any model, and small enough for exact arithmetic on squares.
  const promptTokens = count("promptTokens", 1, 2 ** 24);
  const maxTokens = count("maxTokens", 1, 2 ** 24);
  const n = count("n", 1, facts.mostSamples);
  const policy = checkPruning(given.pruning ?? facts.pruning, "pruning", facts.layers, faults);
  const cuts = policy ? resolveCuts(policy.cuts, "pruning", images * facts.imageTokens, faults) : [];
  faults.raise("plan");
  return { images, promptTokens, maxTokens, n, cuts, cache: policy?.cache ?? "frozen" };
}

/** @throws HimapError ERR_INVALID_ARG */
export function checkText(text: unknown): string {
  const faults = new Faults();
  const checked = faults.string(text, "text") ?? "";
  if (checked.length > limits.characters) faults.add(`at most ${limits.characters} characters`, "text", text);
  faults.raise("tokenize");
  return checked;
}

/** @throws HimapError ERR_INVALID_ARG */
export function checkIds(ids: unknown, vocabulary: number): Int32Array {
  const faults = new Faults();
  const list = faults.elements(ids, "ids", limits.characters) ?? [];
  const bad = list.findIndex((id) => !isId(id, vocabulary));
  if (bad >= 0) faults.add(`a token id from 0 to ${vocabulary - 1}`, `ids[${bad}]`, list[bad]);
  faults.raise("detokenize");
  return Int32Array.from(list as number[]);
}
