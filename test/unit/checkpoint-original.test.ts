import { test } from "uvu";
import * as assert from "uvu/assert";

import { readConfig, type ConfigFacts } from "../../lib/checkpoint/config.js";
import { parseJsonObject } from "../../lib/checkpoint/json.js";
import { expectedTensors } from "../../lib/checkpoint/tensors.js";
import { HimapError, type ErrorCode } from "../../lib/errors.cjs";

type Json = Record<string, unknown>;

/** The fields of the published config of the original 7B model. */
const original7b: Json = {
  architectures: ["LlavaLlamaForCausalLM"], bos_token_id: 1, eos_token_id: 2, freeze_mm_mlp_adapter: false, hidden_act: "silu",
  hidden_size: 4096, image_aspect_ratio: "pad", image_grid_pinpoints: null, initializer_range: 0.02, intermediate_size: 11_008,
  max_length: 4096, max_position_embeddings: 4096, mm_hidden_size: 1024, mm_projector_type: "mlp2x_gelu", mm_resampler_type: null,
  mm_use_im_patch_token: false, mm_use_im_start_end: false, mm_vision_select_feature: "patch", mm_vision_select_layer: -2,
  mm_vision_tower: "openai/clip-vit-large-patch14-336", model_type: "llava", num_attention_heads: 32, num_hidden_layers: 32,
  num_key_value_heads: 32, pad_token_id: 0, pretraining_tp: 1, rms_norm_eps: 1e-5, rope_scaling: null, tie_word_embeddings: false,
  torch_dtype: "float16", transformers_version: "4.31.0", tune_mm_mlp_adapter: false, unfreeze_mm_vision_tower: false,
  use_cache: true, use_mm_proj: true, vocab_size: 32_000,
};
const original13b: Json = {
  ...original7b, hidden_size: 5120, intermediate_size: 13_824, num_attention_heads: 40, num_hidden_layers: 40, num_key_value_heads: 40,
};
const clip: Json = {
  architectures: ["CLIPModel"], model_type: "clip", projection_dim: 768, text_config: { hidden_size: 768 },
  vision_config: {
    dropout: 0, hidden_act: "quick_gelu", hidden_size: 1024, image_size: 336, intermediate_size: 4096, layer_norm_eps: 1e-5,
    model_type: "clip_vision_model", num_attention_heads: 16, num_hidden_layers: 24, patch_size: 14, projection_dim: 768,
  },
};

const parse = (value: Json) => parseJsonObject(Buffer.from(JSON.stringify(value)), "config.json", { depth: 8, values: 999, objects: 999 });
const read = (config: Json, tower: Json | undefined = clip): ConfigFacts => readConfig(parse(config), undefined, tower && parse(tower));

test("the published models: numbers, and as many elements as their files have bytes for", () => {
  const facts = read(original7b);
  assert.equal(facts.tokens, { bos: 1, eos: 2 });
  assert.is(facts.imageAspectRatio, "pad");
  assert.equal([facts.model.layers, facts.model.headDim, facts.model.vision.layers, facts.model.imageTokens], [32, 128, 23, 576]);
  for (const [config, decoder, projector] of [[original7b, 6_738_415_616, 20_979_712], [original13b, 13_015_864_320, 31_467_520]] as const) {
    const count = (form: RegExp): number =>
      expectedTensors(read(config))
        .filter(({ name }) => form.test(name))
        .reduce((sum, { shape }) => sum + shape.reduce((product, side) => product * side, 1), 0);
    assert.is(count(/^(?:language_model|lm_head)\./), decoder);
    assert.is(count(/^multi_modal_projector\./), projector);
  }
});

test("the tower's config may be its own, that of a whole CLIP model, or what its name stands for", () => {
  const whole = read(original7b).model;
  assert.equal(read(original7b, clip.vision_config as Json).model, whole);
  assert.equal(readConfig(parse(original7b), undefined).model, whole);
  for (const name of ["./models/clip-vit-large-patch14-336", "/x/clip-vit-large-patch14-336/"]) {
    assert.equal(readConfig(parse({ ...original7b, mm_vision_tower: name }), undefined).model, whole);
  }
});

test("later revisions and other settings", () => {
  assert.is(read({ ...original7b, model_type: "llava_llama" }).layout, "original");
  assert.is(read({ ...original7b, image_aspect_ratio: "square" }).imageAspectRatio, "crop");
  assert.is(read({ ...original7b, image_aspect_ratio: undefined }).imageAspectRatio, "crop");
  assert.is(read({ ...original7b, mm_vision_select_feature: "cls_patch" }).model.imageTokens, 577);
  assert.is(read({ ...original7b, mm_vision_select_layer: -1 }).model.vision.layers, 24);
});

const refused: [name: string, code: ErrorCode, says: RegExp, change: Json, tower?: Json][] = [
  ["one projector layer", "ERR_UNSUPPORTED_MODEL", /"mlp2x_gelu" for mm_projector_type but received "linear"/, { mm_projector_type: "linear" }],
  ["a projector that is not named", "ERR_UNSUPPORTED_MODEL", /mm_projector_type but received nothing/, { mm_projector_type: null }],
  ["tiles", "ERR_UNSUPPORTED_MODEL", /image_aspect_ratio but received "anyres"/, { image_aspect_ratio: "anyres" }],
  ["merged patches", "ERR_UNSUPPORTED_MODEL", /mm_patch_merge_type/, { mm_patch_merge_type: "spatial_unpad" }],
  ["image tokens at both ends", "ERR_UNSUPPORTED_MODEL", /mm_use_im_start_end/, { mm_use_im_start_end: true }],
  ["several scales", "ERR_UNSUPPORTED_MODEL", /s2/, { s2: true }],
  ["another family", "ERR_UNSUPPORTED_MODEL", /model_type but received "llava_mistral"/, { model_type: "llava_mistral" }],
  ["4 bits", "ERR_UNSUPPORTED_MODEL", /quantization_config but received "awq"/, { quantization_config: { quant_method: "awq" } }],
  ["scaled positions", "ERR_UNSUPPORTED_MODEL", /rope_scaling.type/, { rope_scaling: { type: "linear", factor: 2 } }],
  ["another tower's width", "ERR_BAD_CHECKPOINT", /1024, the tower's hidden_size, for mm_hidden_size/, { mm_hidden_size: 1152 }],
  ["the tower's input", "ERR_UNSUPPORTED_MODEL", /mm_vision_select_layer but received 0/, { mm_vision_select_layer: 0 }],
  ["a layer that the tower lacks", "ERR_BAD_CHECKPOINT", /mm_vision_select_layer/, { mm_vision_select_layer: -25 }],
  ["another kind of tower", "ERR_UNSUPPORTED_MODEL", /vision_tower_config.json.*clip_vision_model/, {}, { model_type: "siglip_vision_model" }],
];
for (const [name, code, says, change, tower] of refused) {
  test(`refused with ${code}: ${name}`, () => {
    let error: unknown;
    try {
      read({ ...original7b, ...change }, tower);
    } catch (thrown) {
      error = thrown;
    }
    assert.instance(error, HimapError);
    assert.is((error as HimapError).code, code, String(error));
    assert.match((error as HimapError).message, says);
  });
}

test.run();
