/** What a checkpoint is, and what a prompt needs in memory and operations, with and without pruning. Of the weights only the fingerprint's 4 KiB a tensor are read. */

import path from "node:path";

import { loadNative } from "../lib/binding/load.js";
import type { NativeModule } from "../lib/binding/native.js";
import { Faults } from "../lib/check.js";
import { openCheckpoint, type Checkpoint, type ModelConfig } from "../lib/checkpoint/index.js";
import { limits, planDefaults } from "../lib/defaults.js";
import { pagesOf } from "../lib/model.js";
import { countFlops } from "../lib/pruning/flops.js";
import { presets } from "../lib/pruning/presets.cjs";
import { resolvePruning } from "../lib/pruning/resolve.js";
import { bytesText, countText, flopsText, percentText, table } from "../lib/text.js";
import type { Flops, ImageAspectRatio, Preset, TemplateName } from "../lib/types.js";

export interface InspectOptions {
  /** Images of the prompt that is costed. Default 1. */
  images?: number;
  /** Text tokens of that prompt. Default 64. */
  promptTokens?: number;
  /** Tokens answered. Default 512. */
  maxTokens?: number;
  /** Storage type of the KV cache. Default `f32`, as on a CPU. */
  kvType?: "f32" | "f16" | "bf16";
  signal?: AbortSignal;
  /** Default: the package's own binary. */
  native?: NativeModule;
}

/** What one prompt needs under a preset. */
export interface PolicyCost {
  preset: Preset;
  /** Image tokens that each stage holds. */
  imageTokensPerStage: number[];
  /** Bytes of the KV pages that are set aside for the prompt and its answer. */
  kvBytes: number;
  /**
   * Memory that the process will have touched beside the mapped files, in bytes: converted vectors and tables, workspace,
   * and the tokens written to KV pages, whose rest the system does not commit.
   */
  anonymousBytes: number;
  /** Operations up to the first token, vision tower included, and the paper's count of image tokens alone. */
  flops: Flops;
}

export interface Inspection {
  folder: string;
  family: string;
  fingerprint: string;
  template: TemplateName;
  imageAspectRatio: ImageAspectRatio;
  config: ModelConfig;
  /** Of the tensors that are used. */
  parameters: number;
  files: { name: string; bytes: number }[];
  /** Of the tensors that are used. */
  weights: { type: string; tensors: number; bytes: number }[];
  prompt: {
    images: number;
    /** Text tokens, image tokens, and both. */
    textTokens: number;
    imageTokens: number;
    length: number;
    /** Tokens answered: what was asked for, or what the model's positions leave. */
    newTokens: number;
    /** Whether prompt and answer fit the model's positions. */
    fits: boolean;
  };
  memory: {
    /** Bytes of files mapped read-only, shared between processes. */
    mappedBytes: number;
    /** Small tensors converted to float32, and the table of rotations. */
    vectorBytes: number;
    /** Activations of the costed prompt's prefill. */
    workspaceBytes: number;
    kvType: "f32" | "f16" | "bf16";
    /** KV bytes that one token takes in all layers together. */
    kvBytesPerToken: number;
  };
  /** Every preset that the model is deep enough for, `none` first. */
  policies: PolicyCost[];
}

/** Options with their defaults. All faults in one error. */
function readOptions(options: InspectOptions): Required<Pick<InspectOptions, "images" | "promptTokens" | "maxTokens" | "kvType">> {
  const faults = new Faults();
  const count = (value: number | undefined, name: string, absent: number, max: number): number =>
    value === undefined ? absent : (faults.number(value, name, { min: 0, max, integer: true }) ?? absent);
  const read = {
    images: count(options.images, "images", planDefaults.images, limits.images),
    promptTokens: count(options.promptTokens, "promptTokens", planDefaults.promptTokens, 1 << 20),
    maxTokens: count(options.maxTokens, "maxTokens", planDefaults.maxTokens, 1 << 20),
    kvType: options.kvType === undefined ? "f32" : (faults.oneOf(options.kvType, "kvType", ["f32", "f16", "bf16"]) ?? "f32"),
  };
  faults.raise("inspect");
  return read;
}

function weightsOf({ tensors }: Checkpoint): Inspection["weights"] {
  const types = [...new Set(tensors.map(({ type }) => type))];
  return types.map((type) => {
    const own = tensors.filter((tensor) => tensor.type === type);
    const ranges = new Map(own.map(({ file, offset, bytes }) => [`${file}:${offset}`, bytes]));
    return { type, tensors: own.length, bytes: [...ranges.values()].reduce((sum, bytes) => sum + bytes, 0) };
  });
}

/** Presets whose cuts all lie within the decoder; of a prompt without images only `none`, since there is nothing to cut. */
function presetsFor(layers: number, imageTokens: number): Preset[] {
  return (Object.keys(presets) as Preset[]).filter(
    (preset) => preset === "none" || (imageTokens > 0 && presets[preset].cuts(layers, 0).every(({ before }) => before < layers)),
  );
}

/**
 * Opens a folder as `load` would and costs one prompt.
 * @throws HimapError as `openCheckpoint`; ERR_INVALID_ARG with every fault of the options; ERR_NO_BINARY.
 */
