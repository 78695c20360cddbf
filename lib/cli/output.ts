/** What commands write: JSON with typed arrays as arrays, files, and the figures of an answer. */

import { constants } from "node:fs";
import { access, stat, writeFile } from "node:fs/promises";
import path from "node:path";

import { phrase } from "../check.js";
import { HimapError } from "../errors.cjs";
import { bytesText, flopsText, millisecondsText, numberText, percentText, plural } from "../text.js";
import type { Result } from "../types.js";

/** One line of JSON. */
export function jsonText(value: unknown): string {
  return `${JSON.stringify(value, (_, part: unknown) => (ArrayBuffer.isView(part) ? Array.from(part as Uint32Array) : part))}\n`;
}

/**
 * Says before the work what `writeOutput` would say behind it. Nothing is opened: a file that is there keeps its bytes, and
 * none appears, until there is something to write.
 * @throws HimapError ERR_INVALID_ARG
 */
export async function checkOutput(file: string, option: string): Promise<void> {
  try {
    const found = await stat(file).catch((cause: NodeJS.ErrnoException) => {
      if (cause.code !== "ENOENT") throw cause;
    });
    if (found?.isDirectory()) throw Object.assign(new Error("a folder"), { code: "EISDIR" });
    await access(found ? file : path.dirname(file), constants.W_OK);
  } catch (cause) {
    throw unwritable(file, option, cause as NodeJS.ErrnoException);
  }
}

/** @throws HimapError ERR_INVALID_ARG where the file cannot be written */
export async function writeOutput(file: string, bytes: Uint8Array, option: string): Promise<void> {
  try {
    await writeFile(file, bytes);
  } catch (cause) {
    throw unwritable(file, option, cause as NodeJS.ErrnoException);
  }
}

function unwritable(file: string, option: string, cause: NodeJS.ErrnoException): HimapError {
  return new HimapError("ERR_INVALID_ARG", `${phrase("a file that can be written", option, file)} (${cause.code})`, { cause });
}

/** Milliseconds from the request to its first token. */
export function firstTokenMs({ timings: { queue, decode, vision, prefill } }: Pick<Result, "timings">): number {
  return queue + decode + vision + prefill;
}

/** Tokens per second behind the first one, or `undefined` where there are none. */
export function tokensPerSecond({ timings, usage }: Pick<Result, "timings" | "usage">): number | undefined {
  return usage.completionTokens > 1 && timings.generate > 0 ? ((usage.completionTokens - 1) / timings.generate) * 1000 : undefined;
}

/** Image tokens in each stage and how deep it is: `144 in 2 layers, 72 in 6, 18 in 8`. */
export function stagesText({ cuts, usage }: Pick<Result, "cuts" | "usage">, layers: number): string {
  const bounds = [0, ...cuts.map(({ before }) => before), layers];
  const stages = bounds.slice(1).map((end, i) => ({ depth: end - bounds[i]!, tokens: i === 0 ? usage.imageTokens : cuts[i - 1]!.kept.length }));
  return stages
    .filter(({ depth }) => depth > 0)
    .map(({ depth, tokens }, i) => `${tokens} in ${i === 0 ? plural(depth, "layer") : depth}`)
    .join(", ");
}

/** Operations up to the first token; of all prefills where every token has one. */
export function prefillText({ flops, usage }: Pick<Result, "flops" | "usage">): string {
  const share = flops.prefill / flops.prefillUnpruned;
  const prefill = usage.prefills > 1 ? `${usage.prefills} prefills, one per token,` : "prefill";
  const what = usage.imageTokens > 0 ? `vision and ${prefill}` : prefill;
  return `${what} ${flopsText(flops.prefill)}${share < 1 ? `, ${percentText(share)} of the unpruned` : ""}`;
}

/** What an answer took, in three lines. */
export function statisticsText(result: Result, layers: number): string {
  const { usage, timings, kvBytes, finishReason } = result;
  const rate = tokensPerSecond(result);
  const parts = (["queue", "decode", "vision", "prefill"] as const).filter((part) => timings[part] >= 0.05);
  const image = usage.imageTokens > 0 ? `, image tokens ${stagesText(result, layers)}` : "";
  const before = parts.map((part) => `${part} ${millisecondsText(timings[part])}`).join(", ");
  const after = rate === undefined ? "" : `, then ${numberText(rate)} tokens/s`;
  return [
    `${plural(usage.promptTokens, "token")} in${image}; ${usage.completionTokens} out (${finishReason})`,
    `first token ${millisecondsText(firstTokenMs(result))} (${before})${after}`,
    `${prefillText(result)}; KV ${bytesText(kvBytes)}`,
    "",
  ].join("\n");
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length / 2;
  return (sorted[Math.ceil(middle) - 1]! + sorted[Math.floor(middle)]!) / 2;
}
