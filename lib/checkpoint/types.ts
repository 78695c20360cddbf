/** What a checkpoint folder comes down to. All format messiness ends in this folder. */

import type { ImageAspectRatio, TemplateName } from "../types.js";

/** Weight types that the engine computes from. */
export type WeightType = "F32" | "F16" | "BF16";

/** The numbers of a model: everything that native code needs, absent fields already filled. */
export interface ModelConfig {
  hidden: number;
  ffn: number;
  layers: number;
  heads: number;
  kvHeads: number;
  headDim: number;
  vocabulary: number;
  rmsEps: number;
  ropeTheta: number;
  maxPositions: number;
  vision: {
    hidden: number;
    ffn: number;
    /** Layers that are run: the tower up to the one whose output is read. */
    layers: number;
    heads: number;
    /** Side of the input, pixels. */
    imageSize: number;
    patchSize: number;
    eps: number;
    activation: "quick_gelu" | "gelu";
    /** Whether the class row is handed on with the patches. */
    keepClass: boolean;
  };
  /** Rows that one image takes in the prompt. */
  imageTokens: number;
}

/** A tensor by its canonical name and where its bytes lie. */
export interface TensorEntry {
  name: string;
  type: WeightType;
  shape: number[];
  /** Index into `files`. */
  file: number;
  /** Bytes from the start of the file. */
  offset: number;
  bytes: number;
}

export interface Checkpoint {
  folder: string;
  family: "llava";
  config: ModelConfig;
  /** Absolute paths and sizes in bytes. */
  files: { path: string; bytes: number }[];
  /** Exactly the tensors that the engine uses, in the order of the model. A tied head repeats the embedding's range. */
  tensors: TensorEntry[];
  /** The text that native code reads (manifest.ts). */
  manifest: string;
  /** Elements of `tensors`, a shared range counted once. */
  parameters: number;
  /** Ids; the original layout has none for an image. */
  tokens: { bos: number; eos: number; image?: number };
  preprocessing: { imageAspectRatio: ImageAspectRatio; mean: [number, number, number]; std: [number, number, number] };
  template: TemplateName;
  /** What tells this model from others (fingerprint.ts), hexadecimal. */
  fingerprint: string;
}
