/**
 * Writes a complete LLaVA folder of random weights in the published layout, for measurements at real sizes:
 *
 *   node --import tsx weights-tools/make-random.ts OUT --shape 7b --dtype f16 --shards 3 [--seed 0] [--tokenizer FOLDER]
 *
 * Shapes: tiny, 1b, 7b, 13b. `--tokenizer none` writes no tokenizer. One block of normal values per scale is made once and
 * written again and again from varying places, so that fourteen gigabytes cost little more than their writing.
 */

import { copyFile, mkdir, open, readFile, writeFile, type FileHandle } from "node:fs/promises";
import { existsSync } from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { parseArgs } from "node:util";

import { readConfig } from "../lib/checkpoint/config.js";
import { parseJsonObject } from "../lib/checkpoint/json.js";
import { expectedTensors, type ExpectedTensor } from "../lib/checkpoint/tensors.js";
import type { WeightType } from "../lib/checkpoint/types.js";
import { packageRoot } from "../lib/package.js";
import { encodeWeights, typeBytes } from "./number-formats.js";
import { indexFile, safetensorsHeader, shardIndex, shardName } from "./safetensors-writer.js";

type Json = Record<string, unknown>;

const clipTower = {
  hidden_size: 1024, image_size: 336, intermediate_size: 4096, num_attention_heads: 16, num_hidden_layers: 24, patch_size: 14,
};

/** As published: a text config holds only what differs from its library's defaults, so that of 7B is nearly empty. */
const shapes: Record<string, { text: Json; vision: Json; vocabulary: number }> = {
  "tiny": {
    text: { hidden_size: 64, intermediate_size: 128, num_hidden_layers: 4, num_attention_heads: 2, max_position_embeddings: 512 },
    vision: { hidden_size: 32, image_size: 56, intermediate_size: 64, num_attention_heads: 2, num_hidden_layers: 3, patch_size: 14 },
    vocabulary: 1024,
  },
  "1b": {
    text: {
      hidden_size: 2048, intermediate_size: 5632, num_hidden_layers: 22, num_attention_heads: 16, num_key_value_heads: 16,
      max_position_embeddings: 4096,
    },
    vision: clipTower,
    vocabulary: 32_064,
  },
  "7b": { text: { max_position_embeddings: 4096 }, vision: clipTower, vocabulary: 32_064 },
  "13b": {
    text: {
      hidden_size: 5120, intermediate_size: 13_824, num_hidden_layers: 40, num_attention_heads: 40, num_key_value_heads: 40,
      max_position_embeddings: 4096,
    },
    vision: clipTower,
    vocabulary: 32_064,
  },
};

export interface RandomOptions {
  shape: string;
  type: WeightType;
  /** Files; 1 writes `model.safetensors` and no index. */
  shards: number;
  seed: number;
  /** Folder to copy the tokenizer from; its `<image>` becomes the model's. */
  tokenizer?: string | undefined;
}

/** The name that the published files use. */
export function publishedName(canonical: string): string {
  return canonical
    .replace(/^language_model\./, "language_model.model.")
    .replace(/^lm_head\./, "language_model.lm_head.")
    .replace(/^vision_tower\./, "vision_tower.vision_model.");
}

/** A stream of 32-bit numbers (an additive counter, mixed), enough for weights. */
function randomWords(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x9e3779b9) >>> 0;
    let word = state;
    word = Math.imul(word ^ (word >>> 16), 0x21f0aaad);
    word = Math.imul(word ^ (word >>> 15), 0x735a2d97);
    return (word ^ (word >>> 15)) >>> 0;
  };
}

/** Elements of a block: a prime, so that no row length divides it and no two rows are equal. */
const blockElements = 2 ** 19 - 1;

function normalValues(seed: number): Float32Array {
  const next = randomWords(seed);
  const uniform = (): number => (next() + 0.5) / 2 ** 32;
  return new Float32Array(blockElements).map(() => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform()));
}

