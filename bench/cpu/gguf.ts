/**
 * A LLaVA checkpoint's weights as GGUF, for engines that read nothing else: the decoder as a `llama` model, the vision tower
 * and projector as a `clip` model. The numbers stay those of the checkpoint, so that both engines compute the same function
 * and their tokens can be compared. Tensors are streamed, memory stays at one of them.
 *
 *   node --import tsx bench/cpu/gguf.ts FOLDER decoder.gguf [vision.gguf]
 */

import { open, type FileHandle } from "node:fs/promises";
import { pathToFileURL } from "node:url";

import { openCheckpoint } from "../../lib/checkpoint/index.js";
import type { Checkpoint, TensorEntry, WeightType } from "../../lib/checkpoint/types.js";
import { decodeWeights } from "../../weights-tools/number-formats.js";
import { inventVocabulary } from "./vocabulary.js";

const alignment = 32;
/** Numbers of the element types, and of `general.file_type`. */
const typeNumbers: Record<WeightType, { element: number; file: number }> = {
  F32: { element: 0, file: 0 }, F16: { element: 1, file: 1 }, BF16: { element: 30, file: 32 },
};

type Value =
  | { u32: number } | { f32: number } | { bool: boolean } | { text: string }
  | { texts: string[] } | { floats: number[] } | { integers: number[] };
type Facts = Record<string, Value>;

interface Source {
  name: string;
  tensor: TensorEntry;
  /**
   * `vector`: as F32, whatever it is stored in. `rotary`: rows of each head reordered, since the checkpoint pairs the halves of
   * a head for the rotation, and the `llama` architecture neighbours.
   */
  form: "as is" | "vector" | "rotary";
  /** Heads of a `rotary` tensor. */
  heads?: number;
}

class Bytes {
  readonly #parts: Buffer[] = [];

  u32(value: number): this {
    const part = Buffer.alloc(4);
    part.writeUInt32LE(value);
    return this.add(part);
  }

  u64(value: number): this {
    const part = Buffer.alloc(8);
    part.writeBigUInt64LE(BigInt(value));
    return this.add(part);
  }

  f32(value: number): this {
    const part = Buffer.alloc(4);
    part.writeFloatLE(value);
    return this.add(part);
  }

  text(value: string): this {
    return this.u64(Buffer.byteLength(value)).add(Buffer.from(value));
  }

  add(part: Uint8Array): this {
    this.#parts.push(Buffer.from(part));
    return this;
  }

