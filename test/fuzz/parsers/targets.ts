/** Every parser of foreign files: how to run it on bytes, what must hold of what it returns, and inputs to begin with. */

import { appendFileSync, existsSync, mkdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import * as assert from "uvu/assert";

import { readItem } from "../../../lib/batch/items.js";
import { readConfig } from "../../../lib/checkpoint/config.js";
import { parseJsonObject, type JsonObject } from "../../../lib/checkpoint/json.js";
import { writeManifest } from "../../../lib/checkpoint/manifest.js";
import { canonicalName } from "../../../lib/checkpoint/names.js";
import { readPreprocessing } from "../../../lib/checkpoint/preprocessing.js";
import { parseSafetensorsHeader, type StoredTensor } from "../../../lib/checkpoint/safetensors.js";
import { readWeightMap, safetensors } from "../../../lib/checkpoint/shards.js";
import { expectedTensors } from "../../../lib/checkpoint/tensors.js";
import { HimapError } from "../../../lib/errors.cjs";
import { parseTokenizerJson, parseTokenizerModel, VocabularyTokenizer } from "../../../lib/tokenizer/index.js";
import type { Vocabulary } from "../../../lib/tokenizer/vocabulary.js";
import type { Message } from "../../../lib/types.js";
import { memorySource } from "../../../weights-tools/byte-source.js";
import { PickledTensor, unpickle } from "../../../weights-tools/pickle.js";
import { safetensorsHeader } from "../../../weights-tools/safetensors-writer.js";
import { readTorchTensors, torchFormat } from "../../../weights-tools/torch-file.js";
import { hostileArchives } from "../../helpers/hostile-archives.js";
import { TinyCheckpoint } from "../../helpers/tiny-checkpoint.js";
import { bytesOf, little, op, pickledDict, pickledTensor, torchEntries, torchFile, zipOf } from "../../helpers/torch-writer.js";
import { jsonForm, modelFile, smallPieces } from "../../helpers/vocabulary.js";

export interface Target {
  /** Throws a HimapError for what is refused; anything else thrown is a finding. */
  run(bytes: Uint8Array): void | Promise<void>;
  seeds(): Uint8Array[];
  /** Words of the format. */
  words: readonly string[];
}

const golden = fileURLToPath(new URL("../../golden/", import.meta.url));
const goldenFile = (name: string): Buffer => readFileSync(path.join(golden, name));
const limits = { depth: 64, values: 100_000, objects: 100_000 };
const json = (value: unknown): Buffer => Buffer.from(JSON.stringify(value));

/** Every range lies in the file and is as long as its shape says. */
function checkRanges(tensors: readonly StoredTensor[], size: number): void {
  const width: Record<string, number> = { F64: 8, I64: 8, F32: 4, I32: 4, F16: 2, BF16: 2, I16: 2, U8: 1, I8: 1, BOOL: 1 };
  for (const { name, type, shape, offset, bytes } of tensors) {
    assert.type(name, "string");
    assert.ok(
      Number.isSafeInteger(offset) && offset >= 0 && bytes >= 0 && offset + bytes <= size,
      `${offset} + ${bytes} of ${size}`,
    );
    if (type in width) assert.is(shape.reduce((product, side) => product * side, 1) * width[type]!, bytes);
    canonicalName(name);
  }
}

/** Data behind the headers of the seeds. */
const headerData = 64;
const headers = [
  [{ name: "a", type: "F32", shape: [2, 4], bytes: 32 }, { name: "b", type: "F16", shape: [16], bytes: 32 }],
  [{ name: "", type: "F4", shape: [128], bytes: 64 }, { name: "scalar", type: "U8", shape: [0], bytes: 0 }],
  [{ name: "model.layers.0.self_attn.rotary_emb.inv_freq", type: "I64", shape: [1, 8], bytes: 64 }],
].map((tensors) => safetensorsHeader(tensors));

const safetensorsTarget: Target = {
  // Text that begins like a header is given its length and its data; other bytes are a file as they are.
  run(bytes) {
    const file = bytes[0] === 0x7b ? bytesOf(little(8, bytes.length), bytes) : bytes;
    const size = file.length + (bytes[0] === 0x7b ? headerData : 0);
    checkRanges(parseSafetensorsHeader(file, size, "f"), size);
  },
  seeds: () => [
    ...headers.map((header) => header.subarray(8)),
    ...headers.map((header) => bytesOf(header, new Uint8Array(headerData))),
  ],
  words: [
    "dtype", "shape", "data_offsets", "__metadata__", "format", "F32", "F16", "BF16", "I64", "F6_E2M3", "BOOL",
    '"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},',
  ],
};

const indexTarget: Target = {
  run(bytes) {
    const format = Buffer.from(bytes).includes(torchFormat.suffix) ? torchFormat : safetensors;
    for (const [shard, tensors] of readWeightMap(parseJsonObject(bytes, "i", limits), format)) {
      assert.ok(path.basename(shard) === shard && shard !== ".." && shard.endsWith(format.suffix) && tensors.size > 0, shard);
    }
  },
  seeds: () => [
    json({ metadata: { total_size: 3 }, weight_map: { a: "x.safetensors", b: "y.safetensors", c: "x.safetensors" } }),
    json({ weight_map: { "model.norm.weight": "pytorch_model-00001-of-00002.bin" } }),
  ],
  words: ["weight_map", "metadata", "total_size", "../x.safetensors", "/x.safetensors", "x.bin", "a\\\\b.bin", "\\u0000.bin"],
};

const tower = {
  hidden_size: 64,
  image_size: 140,
  intermediate_size: 128,
  num_attention_heads: 1,
  num_hidden_layers: 3,
  patch_size: 14,
};

function section(object: JsonObject, key: string): JsonObject | undefined {
  const value = object.get(key);
  return value instanceof Map ? value : undefined;
}

const configTarget: Target = {
  // One object holds all the files that are read together.
  run(bytes) {
    const files = parseJsonObject(bytes, "c", limits);
    const facts = readConfig(section(files, "config") ?? new Map(), section(files, "generation"), section(files, "tower"));
    const { model, towerLayers, tokens } = facts;
    for (const value of [...Object.values(model), ...Object.values(model.vision)]) {
      if (typeof value === "number") assert.ok(Number.isFinite(value) && value > 0, JSON.stringify(model));
    }
    assert.ok(model.vision.layers >= 1 && model.vision.layers <= towerLayers && tokens.eos < model.vocabulary);
    const { mean, std } = readPreprocessing(section(files, "processor"), "p", model.vision.imageSize);
    assert.ok([...mean, ...std].every(Number.isFinite) && std.every((value) => value > 0));
    if (model.layers > 64 || towerLayers > 64) return;
    const tensors = expectedTensors(facts);
    assert.is(new Set(tensors.map(({ name }) => name)).size, tensors.length);
    for (const { name, shape } of tensors) {
      assert.is(canonicalName(name), name);
      assert.ok(Number.isSafeInteger(shape.reduce((product, side) => product * side, 1)), `${name} [${shape}]`);
    }
  },
  seeds: () => {
    const parse = (file: string): unknown => JSON.parse(goldenFile(file).toString());
    const of = (name: string): Buffer =>
      json({
        config: parse(`${name}/checkpoint/config.json`),
        generation: parse(`${name}/checkpoint/generation_config.json`),
        processor: parse(`${name}/checkpoint/preprocessor_config.json`),
      });
    const original = {
      config: parse("original/checkpoint/config.json"), generation: parse("original/checkpoint/generation_config.json"),
      tower: parse("original/checkpoint-clip/config.json"), processor: parse("original/checkpoint-clip/preprocessor_config.json"),
    };
    const { config, generation, processor } = new TinyCheckpoint();
    return [
      ...["mha", "gqa", "full576", "hd128"].map(of),
      json(original),
      json({ ...original, tower }),
      json({ config, generation, processor }),
      json({ config: { model_type: "llava" } }),
    ];
  },
  words: [
    "text_config", "vision_config", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
    "head_dim", "rope_theta", "rope_scaling", "rope_parameters", "rope_type", "vision_feature_layer",
    "vision_feature_select_strategy", "full", "tie_word_embeddings", "image_token_index", "image_token_id", "mm_vision_tower",
    "mm_projector_type", "mm_vision_select_layer", "mm_vision_select_feature", "cls_patch", "image_aspect_ratio", "pad",
    "square", "quantization_config", "shortest_edge", "height", "LlavaImageProcessor", "do_pad", "resample", "bos_token_id",
    "eos_token_id", "clip_vision_model", "quick_gelu", "gelu", "config", "generation", "tower", "processor",
  ],
};

/** What a vocabulary makes of texts are its own ids, and decoding them never fails. */
function checkVocabulary(vocabulary: Vocabulary): void {
  const tokenizer = new VocabularyTokenizer(vocabulary);
  for (const text of ["", "a b", " ab\n<0x41>é猫</s>"]) {
    const ids = tokenizer.encode(text);
    assert.ok(ids.every((id) => Number.isInteger(id) && id >= 0 && id < tokenizer.size), String(ids));
    assert.type(tokenizer.decode(ids), "string");
  }
  for (const id of [tokenizer.bos, tokenizer.eos, tokenizer.unk]) assert.ok(id >= 0 && id < tokenizer.size, String(id));
}

const tokenizerJsonTarget: Target = {
  run: (bytes) => checkVocabulary(parseTokenizerJson(bytes, "t")),
  seeds: () => [
    json(jsonForm(smallPieces(), "prepend")),
    json(jsonForm(smallPieces(), "first", "pairs")),
    goldenFile("hd128/checkpoint/tokenizer.json"),
  ],
  words: [
    "model", "vocab", "merges", "added_tokens", "BPE", "unk_token", "byte_fallback", "normalizer", "pre_tokenizer",
    "post_processor", "Prepend", "Replace", "Sequence", "Metaspace", "prepend_scheme", "first", "always", "never",
    "ignore_merges", "dropout", "special", "content", "<s>", "</s>", "<unk>",
  ],
};

const tokenizerModelTarget: Target = {
  run: (bytes) => checkVocabulary(parseTokenizerModel(bytes, "t")),
  seeds: () => [modelFile(smallPieces()), goldenFile("original/checkpoint/tokenizer.model")],
  words: [
    "\x0a", "\x12", "\x1a", "\x18\x01", "\x18\x06", "\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01", "<unk>", "<s>", "<0x41>",
    "identity", "nmt_nfkc",
  ],
};

const pickleWords = [
  ...[
    ...op.proto, op.dict, op.list, op.emptyTuple, op.mark, op.tuple, op.tuple1, op.tuple2, op.tuple3, op.none, op.yes,
    op.setItem, op.setItems, op.append, op.appends, op.persistent, op.reduce, op.build, op.stop,
  ].map((code) => Buffer.from(typeof code === "number" ? [code] : code)),
  pickledTensor({ shape: [2, 3] }),
  op.text("w"), op.int(3), op.put(0), op.get(0), op.float(1),
  ...["collections OrderedDict", "torch FloatStorage", "torch Size", "torch._utils _rebuild_parameter", "os system"].map(
    op.global,
  ),
].map((word) => Buffer.from(word).toString("latin1"));

const storage = 24;
const pickles = (): Uint8Array[] => [
  pickledDict([
    { name: "a", shape: [2, 3] },
    { name: "b", storage: "torch HalfStorage", shape: [4] },
    { name: "c", shape: [] },
  ]),
  bytesOf(
    op.proto, op.global("collections OrderedDict"), op.emptyTuple, op.reduce, op.put(0), op.mark, op.text("w"),
    pickledTensor({ elements: 6, offset: 2, shape: [4] }),
    op.setItems, op.dict, op.text("_metadata"), op.get(0), op.setItem, op.build, op.stop,
  ),
];

const pickleTarget: Target = {
  run(bytes) {
    const walk = unpickle(bytes, "p", (key) => (Number(key) < 4 ? storage : undefined));
    if (!(walk instanceof PickledTensor)) return;
    assert.ok((walk.offset + walk.elements) * walk.storage.size <= storage);
  },
  seeds: pickles,
  words: pickleWords,
};

const torchTarget: Target = {
  // What begins like a pickle is put into an archive that is whole; other bytes are the archive.
  async run(bytes) {
    const file = bytes[0] === 0x80 ? zipOf(torchEntries(bytes, Array.from({ length: 4 }, () => new Uint8Array(storage)))) : bytes;
    checkRanges(await readTorchTensors(memorySource(file, "b")), file.length);
  },
  seeds: () => [
    torchFile([
      { name: "a", shape: [2, 3] },
      { name: "b", storage: "torch HalfStorage", shape: [4] },
    ]),
    zipOf(
      torchEntries(
        pickles()[0]!,
        Array.from({ length: 3 }, () => new Uint8Array(storage)),
      ).map((entry) => ({ ...entry, lies: { local64: true } })),
      { end64: {} },
    ),
    ...pickles(),
    ...hostileArchives
      .filter(({ name }) => name.startsWith("zip: "))
      .map(({ bytes }) => bytes())
      .filter(({ length }) => length < 4096),
  ],
  words: [
    ...pickleWords, "PK\x03\x04", "PK\x01\x02", "PK\x05\x06", "PK\x06\x06", "PK\x06\x07", "archive/data/0",
    "archive/data.pkl", "\xff\xff\xff\xff",
  ],
};

const manifestTarget: Target = {
  // The bytes name the files; each line stays one line, and a path comes back as it was.
  run(bytes) {
    const text = Buffer.from(bytes).toString("utf8");
    const { model } = readConfig(
      new Map<string, string | number>([
        ["model_type", "llava"],
        ["image_token_index", 1],
      ]),
      undefined,
    );
    const paths = text.split("\0");
    const tensors = paths.map((_, file) => ({
      name: `t${file}`,
      type: "F16" as const,
      shape: [file],
      file,
      offset: 2 ** 53 - 1,
      bytes: 2 * file,
    }));
    const lines = writeManifest({ config: model, files: paths.map((location) => ({ path: location, bytes: 7 })), tensors }).split(
      "\n",
    );
    assert.is(lines.pop(), "");
    assert.is(lines.pop(), "end");
    const found = lines.filter((line) => line.startsWith("file ")).map((line) => /^file 7 ([A-Za-z0-9/._%-]*)$/.exec(line)?.[1]);
    assert.equal(found.map((escaped) => decodeURIComponent(escaped!)), paths.map((location) => Buffer.from(location).toString()));
    assert.ok(lines.every((line) => /^[\x21-\x7e]+(?: [\x21-\x7e]*)*$/.test(line)));
  },
  seeds: () => ["/models/llava-1.5/model.safetensors", "/a b/%41\n猫\0/x", ""].map((text) => Buffer.from(text)),
  words: ["\n", " ", "%", "\0", "end", "file 7 x"],
};

const jobTarget: Target = {
  // A bad line is its item's failure: it is returned, and nothing is thrown.
  run(bytes) {
    const { id, request } = readItem(Buffer.from(bytes), "/jobs", { options: { maxTokens: 8 }, system: "Be brief." });
    assert.ok(id === undefined || Number.isFinite(id) || (typeof id === "string" && id !== "" && !/^#\d+$/.test(id)), String(id));
    if (request instanceof HimapError) throw request;
    const pictures = request.messages.flatMap((message) => {
      const content: unknown = (message as Message | null)?.content;
      return Array.isArray(content) ? content.flatMap((part: { image?: { path?: string } | URL } | null) => part?.image ?? []) : [];
    });
    assert.ok(pictures.every((image) => (image instanceof URL ? image.protocol === "file:" : path.isAbsolute(image.path!))));
  },
  seeds: () => [
    json({ id: "a", prompt: "What?", image: "1.png", options: { maxTokens: 2, pruning: [{ before: 0, score: { kept: [1, 5] } }] } }),
    json({ id: 7, prompt: "Which?", images: ["1.png", { path: "/2.png" }, "file:///3.png"], system: "Be long." }),
    json({ messages: [{ role: "user", content: [{ type: "image", image: "1.png" }, { type: "text", text: "猫" }] }] }),
    json({ messages: [{ role: "system", content: "x" }, { role: "user", content: "y" }], options: { pruning: "himap" } }),
  ],
  words: ["id", "prompt", "image", "images", "system", "messages", "options", "pruning", "cuts", "score", "kept", "weights", "__proto__", "https://x/y.png", "data:,", "#3"],
};

export const targets: Readonly<Record<string, Target>> = {
  "safetensors": safetensorsTarget,
  "index": indexTarget,
  "config": configTarget,
  "tokenizer.json": tokenizerJsonTarget,
  "tokenizer.model": tokenizerModelTarget,
  "pickle": pickleTarget,
  "torch": torchTarget,
  "manifest": manifestTarget,
  "job": jobTarget,
};

const corpusFile = (name: string): string => fileURLToPath(new URL(`corpus/${name}.txt`, import.meta.url));

/** Inputs that once reached new code, one a line in base64: they are run before anything is made of them. */
export function keptInputs(name: string): Uint8Array[] {
  const file = corpusFile(name);
  if (!existsSync(file)) return [];
  return readFileSync(file, "utf8").split("\n").filter(Boolean).map((line) => Buffer.from(line, "base64"));
}

/** Adds inputs to those that are kept. */
export function keepInputs(name: string, inputs: readonly Uint8Array[]): void {
  const file = corpusFile(name);
  mkdirSync(path.dirname(file), { recursive: true });
  appendFileSync(file, inputs.map((input) => `${Buffer.from(input).toString("base64")}\n`).join(""));
}