/** Mean and deviation that keep every activation near 1: fan-in for products, less for what is added to the residual. */
function scaleOf({ name, shape }: ExpectedTensor, layers: number): { mean: number; deviation: number } {
  if (name.endsWith(".bias")) return { mean: 0, deviation: 0.02 };
  if (/(?:norm|norm1|norm2|layrnorm)\.weight$/.test(name)) return { mean: 1, deviation: 0.05 };
  if (/embed_tokens|class_embedding|position_embedding/.test(name)) return { mean: 0, deviation: 0.5 };
  const fanIn = 1 / Math.sqrt(shape.slice(1).reduce((product, side) => product * side, 1));
  return { mean: 0, deviation: /(?:o_proj|out_proj|down_proj|fc2)\.weight$/.test(name) ? fanIn / Math.sqrt(2 * layers) : fanIn };
}

/** Writes a tensor's elements from a block, beginning at `start` and wrapping. */
async function writeElements(file: FileHandle, block: Uint8Array, elements: number, bytesEach: number, start: number): Promise<void> {
  for (let left = elements * bytesEach, at = start * bytesEach; left > 0; at = 0) {
    const piece = block.subarray(at, Math.min(block.length, at + left));
    for (let written = 0; written < piece.length; ) written += (await file.write(piece, written)).bytesWritten;
    left -= piece.length;
  }
}

/** Cuts tensors into runs of about equal bytes. */
function shardsOf(tensors: ExpectedTensor[], bytesOf: (tensor: ExpectedTensor) => number, count: number): ExpectedTensor[][] {
  const total = tensors.reduce((sum, tensor) => sum + bytesOf(tensor), 0);
  const shards: ExpectedTensor[][] = Array.from({ length: count }, () => []);
  let before = 0;
  for (const tensor of tensors) {
    shards[Math.min(count - 1, Math.floor((before / total) * count))]!.push(tensor);
    before += bytesOf(tensor);
  }
  return shards.filter((shard) => shard.length > 0);
}

/** Copies the tokenizer's files; returns the id of its `<image>`, if it has one. */
async function copyTokenizer(from: string, to: string): Promise<number | undefined> {
  for (const name of ["tokenizer.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json"]) {
    if (existsSync(path.join(from, name))) await copyFile(path.join(from, name), path.join(to, name));
  }
  if (!existsSync(path.join(to, "tokenizer.json"))) return undefined;
  const tokenizer = JSON.parse(await readFile(path.join(to, "tokenizer.json"), "utf8")) as { added_tokens?: { id: number; content: string }[] };
  return tokenizer.added_tokens?.find(({ content }) => content === "<image>")?.id;
}

function makeConfig({ text, vision, vocabulary }: { text: Json; vision: Json; vocabulary: number }, type: WeightType, image: number): Json {
  const dtype = { F32: "float32", F16: "float16", BF16: "bfloat16" }[type];
  return {
    architectures: ["LlavaForConditionalGeneration"],
    ignore_index: -100,
    image_token_index: image,
    model_type: "llava",
    projector_hidden_act: "gelu",
    text_config: {
      architectures: ["LlamaForCausalLM"], model_type: "llama", rms_norm_eps: 1e-5, torch_dtype: dtype, vocab_size: vocabulary, ...text,
    },
    tie_word_embeddings: false,
    torch_dtype: dtype,
    vision_config: { model_type: "clip_vision_model", projection_dim: 768, vocab_size: 32_000, ...vision },
    vision_feature_layer: -2,
    vision_feature_select_strategy: "default",
    vocab_size: vocabulary,
  };
}

function makePreprocessor(side: number): Json {
  return {
    crop_size: { height: side, width: side },
    do_center_crop: true, do_convert_rgb: true, do_normalize: true, do_rescale: true, do_resize: true,
    image_mean: [0.48145466, 0.4578275, 0.40821073],
    image_processor_type: "CLIPImageProcessor",
    image_std: [0.26862954, 0.26130258, 0.27577711],
    processor_class: "LlavaProcessor",
    resample: 3,
    rescale_factor: 1 / 255,
    size: { shortest_edge: side },
  };
}

/**
 * Writes the folder. Memory stays at a few blocks whatever the size.
 * @returns Bytes of all tensors.
 */
