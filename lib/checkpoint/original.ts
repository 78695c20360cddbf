/**
 * The layout of LLaVA's own code: the decoder's fields stand at the top of config.json, the vision tower is named there but
 * is a checkpoint of its own. A converted folder holds that checkpoint's config beside the original one, and its weights
 * under the names that LLaVA gives a tower which it saves itself.
 */

import {
  countImageTokens, largeTower, readControls, readDecoder, readTower, type ConfigFacts,
} from "./config-parts.js";
import { Fields } from "./fields.js";
import type { JsonObject } from "./json.js";

/** Where a converted folder keeps the config of its vision tower. */
export const towerConfigFile = "vision_tower_config.json";

/** LLaVA names its tower by a Hub repository or a folder; neither is followed. */
const largeTowerName = /(?:^|\/)clip-vit-large-patch14-336\/?$/;

/** Whether a config is of the original layout. Both layouts write the same `model_type`. */
export function isOriginal(config: JsonObject): boolean {
  return (config.get("mm_vision_tower") ?? undefined) !== undefined;
}

/** The tower's fields: those of a whole CLIP model, of its vision half, or what the tower's name stands for. */
function towerFields(top: Fields, tower: JsonObject | undefined): Fields {
  if (tower === undefined) {
    const name = top.value("mm_vision_tower");
    if (typeof name === "string" && largeTowerName.test(name)) return new Fields(largeTower, "config.json", "mm_vision_tower");
    return top.fail("ERR_BAD_CHECKPOINT", `clip-vit-large-patch14-336, or ${towerConfigFile} beside it,`, "mm_vision_tower");
  }
  const whole = new Fields(tower, towerConfigFile);
  return whole.section("vision_config") ?? whole;
}

/** @param tower The object of the tower's own config.json; undefined where the folder does not have it. */
export function readOriginal(top: Fields, generation: Fields | undefined, tower: JsonObject | undefined): ConfigFacts {
  top.word("model_type", ["llava", "llava_llama"], "llava");
  // An absent type means one linear layer, which LLaVA 1.0 had.
  if (top.value("mm_projector_type") !== "mlp2x_gelu") top.fail("ERR_UNSUPPORTED_MODEL", '"mlp2x_gelu"', "mm_projector_type");
  for (const key of ["mm_use_im_start_end", "mm_use_im_patch_token", "s2"]) top.require(key, false);
  top.word("mm_patch_merge_type", ["flat"], "flat");
  const decoder = readDecoder(top);
  const { stored, ...vision } = readTower(towerFields(top, tower), {
    fields: top,
    layerKey: "mm_vision_select_layer",
    keepClass: top.word("mm_vision_select_feature", ["patch", "cls_patch"], "patch") === "cls_patch",
  });
  const projected = top.integer("mm_hidden_size", { min: 1, max: 65_536, default: vision.hidden });
  if (projected !== vision.hidden) {
    top.fail("ERR_BAD_CHECKPOINT", `${vision.hidden}, the tower's hidden_size,`, "mm_hidden_size");
  }
  return {
    layout: "original",
    model: { ...decoder, vision, imageTokens: countImageTokens(vision) },
    towerLayers: stored,
    tiedHead: top.boolean("tie_word_embeddings", false),
    tokens: readControls(top, generation, decoder.vocabulary),
    // `square`, the default of LLaVA's code, is what CLIP's own processor does: a crop of the middle.
    imageAspectRatio: top.word("image_aspect_ratio", ["pad", "square"], "square") === "pad" ? "pad" : "crop",
  };
}
