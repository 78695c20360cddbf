/** A valid checkpoint of a few kilobytes, held in memory so that a test can spoil any part of it before it is written. */

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";

import { readConfig } from "../../lib/checkpoint/config.js";
import { parseJsonObject } from "../../lib/checkpoint/json.js";
import { expectedTensors } from "../../lib/checkpoint/tensors.js";
import { publishedName } from "../../weights-tools/make-random.js";
import { safetensorsHeader, type TensorToWrite } from "../../weights-tools/safetensors-writer.js";

/** Loose on purpose: tests put anything anywhere. */
export type Json = Record<string, any>;

export class TinyCheckpoint {
  config: Json = {
    architectures: ["LlavaForConditionalGeneration"],
    model_type: "llava",
    image_token_index: 60,
    tie_word_embeddings: false,
    text_config: {
      model_type: "llama", hidden_size: 32, intermediate_size: 48, num_hidden_layers: 2, num_attention_heads: 2,
      max_position_embeddings: 128, rms_norm_eps: 1e-5, vocab_size: 64,
    },
    vision_config: {
      model_type: "clip_vision_model", hidden_size: 16, intermediate_size: 24, num_hidden_layers: 2, num_attention_heads: 1,
      image_size: 28, patch_size: 14,
    },
  };
  generation: Json | undefined = { bos_token_id: 1, eos_token_id: 2, temperature: 0.9 };
  processor: Json | undefined = {
    image_processor_type: "CLIPImageProcessor", do_center_crop: true, do_normalize: true, do_rescale: true, do_resize: true,
    crop_size: { height: 28, width: 28 }, size: { shortest_edge: 28 }, resample: 3, rescale_factor: 1 / 255,
  };
  /** By stored name, in the order of the file. */
  tensors = new Map<string, TensorToWrite>();
  /** Tensor -> shard; every other one goes to the first. Empty: one file and no index. */
  shards = new Map<string, string>();
  /** Changes the JSON of a weights file's header before it is written. */
  editHeader: (text: string) => string | Uint8Array = (text) => text;
  editIndex: (index: Json) => unknown = (index) => index;

  constructor() {
    this.fill();
  }

  /** The tensors that the config of the moment implies, as published, F16. */
  fill(): void {
    const facts = readConfig(parseJsonObject(Buffer.from(JSON.stringify(this.config)), "config.json", { depth: 9, values: 999, objects: 999 }), undefined);
    this.tensors = new Map(expectedTensors(facts).map(({ name, shape }) => [publishedName(name), weight(publishedName(name), shape)]));
  }

  /** Renames tensors. */
  rename(change: (name: string) => string): void {
    this.tensors = new Map(Array.from(this.tensors.values(), (tensor) => [change(tensor.name), { ...tensor, name: change(tensor.name) }]));
  }

  /** Spreads the tensors over files, turn about. */
  split(names: string[]): void {
    [...this.tensors.keys()].forEach((tensor, index) => this.shards.set(tensor, names[index % names.length]!));
  }

  write(folder: string): void {
    mkdirSync(folder, { recursive: true });
    const json = (name: string, value: unknown): void => {
      if (value !== undefined) writeFileSync(path.join(folder, name), typeof value === "string" ? value : JSON.stringify(value));
    };
    json("config.json", this.config);
    json("generation_config.json", this.generation);
    json("preprocessor_config.json", this.processor);
    const names = this.shards.size === 0 ? ["model.safetensors"] : [...new Set(this.shards.values())];
    for (const name of names) {
      const tensors = [...this.tensors.values()].filter((tensor) => (this.shards.get(tensor.name) ?? names[0]) === name);
      if (!name.includes("/")) writeFileSync(path.join(folder, name), this.weightsFile(tensors));
    }
    if (this.shards.size > 0) {
      json("model.safetensors.index.json", this.editIndex({ metadata: { total_size: 0 }, weight_map: Object.fromEntries(this.shards) }));
    }
  }

  private weightsFile(tensors: TensorToWrite[]): Uint8Array {
    const plain = safetensorsHeader(tensors).subarray(8);
    const header = Buffer.from(this.editHeader(Buffer.from(plain).toString()));
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt(header.length));
    return Buffer.concat([length, header, Buffer.alloc(tensors.reduce((sum, { bytes }) => sum + bytes, 0))]);
  }
}

/** A tensor of 16-bit zeros. */
export function weight(name: string, shape: readonly number[], type = "F16"): TensorToWrite {
  const bits = { F64: 64, I64: 64, F32: 32, I32: 32, U8: 8 }[type] ?? 16;
  return { name, type, shape, bytes: (shape.reduce((product, side) => product * side, 1) * bits) / 8 };
}

/** Runs with a folder of its own under the system's temporary one, and removes it. */
export async function withFolder<T>(use: (folder: string) => T | Promise<T>): Promise<T> {
  const folder = mkdtempSync(path.join(tmpdir(), "himap-test-"));
  try {
    return await use(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
