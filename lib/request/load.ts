/** Every fault of a `load` call; defaults applied. What depends on the checkpoint is checked once it is open. */

import { fileURLToPath } from "node:url";

import { Faults } from "../check.js";
import { limits, loadDefaults as defaults } from "../defaults.js";
import type { LoadOptions, LoadProgress } from "../types.js";

export interface LoadRequest {
  folder: string;
  device: "auto" | "cpu" | "cuda";
  kvType: "auto" | "f32" | "f16" | "bf16";
  /** 0: one per processor that the process may keep busy. */
  threads: number;
  weights: "map" | "copy";
  imageAspectRatio: LoadOptions["imageAspectRatio"];
  template: NonNullable<LoadOptions["template"]>;
  kvBytes: number | "auto";
  /** 0: no picture is remembered. */
  embeddingBytes: number;
  maxBatch: number;
  maxQueue: number;
  pruning: NonNullable<LoadOptions["pruning"]>;
  maxPixels: number;
  onProgress: ((progress: LoadProgress) => void) | undefined;
  signal: AbortSignal | undefined;
  /** Never throws. */
  logger: NonNullable<LoadOptions["logger"]>;
}

const optionNames = [
  "device", "kvType", "threads", "weights", "imageAspectRatio", "template", "memory", "maxBatch", "maxQueue", "pruning",
  "maxPixels", "onProgress", "signal", "logger",
] as const satisfies readonly (keyof LoadOptions)[];

/** @throws HimapError ERR_INVALID_ARG with every fault */
export function checkLoad(folder: unknown, options: unknown): LoadRequest {
  const faults = new Faults();
  const path = readFolder(folder, faults);
  const given = faults.properties(options === undefined ? {} : options, "options", optionNames) ?? {};
  const choice = <T extends string, D>(name: keyof LoadOptions, choices: readonly T[], otherwise: D): T | D =>
    given[name] === undefined ? otherwise : (faults.oneOf(given[name], name, choices) ?? otherwise);
  const number = (name: "threads" | "maxBatch" | "maxQueue" | "maxPixels", max: number, otherwise: number): number =>
    given[name] === undefined ? otherwise : (faults.number(given[name], name, { min: 1, max, integer: true }) ?? otherwise);
  const aspect = given.imageAspectRatio;
  const logger = given.logger === undefined ? undefined : faults.callback<NonNullable<LoadOptions["logger"]>>(given.logger, "logger");
  const request: LoadRequest = {
    folder: path,
    device: choice("device", ["auto", "cpu", "cuda"], defaults.device),
    kvType: choice("kvType", ["auto", "f32", "f16", "bf16"], defaults.kvType),
    threads: number("threads", limits.threads, 0),
    weights: choice("weights", ["map", "copy"], defaults.weights),
    imageAspectRatio: aspect === undefined ? undefined : faults.oneOf(aspect, "imageAspectRatio", ["pad", "crop"]),
    template: choice("template", ["auto", "vicuna_v1", "llava_v1", "hf"], defaults.template),
    ...readMemory(given.memory === undefined ? {} : given.memory, faults),
    maxBatch: number("maxBatch", limits.batch, defaults.maxBatch),
    maxQueue: number("maxQueue", limits.queue, defaults.maxQueue),
    // Its form depends on the model's depth, so it is checked when the checkpoint is open.
    pruning: (given.pruning as LoadRequest["pruning"] | undefined) ?? defaults.pruning,
    maxPixels: number("maxPixels", 2 ** 32, defaults.maxPixels),
    onProgress: given.onProgress === undefined ? undefined : faults.callback(given.onProgress, "onProgress"),
    signal: given.signal === undefined ? undefined : faults.signal(given.signal, "signal"),
    logger: (level, message) => {
      try {
        logger?.(level, message);
      } catch {
        // A logger that fails must not take a load or a request with it, and there is no one else to tell.
      }
    },
  };
  faults.raise("load");
  return request;
}

/** A path, or the URL of one. */
function readFolder(folder: unknown, faults: Faults): string {
  if (typeof folder === "string" && folder !== "" && !folder.includes("\0")) return folder;
  let received = folder;
  try {
    if (folder instanceof URL) {
      received = folder.href;
      return fileURLToPath(folder);
    }
  } catch {
    // Of no file of this machine, or cannot be read.
  }
  faults.add("the path of a checkpoint folder, or its file: URL,", "folder", received);
  return "";
}

function readMemory(memory: unknown, faults: Faults): Pick<LoadRequest, "kvBytes" | "embeddingBytes"> {
  const given = faults.properties(memory, "memory", ["kvBytes", "embeddingBytes"]) ?? {};
  const bytes = <T>(name: "kvBytes" | "embeddingBytes", min: number, otherwise: T): number | T =>
    given[name] === undefined ? otherwise : (faults.number(given[name], `memory.${name}`, { min, max: 2 ** 48, integer: true }) ?? otherwise);
  return {
    kvBytes: given.kvBytes === "auto" ? "auto" : bytes("kvBytes", 1, "auto" as const),
    embeddingBytes: bytes("embeddingBytes", 0, defaults.embeddingBytes),
  };
}
