/**
 * config.json -> the numbers of a model. A published config holds only what differs from its library's defaults, so each
 * absent field is given the default that it means; each number has a range; what the engine does not run is refused by
 * name. The tensors' shapes are compared with the outcome afterwards (tensors.ts).
 */

import {
  checkQuantisation, countImageTokens, largeTower, readControls, readDecoder, readTower, type ConfigFacts,
} from "./config-parts.js";
import { Fields } from "./fields.js";
import type { JsonObject } from "./json.js";
import { isOriginal, readOriginal } from "./original.js";

export type { ConfigFacts, Layout } from "./config-parts.js";

const file = "config.json";

/** Ids of an image's place: one of two names, or the default. */
function readImageToken(config: Fields, vocabulary: number): number {
  const range = { min: 0, max: vocabulary - 1 };
  const [index, id] = ["image_token_index", "image_token_id"].map((key) => (config.has(key) ? config.integer(key, range) : undefined));
  if (index !== undefined && id !== undefined && index !== id) {
    config.fail("ERR_BAD_CHECKPOINT", `image_token_index, ${index},`, "image_token_id");
  }
  return index ?? id ?? config.integer("image_token_index", { ...range, default: 32_000 });
}

/** The Hugging Face layout: a config for the decoder and one for the tower inside that of the whole. */
function readHuggingFace(top: Fields, generation: Fields | undefined): ConfigFacts {
  if (top.value("model_type") !== "llava") top.fail("ERR_UNSUPPORTED_MODEL", '"llava"', "model_type");
  checkQuantisation(top);
  top.word("projector_hidden_act", ["gelu"], "gelu");
  top.require("multimodal_projector_bias", true);
  const text = top.section("text_config") ?? new Fields(new Map(), file, "text_config");
  text.word("model_type", ["llama"], "llama");
  const decoder = readDecoder(text);
  // Inside a vision_config that is there, the same fields must be given.
  const tower = top.section("vision_config") ?? new Fields(largeTower, file, "vision_config");
  const { stored, ...vision } = readTower(tower, {
    fields: top,
    layerKey: "vision_feature_layer",
    keepClass: top.word("vision_feature_select_strategy", ["default", "full"], "default") === "full",
  });
  const tieOwner = top.has("tie_word_embeddings") ? top : text;
  return {
    layout: "huggingface",
    model: { ...decoder, vision, imageTokens: countImageTokens(vision) },
    towerLayers: stored,
    tiedHead: tieOwner.boolean("tie_word_embeddings", false),
    tokens: { ...readControls(text, generation, decoder.vocabulary), image: readImageToken(top, decoder.vocabulary) },
  };
}

/**
 * Reads a model's numbers.
 * @param config The object of config.json.
 * @param generation The object of generation_config.json, of which only `bos_token_id` and `eos_token_id` are taken:
 * sampling settings of a checkpoint are never inherited.
 * @param tower The object of the vision tower's own config, which the original layout keeps apart.
 * @throws HimapError ERR_UNSUPPORTED_MODEL for a model that is not run, ERR_BAD_CHECKPOINT for a number that is none or out
 * of range.
 */
export function readConfig(config: JsonObject, generation: JsonObject | undefined, tower?: JsonObject): ConfigFacts {
  const top = new Fields(config, file);
  const controls = generation && new Fields(generation, "generation_config.json");
  return isOriginal(config) ? readOriginal(top, controls, tower) : readHuggingFace(top, controls);
}
