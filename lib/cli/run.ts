/** `himap run`: one question about one picture. */

import { readPicture } from "../batch/pictures.js";
import { Faults, phrase } from "../check.js";
import { limits } from "../defaults.js";
import { HimapError } from "../errors.cjs";
import { renderHeatmap } from "../image/heatmap.js";
import { load } from "../load.js";
import { conversationOf } from "../prompt/conversation.js";
import { printable } from "../text.js";
import type { Engine, GenerateOptions, ImageInput, Message, Result } from "../types.js";
import { defineCommand, UsageError, type Terminal } from "./command.js";
import { answerRules, generateOptionsOf, loadOptionsOf, loadRules } from "./options.js";
import { checkOutput, jsonText, statisticsText, writeOutput } from "./output.js";
import { progressBar } from "./progress.js";

const options = {
  ...answerRules,
  logprobs: { kind: "number", value: "N", help: "with --json: this many alternatives of each token" },
  json: { kind: "flag", help: "the whole result as one JSON object on standard output, and nothing else" },
  heatmap: { kind: "text", value: "FILE", help: "write a PNG of what each cut kept and how it scored the patches" },
  ...loadRules,
} as const;

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
    const { heatmap, logprobs, json, autoOrient = false } = given;
    const { signal } = terminal;
    if (heatmap !== undefined && source === "none") throw new UsageError([phrase("a picture for IMAGE", "--heatmap", source)]);
    if (logprobs !== undefined && !json) throw new UsageError(["expected --json with --logprobs, for only there do they show"]);
    const answering = generateOptionsOf(given);
    if (heatmap !== undefined) await checkOutput(heatmap, "--heatmap");
    const image = await readImage(source!, signal);

    const bar = progressBar(terminal, "opening");
    const engine = await load(folder!, { ...loadOptionsOf(given), signal, onProgress: bar.update }).finally(() => bar.end());
    try {
      const result = await answer(engine, conversationOf(prompt!, image ? [image] : [], given.system), {
        ...answering,
        ...(logprobs !== undefined && { logprobs }),
        scores: heatmap !== undefined,
        signal,
      }, json ? undefined : terminal);
      // Before the heatmap, so that no failure of it takes the answer along.
      if (json) await terminal.write(jsonText(result));
      else terminal.note(statisticsText(result, engine.info.layers));
      if (heatmap !== undefined) await writeOutput(heatmap, await renderHeatmap(image!, result, { autoOrient, signal }), "--heatmap");
    } finally {
      await engine.dispose();
    }
  },
});

async function readImage(source: string, signal: AbortSignal): Promise<ImageInput | undefined> {
  if (source === "none") return undefined;
  if (source === "-") return readInput(signal);
  const faults = new Faults();
  const picture = readPicture(source, "IMAGE", ".", faults);
  if (!picture) throw new UsageError(faults.list);
  return picture;
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
