/** The parts of a model's numbers that both layouts write with the same field names: decoder, vision tower, control ids. */

import type { ImageAspectRatio } from "../types.js";
import type { Fields } from "./fields.js";
import { describe, type JsonObject } from "./json.js";
import type { ModelConfig } from "./types.js";

/**
 * Ranges: far above every model of this kind, small enough that no product of two leaves 2^53, and none beyond what
 * native/model/manifest.cc takes, so that what is verified can be loaded.
 */
const width = { min: 8, max: 65_536 };
const depth = { min: 1, max: 512 };
const heads = { min: 1, max: 1024 };
const epsilon = { min: 1e-12, max: 0.1 };
const headDimMost = 1024;
/** Angles of the rotary tables: positions times a head's width. */
const anglesMost = 2 ** 27;
/** Patches along a side: with the class row they are at most 2^20 rows. */
const gridMost = 1023;

/** Two layouts: that of the Hugging Face library, and that of LLaVA's own code. */
export type Layout = "huggingface" | "original";

export interface ConfigFacts {
  layout: Layout;
  model: ModelConfig;
  /** Layers that a complete vision tower has; `model.vision.layers` of them are run. */
  towerLayers: number;
  /** Whether the head shares the embedding's tensor. */
  tiedHead: boolean;
  /** Ids. The original layout has no token for an image. */
  tokens: { bos: number; eos: number; image?: number };
  /** What config.json says of pictures; only the original layout does. */
  imageAspectRatio?: ImageAspectRatio;
}

/** Refuses weights that are packed in some other way. */
export function checkQuantisation(config: Fields): void {
  const quantisation = config.value("quantization_config");
  if (quantisation === undefined) return;
  const method = quantisation instanceof Map ? quantisation.get("quant_method") : undefined;
  config.fail("ERR_UNSUPPORTED_MODEL", "weights in F16, BF16 or F32", "quantization_config", describe(method ?? quantisation));
}

/** The rotary base; scaled variants are other models. */
function ropeTheta(text: Fields): number {
  for (const key of ["rope_scaling", "rope_parameters"]) {
    const rope = text.section(key);
    for (const kind of ["rope_type", "type"]) rope?.word(kind, ["default"], "default");
    if (rope !== undefined) rope.number("partial_rotary_factor", { min: 1, max: 1, default: 1 });
  }
  const range = { min: 1, max: 1e12, default: 10_000 };
  const nested = text.section("rope_parameters");
  return nested?.has("rope_theta") ? nested.number("rope_theta", range) : text.number("rope_theta", range);
}

/** A head's width, which the engine takes in steps of 8. */
function checkHeadDim(value: number, section: Fields, key: string): number {
  if (value % 8 !== 0 || value > headDimMost) {
    section.fail("ERR_UNSUPPORTED_MODEL", `a head width that is a multiple of 8, at most ${headDimMost},`, key, String(value));
  }
  return value;
}

/** `width / heads`, where the config gives no head width of its own. */
function splitHeads(total: number, count: number, section: Fields): number {
  if (total % count !== 0) {
    section.fail("ERR_BAD_CHECKPOINT", `a divisor of hidden_size, ${total},`, "num_attention_heads", String(count));
  }
  return checkHeadDim(total / count, section, "hidden_size / num_attention_heads");
}

/** A LLaMA decoder. */
export function readDecoder(text: Fields): Omit<ModelConfig, "vision" | "imageTokens"> {
  text.word("hidden_act", ["silu"], "silu");
  for (const key of ["attention_bias", "mlp_bias"]) text.require(key, false);
  checkQuantisation(text);

  const hidden = text.integer("hidden_size", { ...width, default: 4096 });
  const queryHeads = text.integer("num_attention_heads", { ...heads, default: 32 });
  const kvHeads = text.integer("num_key_value_heads", { ...heads, default: queryHeads });
  if (queryHeads % kvHeads !== 0) {
    text.fail("ERR_BAD_CHECKPOINT", `a divisor of num_attention_heads, ${queryHeads},`, "num_key_value_heads", String(kvHeads));
  }
  const headDim = text.has("head_dim")
    ? checkHeadDim(text.integer("head_dim", { min: 1, max: headDimMost }), text, "head_dim")
    : splitHeads(hidden, queryHeads, text);
  return {
    hidden,
    ffn: text.integer("intermediate_size", { min: 1, max: 1 << 20, default: 11_008 }),
    layers: text.integer("num_hidden_layers", { ...depth, default: 32 }),
    heads: queryHeads,
    kvHeads,
    headDim,
    vocabulary: text.integer("vocab_size", { min: 1, max: 1 << 20, default: 32_000 }),
    rmsEps: text.number("rms_norm_eps", { ...epsilon, default: 1e-6 }),
    ropeTheta: ropeTheta(text),
    maxPositions: text.integer("max_position_embeddings", {
      min: 1, max: Math.min(2 ** 20, Math.floor(anglesMost / headDim)), default: 2048,
    }),
  };
}

