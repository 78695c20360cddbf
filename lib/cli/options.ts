/** Options that every command which answers has: about the model, and about the answers. */

import { generateDefaults, loadDefaults } from "../defaults.js";
import type { GenerateOptions, LoadOptions } from "../types.js";
import type { Arguments, OptionRules } from "./command.js";
import { pruningHelp, readPruning } from "./pruning.js";

/** Of `load`. */
export const loadRules = {
  imageAspectRatio: { kind: "text", value: "HOW", help: "pad or crop to a square (default: what the checkpoint says)" },
  template: { kind: "text", value: "NAME", help: "auto (default), vicuna_v1, llava_v1 or hf" },
  device: { kind: "text", value: "NAME", help: "auto (default), cpu or cuda" },
  threads: { kind: "number", value: "N", help: "threads that compute (default: one per processor that it may keep busy)" },
  kvType: { kind: "text", value: "TYPE", help: "storage type of the KV cache: auto (default), f32, f16 or bf16" },
  weights: { kind: "text", value: "HOW", help: "map (default) uses the files in place, copy reads them into memory" },
} as const satisfies OptionRules;

/** Of `load` too, where many requests run together. */
export const roomRules = {
  kvBytes: { kind: "number", value: "BYTES", help: "of the KV pool (default: a share of the free memory)" },
  embeddingBytes: {
    kind: "number", value: "BYTES",
    help: `of pictures that are remembered, should they be asked about again (default ${loadDefaults.embeddingBytes}); 0 remembers none`,
  },
  maxBatch: { kind: "number", value: "N", help: `answers that run together at most (default ${loadDefaults.maxBatch})` },
} as const satisfies OptionRules;

/** Of `generate`, under its own names. */
const generateRules = {
  maxTokens: { kind: "number", value: "N", help: "tokens answered at most (default 512)" },
  minTokens: { kind: "number", value: "N", help: "no end before so many tokens (default 0)" },
  temperature: { kind: "number", value: "T", help: "0 (default) is greedy" },
  topP: { kind: "number", value: "P", help: "sample from the likeliest tokens of this probability together (default 1)" },
  topK: { kind: "number", value: "N", help: "sample from this many (default 0: no limit)" },
  minP: { kind: "number", value: "P", help: "drop tokens below this share of the likeliest one's probability (default 0)" },
  seed: { kind: "number", value: "N", help: "of the sampler (default 0)" },
  repetitionPenalty: { kind: "number", value: "F", help: "default 1" },
  presencePenalty: { kind: "number", value: "F", help: "default 0" },
  frequencyPenalty: { kind: "number", value: "F", help: "default 0" },
  stop: { kind: "texts", value: "TEXT", help: "ends the answer and is not part of it; may be given several times" },
  timeoutMs: { kind: "number", value: "MS", help: `fail after so many milliseconds (default ${generateDefaults.timeoutMs})` },
  autoOrient: { kind: "flag", help: "turn the picture as its EXIF orientation says" },
} as const satisfies OptionRules;

export const answerRules = {
  pruning: { kind: "text", value: "POLICY", help: `${pruningHelp} (default none)` },
  cache: {
    kind: "text", value: "MODE",
    help: "frozen (default) decides once what to keep; redecide anew for each token, at the cost of a whole prefill each",
  },
  ...generateRules,
  system: { kind: "text", value: "TEXT", help: "system message" },
} as const satisfies OptionRules;

type Given<O extends OptionRules> = Arguments<O>["options"];

const pick = (given: Record<string, unknown>, rules: OptionRules): object =>
  Object.fromEntries(Object.keys(rules).filter((name) => given[name] !== undefined).map((name) => [name, given[name]]));

/** What was typed, as it is: the library checks every value and says what came. */
export function loadOptionsOf(given: Given<typeof loadRules> & Given<typeof roomRules>): LoadOptions {
  const { kvBytes, embeddingBytes, ...options } = pick(given, { ...loadRules, ...roomRules }) as LoadOptions & NonNullable<LoadOptions["memory"]>;
  const memory = { ...(kvBytes !== undefined && { kvBytes }), ...(embeddingBytes !== undefined && { embeddingBytes }) };
  return { ...options, memory };
}

/** As `loadOptionsOf`; a policy in JSON is read. */
export function generateOptionsOf(given: Given<typeof answerRules>): GenerateOptions {
  const { pruning, cache } = given;
  const policy = pruning === undefined && cache === undefined ? undefined : readPruning(pruning ?? "none", "--pruning", cache);
  return { ...(pick(given, generateRules) as GenerateOptions), ...(policy !== undefined && { pruning: policy }) };
}
