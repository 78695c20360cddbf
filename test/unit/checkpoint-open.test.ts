import { mkdirSync, readFileSync, readdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

import { test } from "uvu";
import * as assert from "uvu/assert";

import { readConfig } from "../../lib/checkpoint/config.js";
import { openCheckpoint, type ModelConfig } from "../../lib/checkpoint/index.js";
import { parseJsonObject } from "../../lib/checkpoint/json.js";
import { canonicalName } from "../../lib/checkpoint/names.js";
import { expectedTensors } from "../../lib/checkpoint/tensors.js";
import { HimapError } from "../../lib/errors.cjs";
import { TinyCheckpoint, weight, withFolder, type Json } from "../helpers/tiny-checkpoint.js";

const golden = (name: string): string => fileURLToPath(new URL(`../golden/${name}/checkpoint`, import.meta.url));
const factsOf = (config: Json) => readConfig(parseJsonObject(Buffer.from(JSON.stringify(config)), "config.json", { depth: 9, values: 999, objects: 999 }), undefined);

/** Opens a tiny checkpoint after a change. */
function openTiny(change: (tiny: TinyCheckpoint) => void) {
  return withFolder((folder) => {
    const tiny = new TinyCheckpoint();
    change(tiny);
    tiny.write(folder);
    return openCheckpoint(folder);
  });
}

/** What the configs of the reference checkpoints mean, absent fields filled by hand. */
const common = { vocabulary: 448, maxPositions: 4096 };
const tower = { patchSize: 14, eps: 1e-5, activation: "quick_gelu", keepClass: false } as const;
const goldens: Record<string, { config: ModelConfig; type: string; files: number; tensors: number }> = {
  mha: {
    config: {
      ...common, hidden: 128, ffn: 176, layers: 5, heads: 2, kvHeads: 2, headDim: 64, rmsEps: 1e-5, ropeTheta: 10_000, imageTokens: 64,
      vision: { ...tower, hidden: 64, ffn: 128, layers: 2, heads: 1, imageSize: 112 },
    },
    type: "F32", files: 1, tensors: 89,
  },
  gqa: {
    config: {
      ...common, hidden: 256, ffn: 208, layers: 6, heads: 4, kvHeads: 2, headDim: 64, rmsEps: 1e-6, ropeTheta: 10_000, imageTokens: 144,
      vision: { ...tower, hidden: 128, ffn: 192, layers: 2, heads: 2, imageSize: 168 },
    },
    type: "BF16", files: 3, tensors: 98,
  },
  full576: {
    config: {
      ...common, hidden: 128, ffn: 144, layers: 10, heads: 2, kvHeads: 2, headDim: 64, rmsEps: 1e-5, ropeTheta: 10_000, imageTokens: 576,
      vision: { ...tower, hidden: 64, ffn: 128, layers: 2, heads: 1, imageSize: 336 },
    },
    type: "F16", files: 1, tensors: 134,
  },
  hd128: {
    config: {
      ...common, hidden: 256, ffn: 160, layers: 5, heads: 2, kvHeads: 1, headDim: 128, rmsEps: 1e-5, ropeTheta: 500_000, imageTokens: 64,
      vision: { ...tower, hidden: 64, ffn: 96, layers: 1, heads: 1, imageSize: 112 },
    },
    type: "F16", files: 1, tensors: 73,
  },
};

for (const [name, wanted] of Object.entries(goldens)) {
  test(`the reference checkpoint ${name} opens`, async () => {
    const checkpoint = await openCheckpoint(golden(name));
    assert.equal(checkpoint.config, wanted.config);
    assert.is(checkpoint.family, "llava");
    assert.is(checkpoint.template, "hf");
    assert.equal(checkpoint.tokens, { bos: 1, eos: 2, image: 400 });
    assert.equal(checkpoint.preprocessing, {
      imageAspectRatio: "crop", mean: [0.48145466, 0.4578275, 0.40821073], std: [0.26862954, 0.26130258, 0.27577711],
    });
    assert.is(checkpoint.files.length, wanted.files);
    assert.is(checkpoint.tensors.length, wanted.tensors);
    assert.ok(checkpoint.tensors.every(({ type }) => type === wanted.type));
    assert.is(checkpoint.manifest.split("\n").filter((line) => line.startsWith("tensor ")).length, wanted.tensors);
  });
}

test("an entry's range holds the tensor's bytes", async () => {
  const { files, tensors } = await openCheckpoint(golden("gqa"));
  for (const { name, file, offset, bytes } of tensors) {
    const { path: source } = files[file]!;
    const content = readFileSync(source);
    const length = Number(content.readBigUInt64LE());
    const header = JSON.parse(content.subarray(8, 8 + length).toString()) as Record<string, { data_offsets: [number, number] }>;
    const stored = Object.keys(header).find((key) => key !== "__metadata__" && canonicalName(key) === name)!;
    assert.equal([offset, offset + bytes], header[stored]!.data_offsets.map((at) => at + 8 + length), name);
  }
});

test("four generations of names come down to one", async () => {
  const generations: Record<string, (name: string) => string> = {
    "as published": (name) => name,
    "4.52": (name) => (name === "language_model.lm_head.weight" ? "lm_head.weight" : `model.${name.replace("language_model.model.", "language_model.")}`),
    "5.6": (name) =>
      name === "language_model.lm_head.weight"
        ? "lm_head.weight"
        : `model.${name.replace("language_model.model.", "language_model.").replace("vision_tower.vision_model.", "vision_tower.")}`,
    "5.23": (name) => name.replace("vision_tower.vision_model.", "vision_tower."),
  };
  const published = await openTiny(() => {});
  for (const [generation, rename] of Object.entries(generations)) {
    const { tensors } = await openTiny((tiny) => tiny.rename(rename));
    assert.equal(tensors.map(({ name, shape }) => [name, shape]), published.tensors.map(({ name, shape }) => [name, shape]), generation);
  }
});

test("buffers that some versions saved are ignored", async () => {
  const { tensors } = await openTiny((tiny) => {
    tiny.tensors.set("a", weight("vision_tower.vision_model.embeddings.position_ids", [1, 5], "I64"));
    tiny.tensors.set("b", weight("language_model.model.layers.0.self_attn.rotary_emb.inv_freq", [8], "F32"));
  });
  assert.not.ok(tensors.some(({ name }) => /position_ids|inv_freq/.test(name)));
});

test("what lies behind the tower's layer that is read may be absent", async () => {
  const whole = await openTiny(() => {});
  const short = await openTiny((tiny) => {
    for (const name of tiny.tensors.keys()) if (/vision_model\.(?:encoder\.layers\.1|post_layernorm)\./.test(name)) tiny.tensors.delete(name);
  });
  assert.equal(short.tensors.map(({ name }) => name), whole.tensors.map(({ name }) => name));
  assert.not.ok(whole.tensors.some(({ name }) => /layers\.1\.mlp\.fc1|post_layernorm/.test(name)));
});

test("the layer that is read counts from either end", async () => {
  for (const [layer, run] of [[-1, 2], [-2, 1], [1, 1], [2, 2], [undefined, 1], [null, 1]] as const) {
    const { config, tensors } = await openTiny((tiny) => (tiny.config.vision_feature_layer = layer));
    assert.is(config.vision.layers, run, String(layer));
    assert.is(tensors.filter(({ name }) => name.endsWith("fc1.weight")).length, run);
  }
});

test("the class row counts where it is kept", async () => {
  const { config } = await openTiny((tiny) => (tiny.config.vision_feature_select_strategy = "full"));
  assert.ok(config.vision.keepClass);
  assert.is(config.imageTokens, 5);
});

test("7B and 13B as published: absent fields mean the library's defaults", () => {
  const vision = { hidden_size: 1024, image_size: 336, intermediate_size: 4096, model_type: "clip_vision_model", num_attention_heads: 16, num_hidden_layers: 24, patch_size: 14 };
  const text = { max_position_embeddings: 4096, model_type: "llama", rms_norm_eps: 1e-5, vocab_size: 32_064 };
  const wide = { hidden_size: 5120, intermediate_size: 13_824, num_attention_heads: 40, num_hidden_layers: 40, num_key_value_heads: 40 };
  const published = { model_type: "llava", image_token_index: 32_000, vision_config: vision };
  const sizes: [Json, number, number][] = [
    [{ ...published, text_config: text }, 686, 7_063_427_072],
    [{ ...published, text_config: { ...text, ...wide } }, 758, 13_351_494_656],
  ];
  for (const [config, count, parameters] of sizes) {
    const tensors = expectedTensors(factsOf(config));
    assert.is(tensors.length, count);
    assert.is(tensors.reduce((sum, { shape }) => sum + shape.reduce((product, side) => product * side, 1), 0), parameters);
  }
  const { model } = factsOf(sizes[0]![0]);
  assert.is(model.imageTokens, 576);
  assert.is(model.vision.layers, 23);
  const bare = factsOf({ model_type: "llava", image_token_index: 31_999 });
  assert.equal(bare.model, { ...model, vocabulary: 32_000, rmsEps: 1e-6, maxPositions: 2048 });
});

test("newer spellings", async () => {
  const { config, tokens } = await openTiny((tiny) => {
    delete tiny.config.image_token_index;
    tiny.config.image_token_id = 59;
    tiny.config.dtype = "float16";
    tiny.config.text_config.rope_parameters = { rope_theta: 5e5, rope_type: "default" };
    tiny.config.text_config.rope_scaling = null;
  });
  assert.is(config.ropeTheta, 5e5);
  assert.is(tokens.image, 59);
});

test("heads wider than the model, and fewer of keys and values", async () => {
  const { config, tensors } = await openTiny((tiny) => {
    Object.assign(tiny.config.text_config, { num_attention_heads: 4, num_key_value_heads: 2, head_dim: 24 });
    tiny.fill();
  });
  assert.is(config.headDim, 24);
  const shapes = new Map(tensors.map(({ name, shape }) => [name.split(".").slice(-2)[0], shape]));
  assert.equal(shapes.get("q_proj"), [96, 32]);
  assert.equal(shapes.get("k_proj"), [48, 32]);
  assert.equal(shapes.get("o_proj"), [32, 96]);
});

test("a tied head is the embedding, whether the file repeats it or not", async () => {
  const plain = await openTiny(() => {});
  for (const repeat of [true, false]) {
    const { tensors, parameters } = await openTiny((tiny) => {
      tiny.config.tie_word_embeddings = true;
      if (!repeat) tiny.tensors.delete("language_model.lm_head.weight");
    });
    const [head, embedding] = ["lm_head.weight", "language_model.embed_tokens.weight"].map((name) => tensors.find((tensor) => tensor.name === name)!);
    assert.equal({ ...head, name: "" }, { ...embedding, name: "" });
    assert.is(parameters, plain.parameters - 64 * 32);
    assert.is(tensors.length, plain.tensors.length);
  }
});

test("types may differ from tensor to tensor", async () => {
  const name = "language_model.model.norm.weight";
  const { tensors } = await openTiny((tiny) => tiny.tensors.set(name, weight(name, [32], "F32")));
  assert.equal(new Set(tensors.map(({ type }) => type)), new Set(["F16", "F32"]));
});

test("one end token from generation_config.json, and no sampling settings", async () => {
  const { tokens } = await openTiny((tiny) => (tiny.generation = { eos_token_id: 7, temperature: 0.2, top_p: 0.6 }));
  assert.equal(tokens, { bos: 1, eos: 7, image: 60 });
  assert.equal((await openTiny((tiny) => (tiny.generation = undefined))).tokens, { bos: 1, eos: 2, image: 60 });
});

test("the processor's settings: absent, padding, and in the shared file", async () => {
  const crop = await openTiny((tiny) => (tiny.processor = undefined));
  assert.is(crop.preprocessing.imageAspectRatio, "crop");
  const pad = await openTiny((tiny) => Object.assign(tiny.processor!, { image_processor_type: "LlavaImageProcessor", do_pad: true }));
  assert.is(pad.preprocessing.imageAspectRatio, "pad");
  const other = await openTiny((tiny) => Object.assign(tiny.processor!, { image_mean: [0.5, 0.5, 0.5], image_std: [0.25, 0.25, 0.25] }));
  assert.equal(other.preprocessing, { imageAspectRatio: "crop", mean: [0.5, 0.5, 0.5], std: [0.25, 0.25, 0.25] });
  await withFolder(async (folder) => {
    const tiny = new TinyCheckpoint();
    tiny.processor = { image_processor: { ...tiny.processor, image_std: [0.5, 0.5, 0.5] }, image_token: "<image>" };
    tiny.write(folder);
    renameSync(path.join(folder, "preprocessor_config.json"), path.join(folder, "processor_config.json"));
    assert.equal((await openCheckpoint(folder)).preprocessing.std, [0.5, 0.5, 0.5]);
  });
});

test("files may be links, as in the Hub's cache", async () => {
  await withFolder(async (folder) => {
    new TinyCheckpoint().write(path.join(folder, "blobs"));
    const snapshot = path.join(folder, "snap shot %");
    mkdirSync(snapshot);
    for (const name of readdirSync(path.join(folder, "blobs"))) symlinkSync(path.join("..", "blobs", name), path.join(snapshot, name));
    const { files, manifest } = await openCheckpoint(snapshot);
    assert.is(files[0]!.path, path.join(snapshot, "model.safetensors"));
    assert.match(manifest, /\/snap%20shot%20%25\/model\.safetensors\n/);
  });
});

test("the fingerprint is the same for the same files, and another for others", async () => {
  const first = (await openTiny(() => {})).fingerprint;
  assert.match(first, /^[0-9a-f]{64}$/);
  assert.is((await openTiny(() => {})).fingerprint, first);
  assert.is.not((await openTiny((tiny) => (tiny.config.text_config.rms_norm_eps = 1e-6))).fingerprint, first);
  assert.is.not((await openTiny((tiny) => tiny.rename((name) => `${name}`.replace("vision_model.", "")))).fingerprint, first);
  assert.is.not((await openTiny((tiny) => (tiny.generation!["eos_token_id"] = 3))).fingerprint, first);
  assert.is.not((await openTiny((tiny) => (tiny.processor!["image_std"] = [0.5, 0.5, 0.5]))).fingerprint, first);
  await withFolder(async (folder) => {
    new TinyCheckpoint().write(folder);
    const seen = new Set([first]);
    const isNew = async (): Promise<void> => {
      const { fingerprint } = await openCheckpoint(folder);
      assert.not.ok(seen.has(fingerprint));
      seen.add(fingerprint);
    };
    const { fingerprint, tensors } = await openCheckpoint(folder);
    assert.is(fingerprint, first);
    // Another fine-tune: the same header, other weights.
    const file = path.join(folder, "model.safetensors");
    const bytes = readFileSync(file);
    bytes[tensors[0]!.offset + tensors[0]!.bytes / 2]! ^= 1;
    writeFileSync(file, bytes);
    await isNew();
    writeFileSync(path.join(folder, "tokenizer.json"), "{}");
    await isNew();
  });
});

async function refusal(folder: string): Promise<HimapError> {
  const error = await openCheckpoint(folder).then(() => undefined, (thrown: unknown) => thrown);
  assert.instance(error, HimapError);
  return error as HimapError;
}

test("what is no folder is refused with what to do about it", async () => {
  const hub = await refusal("llava-hf/llava-1.5-7b-hf");
  assert.is(hub.code, "ERR_INVALID_ARG");
  assert.match(hub.hint!, /nothing is fetched.*hf download llava-hf\/llava-1\.5-7b-hf --local-dir llava-1\.5-7b-hf$/);
  assert.not.match((await refusal("/no/such/folder")).hint!, "hf download");
  await withFolder(async (folder) => {
    for (const [name, says] of [["model.Q4_K.gguf", /GGUF is not read.*safetensors/], ["model.safetensors", /the folder that holds/]] as const) {
      writeFileSync(path.join(folder, name), "x");
      const { code, hint } = await refusal(path.join(folder, name));
      assert.is(code, "ERR_INVALID_ARG");
      assert.match(hint!, says);
    }
  });
});

test("a Git LFS pointer is named as one, whichever file it stands for", async () => {
  for (const name of ["config.json", "model.safetensors", "tokenizer.json", "tokenizer.model"]) {
    await withFolder(async (folder) => {
      new TinyCheckpoint().write(folder);
      writeFileSync(path.join(folder, name), "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n");
      const { code, message, hint } = await refusal(folder);
      assert.is(code, "ERR_BAD_CHECKPOINT");
      assert.ok(message.startsWith(`${name}: expected the file itself`) && message.endsWith("a Git LFS pointer to it"), message);
      assert.match(hint!, "git lfs pull");
    });
  }
});

test("an aborted signal ends the opening with its reason", async () => {
  const reason = new Error("enough");
  const error = await openCheckpoint(golden("mha"), { signal: AbortSignal.abort(reason) }).catch((thrown: unknown) => thrown);
  assert.instance(error, HimapError);
  assert.is((error as HimapError).code, "ERR_ABORTED");
  assert.is((error as HimapError).cause, reason);
  const controller = new AbortController();
  const opening = openCheckpoint(golden("gqa"), { signal: controller.signal });
  controller.abort(reason);
  assert.is(await opening.catch((thrown: HimapError) => thrown.cause), reason);
});

test("nothing is left open", async () => {
  if (process.platform !== "linux") return;
  const before = readdirSync("/proc/self/fd").length;
  for (let round = 0; round < 20; round++) {
    await openCheckpoint(golden("gqa"));
    await withFolder(async (folder) => {
      const tiny = new TinyCheckpoint();
      tiny.editHeader = () => "{";
      tiny.write(folder);
      await openCheckpoint(folder).catch(() => {});
    });
  }
  assert.is(readdirSync("/proc/self/fd").length, before);
});

test("a folder may be removed after it was opened", async () => {
  await withFolder(async (folder) => {
    new TinyCheckpoint().write(folder);
    const { files } = await openCheckpoint(folder);
    rmSync(folder, { recursive: true });
    assert.is(files.length, 1);
  });
});

test.run();
