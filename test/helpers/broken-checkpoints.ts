/** Checkpoints that are broken or not ours, one for every rule, each with the error that it must give. */

import { appendFileSync, mkdirSync, rmSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { execFileSync } from "node:child_process";
import path from "node:path";

import type { ErrorCode } from "../../lib/errors.cjs";
import { weight, type Json, type TinyCheckpoint } from "./tiny-checkpoint.js";

export interface BrokenCheckpoint {
  name: string;
  code: ErrorCode;
  /** What the message must contain: the file, the tensor or field, what came. */
  says: string[];
  /** Spoils the checkpoint before it is written. */
  edit?: (tiny: TinyCheckpoint) => void;
  /** Spoils the folder afterwards. */
  spoil?: (folder: string) => void;
}

const weights = "model.safetensors";
const index = "model.safetensors.index.json";
const query = "language_model.model.layers.1.self_attn.q_proj.weight";
const norm = "language_model.model.norm.weight";
const shards = ["a.safetensors", "b.safetensors"];

/** A change of one tensor's header entry. */
function entry(name: string, change: (entry: Json, header: Json) => unknown): (tiny: TinyCheckpoint) => void {
  return (tiny) => {
    tiny.editHeader = (text) => {
      const header = JSON.parse(text) as Json;
      const changed = change(header[name], header);
      if (changed !== undefined) header[name] = changed;
      return JSON.stringify(header);
    };
  };
}

const header = (change: (text: string) => string | Uint8Array) => (tiny: TinyCheckpoint): void => {
  tiny.editHeader = change;
};
const config = (change: (config: Json) => void) => (tiny: TinyCheckpoint): void => change(tiny.config);
const text = (key: string, value: unknown) => config((top) => (top.text_config[key] = value));
const vision = (key: string, value: unknown) => config((top) => (top.vision_config[key] = value));
const top = (key: string, value: unknown) => config((object) => (object[key] = value));
const processor = (key: string, value: unknown) => (tiny: TinyCheckpoint): void => {
  tiny.processor![key] = value;
};
/** A config as text, after a replacement: what no object can hold. */
const configText = (from: string, to: string) => (tiny: TinyCheckpoint): void => {
  tiny.config = JSON.stringify(tiny.config).replace(from, to) as unknown as Json;
};
const write = (name: string, content: string | Uint8Array) => (folder: string): void => writeFileSync(path.join(folder, name), content);
const split = (change: (tiny: TinyCheckpoint) => void = () => {}) => (tiny: TinyCheckpoint): void => {
  tiny.split(shards);
  change(tiny);
};

/** The first 8 bytes of a weights file, and what follows. */
function prefix(length: bigint, rest: string | Uint8Array = ""): Uint8Array {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(length);
  return Buffer.concat([bytes, Buffer.from(rest)]);
}

const container: BrokenCheckpoint[] = [
  { name: "an empty file", code: "ERR_BAD_CHECKPOINT", says: [weights, "at least 8 bytes", "received 0"], spoil: write(weights, "") },
  { name: "seven bytes", code: "ERR_BAD_CHECKPOINT", says: [weights, "received 7"], spoil: write(weights, "1234567") },
  { name: "eight bytes", code: "ERR_BAD_CHECKPOINT", says: [weights, "empty header"], spoil: write(weights, prefix(0n)) },
  { name: "a header longer than the file", code: "ERR_BAD_CHECKPOINT", says: [weights, "what is left of the file", "received 99"], spoil: write(weights, prefix(99n, "{}")) },
  { name: "a header of 2^64 - 1 bytes", code: "ERR_BAD_CHECKPOINT", says: [weights, "18446744073709551615"], spoil: write(weights, prefix(2n ** 64n - 1n, "{}")) },
  {
    name: "a header above the limit",
    code: "ERR_TOO_LARGE",
    says: [weights, "100000000", "100000001"],
    spoil: (folder) => {
      write(weights, prefix(100_000_001n, "{}"))(folder);
      truncateSync(path.join(folder, weights), 100_000_100);
    },
  },
  { name: "a header that is no UTF-8", code: "ERR_BAD_CHECKPOINT", says: [weights, "UTF-8"], edit: header((json) => Buffer.from(json.replace("format", "f\u00ffrm"), "latin1")) },
  { name: "a header with a byte order mark", code: "ERR_BAD_CHECKPOINT", says: [weights, "first byte", "0xef"], edit: header((json) => `\ufeff${json}`) },
  { name: "spaces before the header", code: "ERR_BAD_CHECKPOINT", says: [weights, "first byte", "0x20"], edit: header((json) => ` ${json}`) },
  { name: "an array for a header", code: "ERR_BAD_CHECKPOINT", says: [weights, "first byte"], edit: header((json) => `[${json}]`) },
  { name: "a cut header", code: "ERR_BAD_CHECKPOINT", says: [weights, "end of the text"], edit: header((json) => json.trimEnd().slice(0, -1)) },
  { name: "text after the header", code: "ERR_BAD_CHECKPOINT", says: [weights, "end of the JSON text"], edit: header((json) => `${json}x`) },
  { name: "line ends for padding", code: "ERR_BAD_CHECKPOINT", says: [weights, "padding"], edit: header((json) => `${json.trimEnd()}\n`) },
  { name: "deep nesting", code: "ERR_BAD_CHECKPOINT", says: [weights, "levels of nesting"], edit: header(() => `{"x":${"[".repeat(100_000)}`) },
  { name: "too many values", code: "ERR_BAD_CHECKPOINT", says: [weights, "2000000 values"], edit: header(() => `{"x":[${"0,".repeat(2_000_001)}0]}`) },
  { name: "too many objects", code: "ERR_BAD_CHECKPOINT", says: [weights, "100002 objects"], edit: header(() => `{"x":[${"{},".repeat(100_002)}{}]}`) },
  { name: "a bad escape", code: "ERR_BAD_CHECKPOINT", says: [weights, "valid escapes"], edit: header((json) => json.replace("format", "f\\qrmat")) },
  { name: "a control character in a name", code: "ERR_BAD_CHECKPOINT", says: [weights, "control characters"], edit: header((json) => json.replace("format", "f\u0001rmat")) },
  { name: "metadata that is no object", code: "ERR_BAD_CHECKPOINT", says: [weights, "__metadata__"], edit: entry("__metadata__", () => "pt") },
  { name: "metadata that is no text", code: "ERR_BAD_CHECKPOINT", says: [weights, "__metadata__", "format"], edit: entry("__metadata__", () => ({ format: 1 })) },
  {
    name: "a tensor declared twice",
    code: "ERR_BAD_CHECKPOINT",
    says: [weights, "a key that stands once", "lang"],
    edit: header((json) => json.replace("{", `{"${norm}":{"dtype":"F16","shape":[0],"data_offsets":[0,0]},`)),
  },
  {
    name: "a tensor declared twice, once with escapes",
    code: "ERR_BAD_CHECKPOINT",
    says: [weights, "a key that stands once"],
    edit: header((json) => json.replace("{", `{"\\u006canguage_model.model.norm.weight":{"dtype":"F16","shape":[0],"data_offsets":[0,0]},`)),
  },
  { name: "a data range given twice", code: "ERR_BAD_CHECKPOINT", says: [weights, "a key that stands once"], edit: header((json) => json.replace('"data_offsets"', '"data_offsets":[0,0],"data_offsets"')) },
  { name: "an unknown field", code: "ERR_BAD_CHECKPOINT", says: [weights, norm, "strides"], edit: entry(norm, (tensor) => ({ ...tensor, strides: [1] })) },
  { name: "an entry that is no object", code: "ERR_BAD_CHECKPOINT", says: [weights, norm, "header entry"], edit: entry(norm, () => 5) },
  { name: "an unknown type", code: "ERR_BAD_CHECKPOINT", says: [weights, norm, "dtype", "F17"], edit: entry(norm, (tensor) => ({ ...tensor, dtype: "F17" })) },
  { name: "a type of a prototype", code: "ERR_BAD_CHECKPOINT", says: [weights, norm, "__proto__"], edit: entry(norm, (tensor) => ({ ...tensor, dtype: "__proto__" })) },
  { name: "a tensor called __proto__", code: "ERR_TENSOR_EXTRA", says: [weights, "__proto__"], edit: header((json) => json.replace("{", `{"__proto__":{"dtype":"F16","shape":[0],"data_offsets":[0,0]},`)) },
  { name: "no type", code: "ERR_BAD_CHECKPOINT", says: [weights, norm, "dtype", "nothing"], edit: entry(norm, ({ dtype: _, ...tensor }) => tensor) },
  { name: "no shape", code: "ERR_BAD_CHECKPOINT", says: [weights, norm, "shape", "nothing"], edit: entry(norm, ({ shape: _, ...tensor }) => tensor) },
  { name: "no data range", code: "ERR_BAD_CHECKPOINT", says: [weights, norm, "data_offsets", "nothing"], edit: entry(norm, ({ data_offsets: _, ...tensor }) => tensor) },
  { name: "a negative side", code: "ERR_BAD_CHECKPOINT", says: [weights, norm, "shape", "-32"], edit: entry(norm, (tensor) => ({ ...tensor, shape: [-32] })) },
  { name: "half a side", code: "ERR_BAD_CHECKPOINT", says: [weights, norm, "shape", "31.5"], edit: entry(norm, (tensor) => ({ ...tensor, shape: [31.5] })) },
  { name: "a side as text", code: "ERR_BAD_CHECKPOINT", says: [weights, norm, "shape", '"32"'], edit: entry(norm, (tensor) => ({ ...tensor, shape: ["32"] })) },
  { name: "a side of 2^53", code: "ERR_BAD_CHECKPOINT", says: [weights, norm, "shape"], edit: entry(norm, (tensor) => ({ ...tensor, shape: [2 ** 53] })) },
  { name: "a side of 1e999", code: "ERR_BAD_CHECKPOINT", says: [weights, "shape", "Infinity"], edit: header((json) => json.replace(/"shape":\[\d+/, '"shape":[1e999')) },
  { name: "a shape whose product overflows", code: "ERR_BAD_CHECKPOINT", says: [weights, norm, "2^53"], edit: entry(norm, (tensor) => ({ ...tensor, shape: [2 ** 32, 2 ** 32, 2 ** 32] })) },
  { name: "a product that wraps round to the right size", code: "ERR_BAD_CHECKPOINT", says: [weights, norm, "2^53"], edit: entry(norm, (tensor) => ({ ...tensor, shape: [2 ** 32, 2 ** 32, 32] })) },
  { name: "a zero behind a product that overflows", code: "ERR_BAD_CHECKPOINT", says: [weights, norm, "2^53"], edit: entry(norm, (tensor) => ({ ...tensor, shape: [2 ** 52, 2 ** 52, 0] })) },
  { name: "nine dimensions", code: "ERR_TOO_LARGE", says: [weights, norm, "8 dimensions"], edit: entry(norm, (tensor) => ({ ...tensor, shape: [1, 1, 1, 1, 1, 1, 1, 1, 32] })) },
  { name: "half a byte", code: "ERR_BAD_CHECKPOINT", says: [weights, norm, "whole bytes"], edit: entry(norm, (tensor) => ({ ...tensor, dtype: "F4", shape: [3] })) },
  { name: "a name above the limit", code: "ERR_TOO_LARGE", says: [weights, "1024 bytes"], edit: entry("x".repeat(1025), () => ({ dtype: "F16", shape: [0], data_offsets: [0, 0] })) },
  {
    name: "more tensors than the limit",
    code: "ERR_TOO_LARGE",
    says: [weights, "100000 tensors"],
    edit: header(() => `{${Array.from({ length: 100_001 }, (_, i) => `"${i}":{"dtype":"F16","shape":[0],"data_offsets":[0,0]}`).join()}}`),
  },
  { name: "a range that ends before it begins", code: "ERR_BAD_CHECKPOINT", says: [weights, norm, "data_offsets"], edit: entry(norm, (tensor) => ({ ...tensor, data_offsets: tensor.data_offsets.toReversed() })) },
  { name: "a range of three", code: "ERR_BAD_CHECKPOINT", says: [weights, norm, "data_offsets"], edit: entry(norm, (tensor) => ({ ...tensor, data_offsets: [0, 1, 2] })) },
  { name: "a range that does not fit the shape", code: "ERR_BAD_CHECKPOINT", says: [weights, norm, "64 bytes", "F16 [32]"], edit: entry(norm, (tensor) => ({ ...tensor, data_offsets: [0, 66] })) },
  { name: "a range far behind the file", code: "ERR_BAD_CHECKPOINT", says: [weights, "hole"], edit: entry(norm, (tensor) => ({ ...tensor, data_offsets: [2 ** 52, 2 ** 52 + 64] })) },
  {
    name: "two tensors on the same bytes",
    code: "ERR_BAD_CHECKPOINT",
    says: [weights, "overlap"],
    edit: entry(norm, (tensor, all) => ({ ...tensor, data_offsets: [all[query].data_offsets[0], all[query].data_offsets[0] + 64] })),
  },
  {
    name: "a hole",
    code: "ERR_BAD_CHECKPOINT",
    says: [weights, "hole"],
    edit: entry(norm, (_, all) => {
      delete all[norm];
    }),
  },
  { name: "bytes after the data", code: "ERR_BAD_CHECKPOINT", says: [weights, "more than it declares"], spoil: (folder) => appendFileSync(path.join(folder, weights), "x") },
  {
    name: "a truncated file",
    code: "ERR_BAD_CHECKPOINT",
    says: [weights, "cut short"],
    spoil: (folder) => truncateSync(path.join(folder, weights), 20_000),
  },
  {
    name: "a folder for a file",
    code: "ERR_BAD_CHECKPOINT",
    says: [weights, "regular file", "directory"],
    spoil: (folder) => {
      rmSync(path.join(folder, weights));
      mkdirSync(path.join(folder, weights));
    },
  },
  {
    name: "a link to nothing",
    code: "ERR_BAD_CHECKPOINT",
    says: [weights],
    spoil: (folder) => {
      rmSync(path.join(folder, weights));
      symlinkSync("nowhere", path.join(folder, weights));
    },
  },
  {
    name: "a link to itself",
    code: "ERR_BAD_CHECKPOINT",
    says: [weights, "ELOOP"],
    spoil: (folder) => {
      rmSync(path.join(folder, weights));
      symlinkSync(weights, path.join(folder, weights));
    },
  },
];
if (process.platform !== "win32") {
  container.push({
    name: "a pipe for a file",
    code: "ERR_BAD_CHECKPOINT",
    says: [weights, "pipe"],
    spoil: (folder) => {
      rmSync(path.join(folder, weights));
      execFileSync("mkfifo", [path.join(folder, weights)]);
    },
  });
}

const tensors: BrokenCheckpoint[] = [
  { name: "a missing tensor", code: "ERR_TENSOR_MISSING", says: [weights, "language_model.layers.1.self_attn.q_proj.weight"], edit: (tiny) => tiny.tensors.delete(query) },
  { name: "a missing bias", code: "ERR_TENSOR_MISSING", says: [weights, "multi_modal_projector.linear_2.bias"], edit: (tiny) => tiny.tensors.delete("multi_modal_projector.linear_2.bias") },
  { name: "no head", code: "ERR_TENSOR_MISSING", says: [weights, "lm_head.weight"], edit: (tiny) => tiny.tensors.delete("language_model.lm_head.weight") },
  { name: "no tensors at all", code: "ERR_TENSOR_MISSING", says: [weights, "class_embedding"], edit: (tiny) => tiny.tensors.clear() },
  { name: "one layer more than the config says", code: "ERR_TENSOR_EXTRA", says: [weights, "layers.2.input_layernorm"], edit: (tiny) => tiny.tensors.set("x", weight("language_model.model.layers.2.input_layernorm.weight", [32])) },
  { name: "one layer fewer than the config says", code: "ERR_TENSOR_MISSING", says: [weights, "layers.2.input_layernorm"], edit: text("num_hidden_layers", 3) },
  { name: "a bias that the model has not", code: "ERR_TENSOR_EXTRA", says: [weights, "q_proj.bias"], edit: (tiny) => tiny.tensors.set("x", weight("language_model.model.layers.0.self_attn.q_proj.bias", [32])) },
  { name: "an adapter's tensor", code: "ERR_TENSOR_EXTRA", says: [weights, "lora_A"], edit: (tiny) => tiny.tensors.set("x", weight("language_model.model.layers.0.self_attn.q_proj.lora_A.weight", [4, 32])) },
  { name: "a transposed tensor", code: "ERR_TENSOR_SHAPE", says: [weights, "down_proj", "[32, 48]", "[48, 32]"], edit: (tiny) => tiny.tensors.set("language_model.model.layers.0.mlp.down_proj.weight", weight("language_model.model.layers.0.mlp.down_proj.weight", [48, 32])) },
  { name: "a tensor of another rank", code: "ERR_TENSOR_SHAPE", says: [weights, norm, "[32]", "[1, 32]"], edit: (tiny) => tiny.tensors.set(norm, weight(norm, [1, 32])) },
  { name: "an unused tensor of another shape", code: "ERR_TENSOR_SHAPE", says: [weights, "post_layernorm"], edit: (tiny) => tiny.tensors.set("vision_tower.vision_model.post_layernorm.weight", weight("vision_tower.vision_model.post_layernorm.weight", [17])) },
  { name: "integers", code: "ERR_TENSOR_SHAPE", says: [weights, query, "F32, F16 or BF16", "I64"], edit: (tiny) => tiny.tensors.set(query, weight(query, [32, 32], "I64")) },
  { name: "64-bit floats", code: "ERR_TENSOR_SHAPE", says: [weights, query, "F64"], edit: (tiny) => tiny.tensors.set(query, weight(query, [32, 32], "F64")) },
  { name: "packed bytes", code: "ERR_TENSOR_SHAPE", says: [weights, query, "U8"], edit: (tiny) => tiny.tensors.set(query, weight(query, [512], "U8")) },
  { name: "a vocabulary that is not the tensors'", code: "ERR_TENSOR_SHAPE", says: [weights, "embed_tokens", "[96, 32]", "[64, 32]"], edit: text("vocab_size", 96) },
  { name: "a width that is not the tensors'", code: "ERR_TENSOR_SHAPE", says: [weights, "[48, 16]"], edit: text("hidden_size", 48) },
  { name: "absent widths that mean those of 7B", code: "ERR_TENSOR_SHAPE", says: [weights, "4096"], edit: config((object) => (object.text_config = { model_type: "llama", vocab_size: 64 })) },
  { name: "an image size that is not the tensors'", code: "ERR_TENSOR_SHAPE", says: [weights, "position_embedding", "[10, 16]", "[5, 16]"], edit: (tiny) => {
    tiny.config.vision_config.image_size = 42;
    tiny.processor = undefined;
  } },
  { name: "one tensor under two names", code: "ERR_BAD_CHECKPOINT", says: [weights, "language_model.norm.weight", norm], edit: (tiny) => tiny.tensors.set("x", weight("model.language_model.norm.weight", [32])) },
];

const sharding: BrokenCheckpoint[] = [
  { name: "no weights", code: "ERR_BAD_CHECKPOINT", says: [weights, index, "neither"], spoil: (folder) => rmSync(path.join(folder, weights)) },
  {
    name: "pickled weights",
    code: "ERR_UNSUPPORTED_FILE",
    says: ["pytorch_model-00001-of-00002.bin", "safetensors"],
    spoil: (folder) => {
      rmSync(path.join(folder, weights));
      write("pytorch_model-00001-of-00002.bin", "PK")(folder);
    },
  },
  {
    name: "GGUF",
    code: "ERR_UNSUPPORTED_FILE",
    says: ["model-q4.gguf"],
    spoil: (folder) => {
      rmSync(path.join(folder, weights));
      write("model-q4.gguf", "GGUF")(folder);
    },
  },
  { name: "a missing shard", code: "ERR_BAD_CHECKPOINT", says: ["b.safetensors", "no such file"], edit: split(), spoil: (folder) => rmSync(path.join(folder, "b.safetensors")) },
  { name: "a truncated shard", code: "ERR_BAD_CHECKPOINT", says: ["b.safetensors", "cut short"], edit: split(), spoil: (folder) => truncateSync(path.join(folder, "b.safetensors"), 15_000) },
  ...["../b.safetensors", "/etc/b.safetensors", "sub/b.safetensors", "sub\\b.safetensors", "..", "", "b\0.safetensors", "C:b.safetensors"].map((name): BrokenCheckpoint => ({
    name: `a shard called ${JSON.stringify(name)}`,
    code: "ERR_BAD_CHECKPOINT",
    says: [index, "plain names", JSON.stringify(name)],
    edit: split((tiny) => {
      tiny.editIndex = (object) => ({ ...object, weight_map: { ...object.weight_map, [norm]: name } });
    }),
  })),
  { name: "an index of pickles", code: "ERR_UNSUPPORTED_FILE", says: [index, "pytorch_model.bin"], edit: split((tiny) => (tiny.editIndex = () => ({ weight_map: { x: "pytorch_model.bin" } }))) },
  { name: "an index without a map", code: "ERR_BAD_CHECKPOINT", says: [index, "weight_map", "nothing"], edit: split((tiny) => (tiny.editIndex = () => ({ metadata: {} }))) },
  { name: "an index with an empty map", code: "ERR_BAD_CHECKPOINT", says: [index, "weight_map", "none"], edit: split((tiny) => (tiny.editIndex = () => ({ weight_map: {} }))) },
  { name: "an index that maps to numbers", code: "ERR_BAD_CHECKPOINT", says: [index, "weight_map", "7"], edit: split((tiny) => (tiny.editIndex = () => ({ weight_map: { x: 7 } }))) },
  { name: "an index that is no JSON", code: "ERR_BAD_CHECKPOINT", says: [index, "JSON"], edit: split((tiny) => (tiny.editIndex = () => "weight_map")) },
  { name: "an index of too many files", code: "ERR_TOO_LARGE", says: [index, "1000 files", "1001"], edit: split((tiny) => (tiny.editIndex = () => ({ weight_map: Object.fromEntries(Array.from({ length: 1001 }, (_, i) => [i, `${i}.safetensors`])) }))) },
  {
    name: "a tensor that the index puts into another shard",
    code: "ERR_TENSOR_MISSING",
    says: ["a.safetensors", norm],
    edit: split((tiny) => {
      tiny.shards.set(norm, "b.safetensors");
      tiny.editIndex = (object) => ({ ...object, weight_map: { ...object.weight_map, [norm]: "a.safetensors" } });
    }),
  },
  {
    name: "a tensor that the index does not know",
    code: "ERR_TENSOR_EXTRA",
    says: ["a.safetensors", "extra.weight"],
    edit: split((tiny) => {
      tiny.tensors.set("extra.weight", weight("extra.weight", [4]));
    }),
  },
  {
    name: "a tensor in two shards",
    code: "ERR_BAD_CHECKPOINT",
    says: ["b.safetensors", "one file", norm, "a.safetensors"],
    edit: split((tiny) => {
      tiny.shards.set(norm, "b.safetensors");
      tiny.tensors.set("double", weight(norm, [32]));
      tiny.shards.set("double", "a.safetensors");
      tiny.tensors = new Map(Array.from(tiny.tensors, ([key, tensor]) => [key, key === "double" ? { ...tensor, name: "double" } : tensor]));
      tiny.editHeader = (json) => json.replace('"double"', JSON.stringify(norm));
      tiny.editIndex = (object) => {
        delete object.weight_map.double;
        return object;
      };
    }),
  },
];

const configs: BrokenCheckpoint[] = [
  { name: "no config", code: "ERR_BAD_CHECKPOINT", says: ["config.json", "no such file"], spoil: (folder) => rmSync(path.join(folder, "config.json")) },
  { name: "an empty config", code: "ERR_BAD_CHECKPOINT", says: ["config.json", "end of the text"], spoil: write("config.json", "") },
  { name: "a config that is a list", code: "ERR_BAD_CHECKPOINT", says: ["config.json", "object"], spoil: write("config.json", "[]") },
  { name: "a config with a field twice", code: "ERR_BAD_CHECKPOINT", says: ["config.json", "stands once", "hidden_size"], edit: configText('"hidden_size":32', '"hidden_size":32,"hidden_size":64') },
  { name: "a config with NaN", code: "ERR_BAD_CHECKPOINT", says: ["config.json", "JSON value", "NaN"], edit: configText("0.00001", "NaN") },
  { name: "a config with Infinity", code: "ERR_BAD_CHECKPOINT", says: ["config.json", "Infinity"], edit: configText('"hidden_size":32', '"hidden_size":1e400') },
  { name: "a number of a megabyte", code: "ERR_BAD_CHECKPOINT", says: ["config.json", "character", "1111"], edit: configText("0.00001", "1".repeat(1 << 20)) },
  { name: "a config of too many objects", code: "ERR_BAD_CHECKPOINT", says: ["config.json", "10000 objects"], spoil: write("config.json", `{"x":[${"{},".repeat(10_000)}{}]}`) },
  { name: "a config above the limit", code: "ERR_TOO_LARGE", says: ["config.json", "32000000"], spoil: write("config.json", " ".repeat(32_000_001)) },
  { name: "another kind of model", code: "ERR_UNSUPPORTED_MODEL", says: ["config.json", "model_type", '"llava_next"'], edit: top("model_type", "llava_next") },
  { name: "no kind of model", code: "ERR_UNSUPPORTED_MODEL", says: ["config.json", "model_type", "nothing"], edit: top("model_type", undefined) },
  { name: "the original layout of LLaVA 1.0", code: "ERR_UNSUPPORTED_MODEL", says: ["config.json", "mm_projector_type"], edit: top("mm_vision_tower", "openai/clip-vit-large-patch14-336") },
  { name: "another decoder", code: "ERR_UNSUPPORTED_MODEL", says: ["text_config.model_type", '"mistral"'], edit: text("model_type", "mistral") },
  { name: "another tower", code: "ERR_UNSUPPORTED_MODEL", says: ["vision_config.model_type", '"siglip_vision_model"'], edit: vision("model_type", "siglip_vision_model") },
  { name: "another activation", code: "ERR_UNSUPPORTED_MODEL", says: ["text_config.hidden_act", '"gelu"'], edit: text("hidden_act", "gelu") },
  { name: "another activation in the tower", code: "ERR_UNSUPPORTED_MODEL", says: ["vision_config.hidden_act", '"relu"'], edit: vision("hidden_act", "relu") },
  { name: "another projector", code: "ERR_UNSUPPORTED_MODEL", says: ["projector_hidden_act", '"relu"'], edit: top("projector_hidden_act", "relu") },
  { name: "a projector without biases", code: "ERR_UNSUPPORTED_MODEL", says: ["multimodal_projector_bias", "false"], edit: top("multimodal_projector_bias", false) },
  { name: "attention with biases", code: "ERR_UNSUPPORTED_MODEL", says: ["text_config.attention_bias", "true"], edit: text("attention_bias", true) },
  { name: "scaled rotation", code: "ERR_UNSUPPORTED_MODEL", says: ["text_config.rope_scaling.type", '"linear"'], edit: text("rope_scaling", { type: "linear", factor: 2 }) },
  { name: "scaled rotation, newer spelling", code: "ERR_UNSUPPORTED_MODEL", says: ["text_config.rope_parameters.rope_type", '"llama3"'], edit: text("rope_parameters", { rope_type: "llama3", rope_theta: 10000 }) },
  { name: "a rotary base of zero", code: "ERR_BAD_CHECKPOINT", says: ["text_config.rope_theta", "0"], edit: text("rope_theta", 0) },
  { name: "quantised weights", code: "ERR_UNSUPPORTED_MODEL", says: ["quantization_config", '"gptq"'], edit: top("quantization_config", { quant_method: "gptq", bits: 4 }) },
  { name: "quantised decoder weights", code: "ERR_UNSUPPORTED_MODEL", says: ["text_config.quantization_config", '"awq"'], edit: text("quantization_config", { quant_method: "awq" }) },
  { name: "features of several layers", code: "ERR_UNSUPPORTED_MODEL", says: ["vision_feature_layer"], edit: top("vision_feature_layer", [-2, -1]) },
  { name: "a feature layer beyond the tower", code: "ERR_BAD_CHECKPOINT", says: ["vision_feature_layer", "-3"], edit: top("vision_feature_layer", -3) },
  { name: "the tower's input for a feature", code: "ERR_UNSUPPORTED_MODEL", says: ["vision_feature_layer"], edit: top("vision_feature_layer", 0) },
  { name: "another selection of features", code: "ERR_UNSUPPORTED_MODEL", says: ["vision_feature_select_strategy", '"cls"'], edit: top("vision_feature_select_strategy", "cls") },
  { name: "no heads", code: "ERR_BAD_CHECKPOINT", says: ["text_config.num_attention_heads", "received 0"], edit: text("num_attention_heads", 0) },
  { name: "no heads in the tower", code: "ERR_BAD_CHECKPOINT", says: ["vision_config.num_attention_heads", "received 0"], edit: vision("num_attention_heads", 0) },
  { name: "no patch", code: "ERR_BAD_CHECKPOINT", says: ["vision_config.patch_size", "received 0"], edit: vision("patch_size", 0) },
  { name: "no tower layers", code: "ERR_BAD_CHECKPOINT", says: ["vision_config.num_hidden_layers", "received 0"], edit: vision("num_hidden_layers", 0) },
  { name: "layers without end", code: "ERR_BAD_CHECKPOINT", says: ["text_config.num_hidden_layers", "512", "1000000"], edit: text("num_hidden_layers", 1_000_000) },
  { name: "half a layer", code: "ERR_BAD_CHECKPOINT", says: ["text_config.num_hidden_layers", "1.5"], edit: text("num_hidden_layers", 1.5) },
  { name: "a number as text", code: "ERR_BAD_CHECKPOINT", says: ["text_config.hidden_size", '"32"'], edit: text("hidden_size", "32") },
  { name: "a negative width", code: "ERR_BAD_CHECKPOINT", says: ["text_config.hidden_size", "-32"], edit: text("hidden_size", -32) },
  { name: "an epsilon of zero", code: "ERR_BAD_CHECKPOINT", says: ["text_config.rms_norm_eps", "received 0"], edit: text("rms_norm_eps", 0) },
  { name: "heads that do not divide the width", code: "ERR_BAD_CHECKPOINT", says: ["text_config.num_attention_heads", "32", "received 3"], edit: text("num_attention_heads", 3) },
  { name: "heads that the KV heads do not divide", code: "ERR_BAD_CHECKPOINT", says: ["text_config.num_key_value_heads", "received 3"], edit: text("num_key_value_heads", 3) },
  { name: "a head width of 4", code: "ERR_UNSUPPORTED_MODEL", says: ["text_config", "multiple of 8", "received 4"], edit: text("num_attention_heads", 8) },
  { name: "a given head width of 20", code: "ERR_UNSUPPORTED_MODEL", says: ["text_config.head_dim", "multiple of 8", "received 20"], edit: text("head_dim", 20) },
  { name: "a head width of 1032", code: "ERR_UNSUPPORTED_MODEL", says: ["text_config", "at most 1024", "received 1032"], edit: config((top) => Object.assign(top.text_config, { hidden_size: 2064 })) },
  { name: "a width of 4", code: "ERR_BAD_CHECKPOINT", says: ["text_config.hidden_size", "from 8", "received 4"], edit: config((top) => Object.assign(top.text_config, { hidden_size: 4, head_dim: 8 })) },
  { name: "more positions than wide heads have angles for", code: "ERR_BAD_CHECKPOINT", says: ["text_config.max_position_embeddings", "to 131072", "received 131073"], edit: config((top) => Object.assign(top.text_config, { head_dim: 1024, max_position_embeddings: 131_073 })) },
  { name: "more patches than an image may have", code: "ERR_UNSUPPORTED_MODEL", says: ["vision_config.image_size / patch_size", "at most 1023", "received 1024"], edit: config((top) => Object.assign(top.vision_config, { image_size: 1024, patch_size: 1 })) },
  { name: "a head width of 4 in the tower", code: "ERR_UNSUPPORTED_MODEL", says: ["vision_config", "multiple of 8", "received 4"], edit: vision("num_attention_heads", 4) },
  { name: "a tower without a width", code: "ERR_BAD_CHECKPOINT", says: ["vision_config.hidden_size", "nothing"], edit: vision("hidden_size", undefined) },
  { name: "a tower that is no object", code: "ERR_BAD_CHECKPOINT", says: ["vision_config", "object", "5"], edit: top("vision_config", 5) },
  { name: "an image that patches do not fill", code: "ERR_UNSUPPORTED_MODEL", says: ["vision_config.image_size", "received 30"], edit: vision("image_size", 30) },
  { name: "one colour", code: "ERR_BAD_CHECKPOINT", says: ["vision_config.num_channels", "received 1"], edit: vision("num_channels", 1) },
  { name: "an image token beyond the vocabulary", code: "ERR_BAD_CHECKPOINT", says: ["image_token_index", "63", "received 64"], edit: top("image_token_index", 64) },
  { name: "two image tokens", code: "ERR_BAD_CHECKPOINT", says: ["image_token_id", "60", "received 61"], edit: top("image_token_id", 61) },
  { name: "an end token beyond the vocabulary", code: "ERR_BAD_CHECKPOINT", says: ["generation_config.json", "eos_token_id", "received 64"], edit: (tiny) => (tiny.generation = { eos_token_id: 64 }) },
  { name: "another resampling", code: "ERR_UNSUPPORTED_MODEL", says: ["preprocessor_config.json", "resample", "received 2"], edit: processor("resample", 2) },
  { name: "another input size", code: "ERR_UNSUPPORTED_MODEL", says: ["preprocessor_config.json", "size", "28", "received 224"], edit: processor("size", { shortest_edge: 224 }) },
  { name: "a crop that is no square", code: "ERR_UNSUPPORTED_MODEL", says: ["preprocessor_config.json", "crop_size", "received 20"], edit: processor("crop_size", { height: 28, width: 20 }) },
  { name: "a resize without regard to shape", code: "ERR_UNSUPPORTED_MODEL", says: ["preprocessor_config.json", "size", "height"], edit: processor("size", { height: 28, width: 28 }) },
  { name: "no normalisation", code: "ERR_UNSUPPORTED_MODEL", says: ["preprocessor_config.json", "do_normalize", "false"], edit: processor("do_normalize", false) },
  { name: "another processor", code: "ERR_UNSUPPORTED_MODEL", says: ["preprocessor_config.json", "image_processor_type", '"SiglipImageProcessor"'], edit: processor("image_processor_type", "SiglipImageProcessor") },
  { name: "another scale", code: "ERR_UNSUPPORTED_MODEL", says: ["preprocessor_config.json", "rescale_factor"], edit: processor("rescale_factor", 1 / 127.5) },
  { name: "a mean of two colours", code: "ERR_BAD_CHECKPOINT", says: ["preprocessor_config.json", "image_mean", "3 numbers"], edit: processor("image_mean", [0.5, 0.5]) },
  { name: "a deviation above a million", code: "ERR_BAD_CHECKPOINT", says: ["preprocessor_config.json", "image_std", "received 1000001"], edit: processor("image_std", [0.5, 1_000_001, 0.5]) },
  { name: "a deviation of zero", code: "ERR_BAD_CHECKPOINT", says: ["preprocessor_config.json", "image_std", "received 0"], edit: processor("image_std", [0.5, 0, 0.5]) },
];

export const brokenCheckpoints: BrokenCheckpoint[] = [...container, ...tensors, ...sharding, ...configs];