export async function makeRandom(folder: string, { shape, type, shards: count, seed, tokenizer }: RandomOptions): Promise<number> {
  const chosen = shapes[shape];
  if (chosen === undefined) throw new Error(`expected ${Object.keys(shapes).join(", ")} for --shape but received ${shape}`);
  await mkdir(folder, { recursive: true });
  const image = tokenizer === undefined ? undefined : await copyTokenizer(tokenizer, folder);
  const config = makeConfig(chosen, type, image ?? chosen.vocabulary - 64);
  const json = (name: string, value: Json): Promise<void> => writeFile(path.join(folder, name), `${JSON.stringify(value, undefined, 2)}\n`);
  await json("config.json", config);
  await json("generation_config.json", { bos_token_id: 1, eos_token_id: 2 });
  await json("preprocessor_config.json", makePreprocessor(chosen.vision.image_size as number));

  const facts = readConfig(parseJsonObject(Buffer.from(JSON.stringify(config)), "config.json", { depth: 64, values: 1000, objects: 1000 }), undefined);
  const elementsOf = (tensor: ExpectedTensor): number => tensor.shape.reduce((product, side) => product * side, 1);
  const bytesOf = (tensor: ExpectedTensor): number => elementsOf(tensor) * typeBytes[type];
  const shards = shardsOf(expectedTensors(facts), bytesOf, count);

  const values = normalValues(seed);
  const blocks = new Map<string, Uint8Array>();
  const blockOf = (tensor: ExpectedTensor): Uint8Array => {
    const { mean, deviation } = scaleOf(tensor, facts.model.layers);
    const key = `${mean} ${deviation}`;
    const block = blocks.get(key) ?? encodeWeights(values.map((value) => mean + deviation * value), type);
    blocks.set(key, block);
    return block;
  };

  const start = randomWords(seed + 1);
  const weightMap: Record<string, string> = {};
  let total = 0;
  for (const [index, shard] of shards.entries()) {
    const name = shardName(index, shards.length);
    const file = await open(path.join(folder, name), "w");
    try {
      const stored = shard.map((tensor) => ({ name: publishedName(tensor.name), type, shape: tensor.shape, bytes: bytesOf(tensor) }));
      await file.write(safetensorsHeader(stored));
      for (const tensor of shard) {
        await writeElements(file, blockOf(tensor), elementsOf(tensor), typeBytes[type], start() % blockElements);
        weightMap[publishedName(tensor.name)] = name;
        total += bytesOf(tensor);
      }
    } finally {
      await file.close();
    }
  }
  if (shards.length > 1) await writeFile(path.join(folder, indexFile), shardIndex(weightMap, total));
  return total;
}

/** The default tokenizer is that of the model that ships. */
function defaultTokenizer(): string | undefined {
  const folder = path.join(packageRoot, "models", "pico-llava");
  return existsSync(path.join(folder, "tokenizer.json")) ? folder : undefined;
}

async function main(): Promise<void> {
  const { positionals, values } = parseArgs({
    allowPositionals: true,
    options: {
      shape: { type: "string", default: "tiny" },
      dtype: { type: "string", default: "f16" },
      shards: { type: "string", default: "1" },
      seed: { type: "string", default: "0" },
      tokenizer: { type: "string" },
    },
  });
  const [folder] = positionals;
  const type = values.dtype.toUpperCase();
  const [shards, seed] = [Number(values.shards), Number(values.seed)];
  const valid = folder !== undefined && type in typeBytes && Number.isInteger(shards) && shards >= 1 && Number.isInteger(seed);
  if (!valid) throw new Error("usage: make-random.ts OUT --shape tiny|1b|7b|13b --dtype f32|f16|bf16 --shards N [--seed N] [--tokenizer FOLDER|none]");
  const tokenizer = values.tokenizer === "none" ? undefined : (values.tokenizer ?? defaultTokenizer());
  const started = performance.now();
  const bytes = await makeRandom(folder, { shape: values.shape, type: type as WeightType, shards, seed, tokenizer });
  console.log(`${folder}: ${bytes} bytes of tensors in ${((performance.now() - started) / 1000).toFixed(1)} s`);
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  await main().catch((error: Error) => {
    console.error(error.message);
    process.exitCode = 1;
  });
}