  done(): Buffer {
    return Buffer.concat(this.#parts);
  }
}

function writeValue(bytes: Bytes, value: Value): void {
  if ("u32" in value) bytes.u32(4).u32(value.u32);
  else if ("f32" in value) bytes.u32(6).f32(value.f32);
  else if ("bool" in value) bytes.u32(7).add(Uint8Array.of(Number(value.bool)));
  else if ("text" in value) bytes.u32(8).text(value.text);
  else if ("texts" in value) value.texts.reduce((list, one) => list.text(one), bytes.u32(9).u32(8).u64(value.texts.length));
  else if ("floats" in value) value.floats.reduce((list, one) => list.f32(one), bytes.u32(9).u32(6).u64(value.floats.length));
  else value.integers.reduce((list, one) => list.u32(one), bytes.u32(9).u32(5).u64(value.integers.length));
}

const elementsOf = ({ shape }: TensorEntry): number => shape.reduce((product, side) => product * side, 1);
const storedType = ({ form, tensor }: Source): WeightType => (form === "vector" ? "F32" : tensor.type);
const storedBytes = (source: Source): number => (source.form === "vector" ? 4 * elementsOf(source.tensor) : source.tensor.bytes);
const padded = (bytes: number): number => Math.ceil(bytes / alignment) * alignment;

/** Rows (head, half, pair) as (head, pair, half). */
function reorderHeads(bytes: Buffer, rows: number, heads: number): Buffer {
  const row = bytes.length / rows;
  const pairs = rows / heads / 2;
  const to = Buffer.alloc(bytes.length);
  for (let head = 0; head < heads; head++) {
    for (let pair = 0; pair < pairs; pair++) {
      for (let half = 0; half < 2; half++) {
        const from = (head * 2 + half) * pairs + pair;
        bytes.copy(to, ((head * pairs + pair) * 2 + half) * row, from * row, (from + 1) * row);
      }
    }
  }
  return to;
}

async function readTensor(file: FileHandle, { offset, bytes }: TensorEntry): Promise<Buffer> {
  const data = Buffer.alloc(bytes);
  for (let filled = 0; filled < bytes; ) {
    const { bytesRead } = await file.read(data, filled, Math.min(bytes - filled, 2 ** 26), offset + filled);
    if (bytesRead === 0) throw new Error(`expected ${bytes} bytes at ${offset} but the file ends`);
    filled += bytesRead;
  }
  return data;
}

async function writeGguf(path: string, { files }: Checkpoint, facts: Facts, sources: Source[]): Promise<void> {
  const head = new Bytes().add(Buffer.from("GGUF")).u32(3).u64(sources.length).u64(Object.keys(facts).length);
  for (const [key, value] of Object.entries(facts)) writeValue(head.text(key), value);
  let offset = 0;
  for (const source of sources) {
    const { shape } = source.tensor;
    head.text(source.name).u32(shape.length);
    for (const side of [...shape].reverse()) head.u64(side);
    head.u32(typeNumbers[storedType(source)].element).u64(offset);
    offset += padded(storedBytes(source));
  }
  const header = head.done();

  const inputs = await Promise.all(files.map((file) => open(file.path)));
  const output = await open(path, "w");
  const write = async (data: Uint8Array): Promise<void> => {
    for (let done = 0; done < data.length; ) done += (await output.write(data, done, Math.min(data.length - done, 2 ** 26))).bytesWritten;
    await output.write(new Uint8Array(padded(data.length) - data.length));
  };
  try {
    await write(header);
    for (const { tensor, form, heads } of sources) {
      const data = await readTensor(inputs[tensor.file]!, tensor);
      if (form === "vector") await write(new Uint8Array(decodeWeights(data, tensor.type).buffer));
      else await write(form === "rotary" ? reorderHeads(data, tensor.shape[0]!, heads!) : data);
    }
  } finally {
    await Promise.all([output, ...inputs].map((file) => file.close()));
  }
}

/** Entries by canonical name; those of rank 1 become F32 vectors, since GGUF readers add and multiply nothing else. */
function sourcesOf({ tensors }: Checkpoint): (name: string, canonical: string, rotaryHeads?: number) => Source {
  const byName = new Map(tensors.map((tensor) => [tensor.name, tensor]));
  return (name, canonical, heads) => {
    const tensor = byName.get(canonical)!;
    if (heads !== undefined) return { name, tensor, form: "rotary", heads };
    return { name, tensor, form: tensor.shape.length === 1 ? "vector" : "as is" };
  };
}

const typeOf = ({ tensors }: Checkpoint): WeightType => tensors.find(({ name }) => name === "lm_head.weight")!.type;

/** Writes the decoder. Its vocabulary is invented: readers insist on one, and the bench feeds ids. */
export async function writeDecoder(checkpoint: Checkpoint, path: string): Promise<void> {
  const { config } = checkpoint;
  const vocabulary = inventVocabulary(config.vocabulary);
  const facts: Facts = {
    "general.architecture": { text: "llama" },
    "general.name": { text: "random weights" },
    "general.file_type": { u32: typeNumbers[typeOf(checkpoint)].file },
    "llama.vocab_size": { u32: config.vocabulary },
    "llama.context_length": { u32: config.maxPositions },
    "llama.embedding_length": { u32: config.hidden },
    "llama.block_count": { u32: config.layers },
    "llama.feed_forward_length": { u32: config.ffn },
    "llama.rope.dimension_count": { u32: config.headDim },
    "llama.rope.freq_base": { f32: config.ropeTheta },
    "llama.attention.head_count": { u32: config.heads },
    "llama.attention.head_count_kv": { u32: config.kvHeads },
    "llama.attention.layer_norm_rms_epsilon": { f32: config.rmsEps },
    "tokenizer.ggml.model": { text: "llama" },
    "tokenizer.ggml.tokens": { texts: vocabulary.map(({ text }) => text) },
    "tokenizer.ggml.scores": { floats: vocabulary.map(({ score }) => score) },
    "tokenizer.ggml.token_type": { integers: vocabulary.map(({ kind }) => kind) },
    "tokenizer.ggml.bos_token_id": { u32: 1 },
    "tokenizer.ggml.eos_token_id": { u32: 2 },
    "tokenizer.ggml.unknown_token_id": { u32: 0 },
    "tokenizer.ggml.add_bos_token": { bool: true },
    "tokenizer.ggml.add_eos_token": { bool: false },
  };
  const source = sourcesOf(checkpoint);
  const layers = Array.from({ length: config.layers }, (_, layer) => {
    const [to, from] = [`blk.${layer}`, `language_model.layers.${layer}`];
    return [
      source(`${to}.attn_norm.weight`, `${from}.input_layernorm.weight`),
      source(`${to}.attn_q.weight`, `${from}.self_attn.q_proj.weight`, config.heads),
      source(`${to}.attn_k.weight`, `${from}.self_attn.k_proj.weight`, config.kvHeads),
      source(`${to}.attn_v.weight`, `${from}.self_attn.v_proj.weight`),
      source(`${to}.attn_output.weight`, `${from}.self_attn.o_proj.weight`),
      source(`${to}.ffn_norm.weight`, `${from}.post_attention_layernorm.weight`),
      source(`${to}.ffn_gate.weight`, `${from}.mlp.gate_proj.weight`),
      source(`${to}.ffn_up.weight`, `${from}.mlp.up_proj.weight`),
      source(`${to}.ffn_down.weight`, `${from}.mlp.down_proj.weight`),
    ];
  });
  await writeGguf(path, checkpoint, facts, [
    source("token_embd.weight", "language_model.embed_tokens.weight"),
    ...layers.flat(),
    source("output_norm.weight", "language_model.norm.weight"),
    source("output.weight", "lm_head.weight"),
  ]);
}

/** Writes the layers of the tower that are run, and the projector. */
export async function writeVision(checkpoint: Checkpoint, path: string): Promise<void> {
  const { config: { vision }, preprocessing } = checkpoint;
  const facts: Facts = {
    "general.architecture": { text: "clip" },
    "general.name": { text: "random weights" },
    "general.file_type": { u32: typeNumbers[typeOf(checkpoint)].file },
    "clip.has_text_encoder": { bool: false },
    "clip.has_vision_encoder": { bool: true },
    "clip.has_llava_projector": { bool: true },
    "clip.projector_type": { text: "mlp" },
    "clip.use_gelu": { bool: vision.activation === "gelu" },
    "clip.vision.image_size": { u32: vision.imageSize },
    "clip.vision.patch_size": { u32: vision.patchSize },
    "clip.vision.embedding_length": { u32: vision.hidden },
    "clip.vision.feed_forward_length": { u32: vision.ffn },
    "clip.vision.projection_dim": { u32: 768 },
    "clip.vision.attention.head_count": { u32: vision.heads },
    "clip.vision.attention.layer_norm_epsilon": { f32: vision.eps },
    "clip.vision.block_count": { u32: vision.layers },
    "clip.vision.image_mean": { floats: preprocessing.mean },
    "clip.vision.image_std": { floats: preprocessing.std },
  };
  const source = sourcesOf(checkpoint);
  const pair = (to: string, from: string): Source[] => ["weight", "bias"].map((part) => source(`${to}.${part}`, `${from}.${part}`));
  const embeddings = "vision_tower.embeddings";
  const layers = Array.from({ length: vision.layers }, (_, layer) => {
    const [to, from] = [`v.blk.${layer}`, `vision_tower.encoder.layers.${layer}`];
    return [
      ...pair(`${to}.ln1`, `${from}.layer_norm1`),
      ...["q", "k", "v", "out"].flatMap((name) => pair(`${to}.attn_${name}`, `${from}.self_attn.${name}_proj`)),
      ...pair(`${to}.ln2`, `${from}.layer_norm2`),
      // Files for LLaVA call the first layer of the MLP "down" and the second "up".
      ...pair(`${to}.ffn_down`, `${from}.mlp.fc1`),
      ...pair(`${to}.ffn_up`, `${from}.mlp.fc2`),
    ];
  });
  const positions = source("v.position_embd.weight", `${embeddings}.position_embedding.weight`);
  await writeGguf(path, checkpoint, facts, [
    source("v.class_embd", `${embeddings}.class_embedding`),
    source("v.patch_embd.weight", `${embeddings}.patch_embedding.weight`),
    { ...positions, form: "vector" },
    ...pair("v.pre_ln", "vision_tower.pre_layrnorm"),
    ...layers.flat(),
    ...pair("mm.0", "multi_modal_projector.linear_1"),
    ...pair("mm.2", "multi_modal_projector.linear_2"),
  ]);
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const [folder, decoder, vision] = process.argv.slice(2);
  if (folder === undefined || decoder === undefined) throw new Error("usage: gguf.ts FOLDER decoder.gguf [vision.gguf]");
  const checkpoint = await openCheckpoint(folder);
  await writeDecoder(checkpoint, decoder);
  if (vision !== undefined) await writeVision(checkpoint, vision);
}
