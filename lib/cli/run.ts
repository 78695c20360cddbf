/** `himap run`: one question about one picture. */

import { limits } from "../defaults.js";
import { phrase } from "../check.js";
import { HimapError } from "../errors.cjs";
import { renderHeatmap } from "../image/heatmap.js";
import { load } from "../load.js";
import { printable } from "../text.js";
import type { Engine, GenerateOptions, ImageInput, LoadOptions, Message, Result } from "../types.js";
import { defineCommand, UsageError, type Arguments, type Terminal } from "./command.js";
import { jsonText, statisticsText, writeOutput } from "./output.js";
import { progressBar } from "./progress.js";
import { pruningHelp, readPruning } from "./pruning.js";

const options = {
  pruning: { kind: "text", value: "POLICY", help: `${pruningHelp} (default none)` },
  cache: {
    kind: "text", value: "MODE",
    help: "frozen (default) decides once what to keep; redecide anew for each token, at the cost of a whole prefill each",
  },
  json: { kind: "flag", help: "the whole result as one JSON object on standard output, and nothing else" },
  heatmap: { kind: "text", value: "FILE", help: "write a PNG of what each cut kept and how it scored the patches" },
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
  logprobs: { kind: "number", value: "N", help: "with --json: this many alternatives of each token" },
  system: { kind: "text", value: "TEXT", help: "system message" },
  timeoutMs: { kind: "number", value: "MS", help: "fail after so many milliseconds" },
  imageAspectRatio: { kind: "text", value: "HOW", help: "pad or crop to a square (default: what the checkpoint says)" },
  autoOrient: { kind: "flag", help: "turn the picture as its EXIF orientation says" },
  template: { kind: "text", value: "NAME", help: "auto (default), vicuna_v1, llava_v1 or hf" },
  device: { kind: "text", value: "NAME", help: "auto (default), cpu or cuda" },
  threads: { kind: "number", value: "N", help: "worker threads (default: one per processor)" },
  kvType: { kind: "text", value: "TYPE", help: "storage type of the KV cache: auto (default), f32, f16 or bf16" },
  weights: { kind: "text", value: "HOW", help: "map (default) uses the files in place, copy reads them into memory" },
} as const;

const loadNames = ["imageAspectRatio", "template", "device", "threads", "kvType", "weights"] as const;
const generateNames = [
  "maxTokens", "minTokens", "temperature", "topP", "topK", "minP", "seed", "repetitionPenalty", "presencePenalty",
  "frequencyPenalty", "stop", "logprobs", "timeoutMs", "autoOrient",
] as const;

type Given = Arguments<typeof options>["options"];

const pick = (given: Given, names: readonly (keyof Given)[]): Given =>
  Object.fromEntries(names.filter((name) => given[name] !== undefined).map((name) => [name, given[name]]));

export const run = defineCommand({
  name: "run",
  summary: "answer a prompt about a picture; the answer streams to standard output, figures go to standard error",
  operands: {
    MODEL: "a checkpoint's folder",
    IMAGE: "a JPEG, PNG or WebP file, - for standard input, or none",
    PROMPT: "what to ask",
  },
  options,
  notes: ['For example: himap run ./llava-1.5-7b-hf photo.jpg "What is this?" --pruning himap --heatmap kept.png'],
  async run({ operands: [folder, source, prompt], options: given }, terminal) {
    if (given.heatmap !== undefined && source === "none") throw new UsageError(phrase("a picture for IMAGE", "--heatmap", source));
    const pruning = given.pruning === undefined && given.cache === undefined ? undefined : readPruning(given.pruning ?? "none", "--pruning", given.cache);
    const image = source === "none" ? undefined : source === "-" ? await readInput(terminal.signal) : { path: source! };

    const bar = progressBar(terminal, "opening");
    // The library checks every value and says what came, so what was typed is handed on as it is.
    const loading = { ...pick(given, loadNames), signal: terminal.signal, onProgress: bar.update } as LoadOptions;
    const engine = await load(folder!, loading).finally(() => bar.end());
    try {
      const result = await answer(engine, messagesOf(prompt!, image, given.system), {
        ...(pick(given, generateNames) as GenerateOptions),
        ...(pruning !== undefined && { pruning }),
        scores: given.heatmap !== undefined,
        signal: terminal.signal,
      }, given.json ? undefined : terminal);
      if (given.heatmap !== undefined) {
        const { autoOrient = false } = given;
        await writeOutput(given.heatmap, await renderHeatmap(image!, result, { autoOrient, signal: terminal.signal }), "--heatmap");
      }
      if (given.json) await terminal.write(jsonText(result));
      else terminal.note(statisticsText(result, engine.info.layers));
    } finally {
      await engine.dispose();
    }
  },
});

function messagesOf(prompt: string, image: ImageInput | undefined, system: string | undefined): Message[] {
  const content: Message["content"] = image ? [{ type: "image", image }, { type: "text", text: prompt }] : prompt;
  const question: Message = { role: "user", content };
  return system === undefined ? [question] : [{ role: "system", content: system }, question];
}

/** Answers, and writes the pieces as they come where there is a terminal to write to. */
async function answer(engine: Engine, messages: Message[], options: GenerateOptions, terminal: Terminal | undefined): Promise<Result> {
  const generation = engine.generate(messages, options);
  if (!terminal) return generation;
  let written = false;
  try {
    for await (const { text } of generation) {
      written ||= text !== "";
      await terminal.write(terminal.isTerminal.output ? printable(text) : text);
    }
    await terminal.write("\n");
    return await generation;
  } catch (cause) {
    // The message that follows starts a line of its own.
    if (written && terminal.isTerminal.output) terminal.note("\n");
    throw cause;
  }
}

/** Standard input to its end. Kept in memory: the picture is read again for `--heatmap`. */
async function readInput(signal: AbortSignal): Promise<Uint8Array> {
  const { stdin } = process;
  const stop = (): void => void stdin.destroy(signal.reason instanceof Error ? signal.reason : new Error("stopped"));
  signal.addEventListener("abort", stop, { once: true });
  const chunks: Buffer[] = [];
  let length = 0;
  try {
    for await (const chunk of stdin as AsyncIterable<Buffer>) {
      length += chunk.length;
      if (length > limits.encodedImageBytes) {
        throw new HimapError("ERR_TOO_LARGE", phrase(`at most ${limits.encodedImageBytes} bytes`, "standard input", length));
      }
      chunks.push(chunk);
    }
  } finally {
    signal.removeEventListener("abort", stop);
  }
  return Buffer.concat(chunks, length);
}
