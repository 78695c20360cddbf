/** What the bench asks: questions about drawn scenes for the small model, prompts of an exact length for the random one. */

import { readFileSync } from "node:fs";
import path from "node:path";

import type { Checkpoint } from "../../lib/checkpoint/types.js";
import { loadSharp } from "../../lib/image/sharp.js";
import { packageRoot } from "../../lib/package.js";
import { renderPrompt } from "../../lib/prompt/index.js";
import { loadTokenizer } from "../../lib/tokenizer/index.js";
import type { Message } from "../../lib/types.js";
import { openScenes } from "../eval/scenes.js";
import type { Question } from "../eval/score.js";
import type { BatchRequest } from "./run.js";

/** Questions of pico-eval, spread over its file, each with its scene as PNG. */
export async function sceneRequests(count: number): Promise<{ requests: BatchRequest[]; questions: Question[] }> {
  const lines = readFileSync(path.join(packageRoot, "bench", "pico-eval", "questions.jsonl"), "utf8").trim().split("\n");
  const questions = Array.from({ length: count }, (_, i) => JSON.parse(lines[Math.floor((i * lines.length) / count)]!) as Question);
  const [sharp, sceneOf] = [await loadSharp(), await openScenes()];
  const requests: BatchRequest[] = [];
  for (const { scene, question } of questions) {
    const { pixels, width, height } = sceneOf(scene);
    requests.push({ text: question, picture: await sharp(pixels, { raw: { width, height, channels: 3 } }).png().toBuffer() });
  }
  return { requests, questions };
}

const words = ["red", "circle", "blue", "square", "left", "of", "the", "green", "star", "above", "a", "cross", "how", "many", "right", "ring"];

export interface SizedPrompt {
  text: string;
  /** Of the whole prompt as the model sees it, without a picture. */
  ids: number[];
}

/** Different prompts of exactly `length` tokens each, image tokens not counted. @param pictured a picture comes with the text */
export async function sizedPrompts(checkpoint: Checkpoint, count: number, length: number, pictured: boolean): Promise<SizedPrompt[]> {
  const tokenizer = await loadTokenizer(checkpoint.folder);
  const { template } = checkpoint;
  const idsOf = (text: string): number[] => {
    const image = { type: "image" as const, image: new Uint8Array() };
    const messages: Message[] = [{ role: "user", content: [...(pictured ? [image] : []), { type: "text", text }] }];
    return [...renderPrompt(messages, { template, tokenizer, imageTokens: 1 }).ids].filter((id) => id >= 0);
  };
  return Array.from({ length: count }, (_, i): SizedPrompt => {
    const chosen: string[] = [];
    for (let tried = 0; tried < 100 * words.length; tried++) {
      const word = words[(tried * (2 * i + 1) + i) % words.length]!;
      const ids = idsOf([...chosen, word].join(" "));
      if (ids.length <= length) chosen.push(word);
      if (ids.length === length) return { text: chosen.join(" "), ids };
    }
    throw new Error(`expected words to add up to ${length} tokens, with the template ${template}, but they do not`);
  });
}
