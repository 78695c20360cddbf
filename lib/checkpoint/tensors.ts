/** Which tensors a model has, and where a checkpoint keeps them. */

import type { ConfigFacts } from "./config.js";
import { fault, quote, tensorIn } from "./fault.js";
import type { WeightsFile } from "./files.js";
import { canonicalName } from "./names.js";
import type { StoredTensor } from "./safetensors.js";
import type { ModelConfig, TensorEntry, WeightType } from "./types.js";

/** A tensor that may stand in a checkpoint. */
export interface ExpectedTensor {
  name: string;
  /** Row-major; of a linear layer [out, in]. */
  shape: number[];
  /** Unused ones may be absent: what lies behind the tower's layer that is read, and a tied head. */
  used: boolean;
}

/** A file of weights, as far as its tensors are looked for. */
type NamedTensors = Pick<WeightsFile, "name" | "tensors">;

/** What decides which tensors there are. */
type TensorFacts = Pick<ConfigFacts, "model" | "towerLayers" | "tiedHead">;

const embedding = "language_model.embed_tokens.weight";
const head = "lm_head.weight";

function withBias(name: string, weight: number[], bias: number): [string, number[]][] {
  return [[`${name}.weight`, weight], [`${name}.bias`, [bias]]];
}

function towerLayer(index: number, { hidden, ffn }: ModelConfig["vision"]): [string, number[]][] {
  const at = `vision_tower.encoder.layers.${index}`;
  return [
    ...withBias(`${at}.layer_norm1`, [hidden], hidden),
    ...["q_proj", "k_proj", "v_proj", "out_proj"].flatMap((name) => withBias(`${at}.self_attn.${name}`, [hidden, hidden], hidden)),
    ...withBias(`${at}.layer_norm2`, [hidden], hidden),
    ...withBias(`${at}.mlp.fc1`, [ffn, hidden], ffn),
    ...withBias(`${at}.mlp.fc2`, [hidden, ffn], hidden),
  ];
}

function decoderLayer(index: number, model: ModelConfig): [string, number[]][] {
  const at = `language_model.layers.${index}`;
  const { hidden, ffn } = model;
  const queries = model.heads * model.headDim;
  const keys = model.kvHeads * model.headDim;
  return [
    [`${at}.input_layernorm.weight`, [hidden]],
    [`${at}.self_attn.q_proj.weight`, [queries, hidden]],
    [`${at}.self_attn.k_proj.weight`, [keys, hidden]],
    [`${at}.self_attn.v_proj.weight`, [keys, hidden]],
    [`${at}.self_attn.o_proj.weight`, [hidden, queries]],
    [`${at}.post_attention_layernorm.weight`, [hidden]],
    [`${at}.mlp.gate_proj.weight`, [ffn, hidden]],
    [`${at}.mlp.up_proj.weight`, [ffn, hidden]],
    [`${at}.mlp.down_proj.weight`, [hidden, ffn]],
  ];
}

/** Every tensor of a complete checkpoint, in the order in which the model uses them. */
export function expectedTensors({ model, towerLayers, tiedHead }: TensorFacts): ExpectedTensor[] {
  const { vision, hidden, vocabulary } = model;
  const tower = "vision_tower";
  const patches = (vision.imageSize / vision.patchSize) ** 2;
  const layers = Array.from({ length: towerLayers }, (_, index) => towerLayer(index, vision));
  const used: [string, number[]][] = [
    [`${tower}.embeddings.class_embedding`, [vision.hidden]],
    [`${tower}.embeddings.patch_embedding.weight`, [vision.hidden, 3, vision.patchSize, vision.patchSize]],
    [`${tower}.embeddings.position_embedding.weight`, [patches + 1, vision.hidden]],
    ...withBias(`${tower}.pre_layrnorm`, [vision.hidden], vision.hidden),
    ...layers.slice(0, vision.layers).flat(),
    ...withBias("multi_modal_projector.linear_1", [hidden, vision.hidden], hidden),
    ...withBias("multi_modal_projector.linear_2", [hidden, hidden], hidden),
    [embedding, [vocabulary, hidden]],
    ...Array.from({ length: model.layers }, (_, index) => decoderLayer(index, model)).flat(),
    ["language_model.norm.weight", [hidden]],
  ];
  const unused: [string, number[]][] = [
    ...layers.slice(vision.layers).flat(),
    ...withBias(`${tower}.post_layernorm`, [vision.hidden], vision.hidden),
  ];
  (tiedHead ? unused : used).push([head, [vocabulary, hidden]]);
  return [
    ...used.map(([name, shape]) => ({ name, shape, used: true })),
    ...unused.map(([name, shape]) => ({ name, shape, used: false })),
  ];
}

function isWeightType(type: string): type is WeightType {
  return type === "F32" || type === "F16" || type === "BF16";
}

function checkTensor(file: NamedTensors, tensor: StoredTensor, { shape }: ExpectedTensor): WeightType {
  if (!isWeightType(tensor.type)) {
    fault("ERR_TENSOR_SHAPE", tensorIn(file.name, tensor.name), "F32, F16 or BF16", "its type", tensor.type);
  }
  if (tensor.shape.join() !== shape.join()) {
    fault(
      "ERR_TENSOR_SHAPE", tensorIn(file.name, tensor.name), `[${shape.join(", ")}], as config.json implies,`, "its shape",
      `[${tensor.shape.join(", ")}]`,
    );
  }
  return tensor.type;
}

/**
 * Finds the tensors that the engine uses.
 * @returns In the order of the model; `file` indexes `files`. A tied head has an entry of its own with the embedding's bytes.
 * @throws HimapError ERR_TENSOR_MISSING, ERR_TENSOR_EXTRA, ERR_TENSOR_SHAPE, and ERR_BAD_CHECKPOINT for two stored names of
 * one tensor.
 */
export function findTensors(facts: TensorFacts, files: NamedTensors[]): TensorEntry[] {
  const expected = new Map(expectedTensors(facts).map((tensor) => [tensor.name, tensor]));
  const found = new Map<string, TensorEntry & { stored: string }>();
  for (const [index, file] of files.entries()) {
    for (const tensor of file.tensors) {
      const name = canonicalName(tensor.name);
      if (name === undefined) continue;
      const other = found.get(name);
      if (other !== undefined) {
        fault(
          "ERR_BAD_CHECKPOINT", tensorIn(file.name, tensor.name), "one name", `the model's ${name}`,
          `another, ${quote(other.stored)} in ${files[other.file]!.name}`,
        );
      }
      const wanted = expected.get(name);
      if (wanted === undefined) {
        fault("ERR_TENSOR_EXTRA", tensorIn(file.name, tensor.name), "a tensor that config.json implies", "the model", quote(name));
      }
      const type = checkTensor(file, tensor, wanted);
      found.set(name, { name, type, shape: tensor.shape, file: index, offset: tensor.offset, bytes: tensor.bytes, stored: tensor.name });
    }
  }
  if (facts.tiedHead) {
    const shared = found.get(embedding);
    if (shared !== undefined) found.set(head, { ...shared, name: head });
  }
  const order = [...expected.values()].filter(({ name, used }) => used || (facts.tiedHead && name === head));
  return order.map(({ name }) => {
    const entry = found.get(name);
    if (entry === undefined) {
      fault(
        "ERR_TENSOR_MISSING", tensorIn(files.length === 1 ? files[0]!.name : "all shards", name),
        "a tensor, as config.json implies,", "the model", "none",
      );
    }
    const { stored: _, ...tensor } = entry;
    return tensor;
  });
}