export async function inspect(folder: string, options: InspectOptions = {}): Promise<Inspection> {
  const { images, promptTokens, maxTokens, kvType } = readOptions(options);
  const checkpoint = await openCheckpoint(folder, { signal: options.signal });
  const native = options.native ?? loadNative();
  const { config } = checkpoint;
  const imageTokens = images * config.imageTokens;
  const length = promptTokens + imageTokens;
  const newTokens = Math.max(0, Math.min(maxTokens, config.maxPositions - length));
  const pageBytes = native.pageBytes(config.kvHeads, config.headDim, kvType);
  const { vectors, workspace } = native.memoryOf(checkpoint.manifest, length, images);
  const policies = presetsFor(config.layers, imageTokens).map((preset): PolicyCost => {
    const cuts = resolvePruning(preset, { layers: config.layers, imageTokens });
    const counts = cuts.map(({ before, keep }) => ({ before, keep }));
    const stages = native.plan({ layers: config.layers, length, imageTokens, newTokens, cuts: counts });
    // The last token answered is not looked at again, so its keys and values are never written.
    const written = Math.max(0, newTokens - 1);
    const tokenLayers = stages.reduce((sum, { first, end, tokens }) => sum + (end - first) * (tokens + written), 0);
    return {
      preset,
      imageTokensPerStage: stages.map((stage) => stage.imageTokens),
      kvBytes: stages.reduce((sum, stage) => sum + pagesOf(stage), 0) * pageBytes,
      anonymousBytes: vectors + workspace + (tokenLayers * pageBytes) / native.pageTokens,
      flops: countFlops(config, { textTokens: promptTokens, imageTokens, encodedImages: images, cuts: counts }),
    };
  });
  return {
    folder: checkpoint.folder,
    family: checkpoint.family,
    fingerprint: checkpoint.fingerprint,
    template: checkpoint.template,
    imageAspectRatio: checkpoint.preprocessing.imageAspectRatio,
    config,
    parameters: checkpoint.parameters,
    files: checkpoint.files.map(({ path: file, bytes }) => ({ name: path.basename(file), bytes })),
    weights: weightsOf(checkpoint),
    prompt: { images, textTokens: promptTokens, imageTokens, length, newTokens, fits: length + maxTokens <= config.maxPositions },
    memory: {
      mappedBytes: checkpoint.files.reduce((sum, { bytes }) => sum + bytes, 0),
      vectorBytes: vectors,
      workspaceBytes: workspace,
      kvType,
      kvBytesPerToken: (pageBytes / native.pageTokens) * config.layers,
    },
    policies,
  };
}

/** An inspection as a page for a terminal, without the final line end. */
export function formatInspection(report: Inspection): string {
  const { config, files, weights, prompt, memory, policies } = report;
  const { vision } = config;
  const keyHeads = config.kvHeads === config.heads ? "" : `, ${config.kvHeads} of keys and values`;
  const facts: [string, string][] = [
    ["model", `${report.family}, ${countText(report.parameters)} parameters`],
    ["decoder", `${config.layers} layers of ${config.hidden}, ${config.heads} heads of ${config.headDim}${keyHeads}, FFN ${config.ffn}`],
    ["positions", `${config.maxPositions}, rotary base ${config.ropeTheta}, vocabulary ${config.vocabulary}`],
    ["vision", `${vision.layers} layers of ${vision.hidden}, ${vision.heads} heads, FFN ${vision.ffn}, ${vision.activation}`],
    ["image", `${vision.imageSize} x ${vision.imageSize} pixels in patches of ${vision.patchSize}: ${config.imageTokens} tokens`],
    ["prepared by", `${report.imageAspectRatio} to a square; prompt template ${report.template}`],
    ["weights", weights.map(({ type, tensors, bytes }) => `${tensors} tensors of ${type}, ${bytesText(bytes)}`).join("; ")],
    ["files", files.length === 1 ? files[0]!.name : `${files.length}, ${files[0]!.name} to ${files.at(-1)!.name}`],
    ["fingerprint", report.fingerprint],
  ];
  const answer = `${prompt.textTokens} text and ${prompt.imageTokens} image tokens, ${prompt.newTokens} answered`;
  const needs: [string, string][] = [
    ["mapped", `${bytesText(memory.mappedBytes)} (${memory.mappedBytes} bytes), read-only, shared between processes`],
    ["vectors", `${bytesText(memory.vectorBytes)}, converted, with the table of rotations`],
    ["workspace", bytesText(memory.workspaceBytes)],
    ["KV", `${bytesText(memory.kvBytesPerToken)} per token in ${memory.kvType}`],
  ];
  const lines = (rows: [string, string][]): string[] => rows.map(([name, value]) => `  ${name.padEnd(11)}   ${value}`);
  return [
    report.folder,
    ...lines(facts),
    "",
    `Memory for one prompt (${answer})${prompt.fits ? "" : `: longer than the model's ${config.maxPositions} positions`}`,
    ...lines(needs),
    "",
    ...table([
      ["pruning", "image tokens per stage", "KV", "beside the weights", "in all", "up to the first token"],
      ...policies.map(({ preset, imageTokensPerStage, kvBytes, anonymousBytes, flops }) => [
        preset, imageTokensPerStage.join(" > "), bytesText(kvBytes), bytesText(anonymousBytes), bytesText(memory.mappedBytes + anonymousBytes),
        `${flopsText(flops.prefill)}, ${percentText(flops.prefill / flops.prefillUnpruned).padStart(5)}`,
      ]),
    ]),
  ].join("\n");
}