/** What a published config leaves out where the tower is CLIP ViT-L/14 at 336 pixels. */
export const largeTower: JsonObject = new Map<string, number>([
  ["hidden_size", 1024], ["intermediate_size", 4096], ["num_hidden_layers", 24], ["num_attention_heads", 16],
  ["image_size", 336], ["patch_size", 14],
]);

/** What of the tower is handed on. */
export interface TowerOutput {
  /** The object, and its field, that names the layer. */
  fields: Fields;
  layerKey: string;
  /** Whether the class row is handed on with the patches. */
  keepClass: boolean;
}

/** A CLIP vision tower; `stored` counts its layers, `layers` those that are run. */
export function readTower(
  vision: Fields,
  { fields, layerKey, keepClass }: TowerOutput,
): ModelConfig["vision"] & { stored: number } {
  vision.word("model_type", ["clip_vision_model"], "clip_vision_model");
  vision.integer("num_channels", { min: 3, max: 3, default: 3 });
  const hidden = vision.integer("hidden_size", width);
  const headCount = vision.integer("num_attention_heads", heads);
  splitHeads(hidden, headCount, vision);
  const imageSize = vision.integer("image_size", { min: 1, max: 4096 });
  const patchSize = vision.integer("patch_size", { min: 1, max: 256 });
  if (imageSize % patchSize !== 0) {
    vision.fail("ERR_UNSUPPORTED_MODEL", `a multiple of patch_size, ${patchSize},`, "image_size", String(imageSize));
  }
  const grid = imageSize / patchSize;
  if (grid > gridMost) vision.fail("ERR_UNSUPPORTED_MODEL", `at most ${gridMost}`, "image_size / patch_size", String(grid));
  const stored = vision.integer("num_hidden_layers", depth);
  // Entry 0 of the tower's hidden states is its input; from the end, -1 is the last layer's output.
  if (Array.isArray(fields.value(layerKey))) fields.fail("ERR_UNSUPPORTED_MODEL", "one layer", layerKey);
  const layer = fields.integer(layerKey, { min: -stored, max: stored, default: -2 });
  if (layer === 0) fields.fail("ERR_UNSUPPORTED_MODEL", "the output of a layer", layerKey, "0, the tower's input");
  return {
    stored,
    hidden,
    ffn: vision.integer("intermediate_size", { min: 1, max: 1 << 20 }),
    layers: layer < 0 ? stored + 1 + layer : layer,
    heads: headCount,
    imageSize,
    patchSize,
    eps: vision.number("layer_norm_eps", { ...epsilon, default: 1e-5 }),
    activation: vision.word("hidden_act", ["quick_gelu", "gelu"], "quick_gelu"),
    keepClass,
  };
}

/** Control ids: `generation_config.json` is what the library's `generate` goes by, then the decoder's own config. */
export function readControls(text: Fields, generation: Fields | undefined, vocabulary: number): { bos: number; eos: number } {
  const control = (key: string, absent: number): number => {
    const source = generation?.has(key) ? generation : text;
    if (Array.isArray(source.value(key))) source.fail("ERR_UNSUPPORTED_MODEL", "one id", key);
    return source.integer(key, { min: 0, max: vocabulary - 1, default: absent });
  };
  return { bos: control("bos_token_id", 1), eos: control("eos_token_id", 2) };
}

/** Tokens that one image takes. */
export function countImageTokens({ imageSize, patchSize, keepClass }: ModelConfig["vision"]): number {
  return (imageSize / patchSize) ** 2 + (keepClass ? 1 : 0);
}
