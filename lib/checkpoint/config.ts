/**
 * config.json -> the numbers of a model. A published config holds only what differs from its library's defaults, so each
 * absent field is given the default that it means; each number has a range; what the engine does not run is refused by
 * name. The tensors' shapes are compared with the outcome afterwards (tensors.ts).
 */

import { fault } from "./fault.js";
import { Fields } from "./fields.js";
import { describe, type JsonObject } from "./json.js";
import type { ModelConfig } from "./types.js";

const file = "config.json";

/** What an absent `vision_config` stands for; inside a present one the same fields must be given. */
const towerDefaults: JsonObject = new Map<string, number>([
  ["hidden_size", 1024], ["intermediate_size", 4096], ["num_hidden_layers", 24], ["num_attention_heads", 16],
  ["image_size", 336], ["patch_size", 14],
]);

/** Ranges: far above every model of this kind, and small enough that no product of two leaves 2^53. */
const width = { min: 1, max: 65_536 };
const depth = { min: 1, max: 512 };
const heads = { min: 1, max: 1024 };
const epsilon = { min: 1e-12, max: 0.1 };

export interface ConfigFacts {
  model: ModelConfig;
  /** Layers that a complete vision tower has; `model.vision.layers` of them are run. */
  towerLayers: number;
  /** Whether the head shares the embedding's tensor. */
  tiedHead: boolean;
  tokens: { bos: number; eos: number; image: number };
}

/** Refuses what is no LLaVA in the Hugging Face layout, saying what it is. */
function checkFamily(config: Fields): void {
  if (config.has("mm_vision_tower")) {
    fault("ERR_UNSUPPORTED_FILE", file, "the Hugging Face layout, in safetensors,", "the checkpoint",
      "the original LLaVA layout, whose weights are pickles beside a separate vision tower", {
        hint: "take the converted copy of the same model, such as llava-hf/llava-1.5-7b-hf",
      });
  }
  const kind = config.value("model_type");
  if (kind !== "llava") config.fail("ERR_UNSUPPORTED_MODEL", '"llava"', "model_type");
}

function checkQuantisation(config: Fields): void {
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
  if (value % 8 !== 0) section.fail("ERR_UNSUPPORTED_MODEL", "a head width that is a multiple of 8", key, String(value));
  return value;
}

/** `width / heads`, where the config gives no head width of its own. */
function splitHeads(total: number, count: number, section: Fields): number {
  if (total % count !== 0) {
    section.fail("ERR_BAD_CHECKPOINT", `a divisor of hidden_size, ${total},`, "num_attention_heads", String(count));
  }
  return checkHeadDim(total / count, section, "hidden_size / num_attention_heads");
}

function readText(config: Fields): Omit<ModelConfig, "vision" | "imageTokens"> {
  const text = config.section("text_config") ?? new Fields(new Map(), file, "text_config");
  text.word("model_type", ["llama"], "llama");
  text.word("hidden_act", ["silu"], "silu");
  for (const key of ["attention_bias", "mlp_bias"]) text.require(key, false);
  checkQuantisation(text);

  const hidden = text.integer("hidden_size", { ...width, default: 4096 });
  const queryHeads = text.integer("num_attention_heads", { ...heads, default: 32 });
  const kvHeads = text.integer("num_key_value_heads", { ...heads, default: queryHeads });
  if (queryHeads % kvHeads !== 0) {
    text.fail("ERR_BAD_CHECKPOINT", `a divisor of num_attention_heads, ${queryHeads},`, "num_key_value_heads", String(kvHeads));
  }
  return {
    hidden,
    ffn: text.integer("intermediate_size", { min: 1, max: 1 << 20, default: 11_008 }),
    layers: text.integer("num_hidden_layers", { ...depth, default: 32 }),
    heads: queryHeads,
    kvHeads,
    headDim: text.has("head_dim")
      ? checkHeadDim(text.integer("head_dim", { min: 1, max: 1024 }), text, "head_dim")
      : splitHeads(hidden, queryHeads, text),
    vocabulary: text.integer("vocab_size", { min: 1, max: 1 << 20, default: 32_000 }),
    rmsEps: text.number("rms_norm_eps", { ...epsilon, default: 1e-6 }),
    ropeTheta: ropeTheta(text),
    maxPositions: text.integer("max_position_embeddings", { min: 1, max: 1 << 20, default: 2048 }),
  };
}

function readVision(config: Fields): ModelConfig["vision"] & { stored: number } {
  const vision = config.section("vision_config") ?? new Fields(towerDefaults, file, "vision_config");
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
  const stored = vision.integer("num_hidden_layers", depth);
  // Entry 0 of the tower's hidden states is its input; from the end, -1 is the last layer's output.
  if (Array.isArray(config.value("vision_feature_layer"))) config.fail("ERR_UNSUPPORTED_MODEL", "one layer", "vision_feature_layer");
  const layer = config.integer("vision_feature_layer", { min: -stored, max: stored, default: -2 });
  if (layer === 0) config.fail("ERR_UNSUPPORTED_MODEL", "the output of a layer", "vision_feature_layer", "0, the tower's input");
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
    keepClass: config.word("vision_feature_select_strategy", ["default", "full"], "default") === "full",
  };
}

/** Ids: `generation_config.json` is what the library's `generate` goes by, then the decoder's own config. */
function readTokens(config: Fields, generation: Fields | undefined, vocabulary: number): ConfigFacts["tokens"] {
  const range = { min: 0, max: vocabulary - 1 };
  const text = config.section("text_config") ?? new Fields(new Map(), file, "text_config");
  const control = (key: string, absent: number): number => {
    const source = generation?.has(key) ? generation : text;
    if (Array.isArray(source.value(key))) source.fail("ERR_UNSUPPORTED_MODEL", "one id", key);
    return source.integer(key, { ...range, default: absent });
  };
  const [index, id] = ["image_token_index", "image_token_id"].map((key) => (config.has(key) ? config.integer(key, range) : undefined));
  if (index !== undefined && id !== undefined && index !== id) {
    config.fail("ERR_BAD_CHECKPOINT", `image_token_index, ${index},`, "image_token_id");
  }
  const image = index ?? id ?? config.integer("image_token_index", { ...range, default: 32_000 });
  return { bos: control("bos_token_id", 1), eos: control("eos_token_id", 2), image };
}

/**
 * Reads a model's numbers.
 * @param config The object of config.json.
 * @param generation The object of generation_config.json, of which only `bos_token_id` and `eos_token_id` are taken:
 * sampling settings of a checkpoint are never inherited.
 * @throws HimapError ERR_UNSUPPORTED_MODEL for a model that is not run, ERR_UNSUPPORTED_FILE for the original layout,
 * ERR_BAD_CHECKPOINT for a number that is none or out of range.
 */
export function readConfig(config: JsonObject, generation: JsonObject | undefined): ConfigFacts {
  const top = new Fields(config, file);
  checkFamily(top);
  checkQuantisation(top);
  top.word("projector_hidden_act", ["gelu"], "gelu");
  top.require("multimodal_projector_bias", true);
  const text = readText(top);
  const { stored, ...vision } = readVision(top);
  const grid = vision.imageSize / vision.patchSize;
  const tieOwner = top.has("tie_word_embeddings") ? top : top.section("text_config");
  return {
    model: { ...text, vision, imageTokens: grid * grid + (vision.keepClass ? 1 : 0) },
    towerLayers: stored,
    tiedHead: tieOwner?.boolean("tie_word_embeddings", false) ?? false,
    tokens: readTokens(top, generation && new Fields(generation, "generation_config.json"), text.vocabulary),
  };
}
