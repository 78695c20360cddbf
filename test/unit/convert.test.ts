import { spawnSync } from "node:child_process";
import {
  closeSync, constants, cpSync, existsSync, mkdirSync, openSync, readdirSync, readFileSync, readSync, renameSync, rmSync,
  truncateSync, writeFileSync, writeSync,
} from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

import { test } from "uvu";
import * as assert from "uvu/assert";

import { openCheckpoint } from "../../lib/checkpoint/index.js";
import { HimapError, type ErrorCode } from "../../lib/errors.cjs";
import { openSource, readInto } from "../../weights-tools/byte-source.js";
import { convertCheckpoint, type ConvertOptions } from "../../weights-tools/convert.js";
import { torchFormat } from "../../weights-tools/torch-file.js";
import { verifyCheckpoint } from "../../weights-tools/verify.js";
import { TinyCheckpoint, withFolder, type Json } from "../helpers/tiny-checkpoint.js";
import { pickledDict, torchFile, zipOf, type TensorToPickle } from "../helpers/torch-writer.js";

const golden = fileURLToPath(new URL("../golden/original", import.meta.url));
const source = `${golden}/checkpoint`;
const vision = `${golden}/checkpoint-clip`;

async function failure(promise: Promise<unknown>): Promise<HimapError> {
  const outcome: unknown = await promise.then(() => "done", (error: unknown) => error);
  assert.instance(outcome, HimapError, String(outcome));
  return outcome as HimapError;
}

/** A copy of the golden original that a test may spoil; `out` does not exist. */
function withOriginal(use: (folders: { own: string; clip: string; out: string }) => Promise<void>): Promise<void> {
  return withFolder(async (folder) => {
    const [own, clip, out] = ["own", "clip", "out"].map((name) => path.join(folder, name)) as [string, string, string];
    cpSync(source, own, { recursive: true });
    cpSync(vision, clip, { recursive: true });
    await use({ own, clip, out });
    assert.equal(readdirSync(folder).filter((name) => name.includes("partial")), [], "nothing half done stays");
  });
}

function editJson(file: string, change: (json: Json) => void): void {
  const json = JSON.parse(readFileSync(file, "utf8")) as Json;
  change(json);
  writeFileSync(file, JSON.stringify(json));
}

/** Every tensor's bytes by its stored name. */
async function contents(folder: string, read = openCheckpoint): Promise<Map<string, string>> {
  const { tensors, files } = await read(folder);
  return new Map(tensors.map(({ name, file, offset, bytes }) => [name, readRange(files[file]!.path, offset, bytes)]));
}

function readRange(file: string, offset: number, bytes: number): string {
  const handle = openSync(file, "r");
  const buffer = Buffer.alloc(bytes);
  readSync(handle, buffer, 0, bytes, offset);
  closeSync(handle);
  return buffer.toString("base64");
}

test("values are copied byte for byte, whatever the number of files", () =>
  withOriginal(async ({ out }) => {
    const one = await convertCheckpoint(source, out, { vision });
    const many = await convertCheckpoint(source, `${out}-many`, { vision, shardBytes: 300_000 });
    assert.equal(one.files.map(({ name }) => name), ["model.safetensors"]);
    assert.ok(many.files.length > 5);
    assert.is(many.files[0]!.name, `model-00001-of-${String(many.files.length).padStart(5, "0")}.safetensors`);
    for (const { name, bytes } of many.files) assert.is(readFileSync(path.join(many.folder, name)).length, bytes);
    const [first, second] = [await contents(one.folder), await contents(many.folder)];
    assert.equal([...first], [...second]);
    assert.is(first.size, one.tensors);

    const stored = new Map<string, string>();
    for (const name of ["pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"]) {
      const file = (await torchFormat.read(source, name))!;
      for (const tensor of file.tensors) stored.set(tensor.name, readRange(file.path, tensor.offset, tensor.bytes));
    }
    assert.is(first.get("language_model.layers.3.mlp.down_proj.weight"), stored.get("model.layers.3.mlp.down_proj.weight"));
    assert.is(first.get("multi_modal_projector.linear_2.bias"), stored.get("model.mm_projector.2.bias"));
    assert.is(first.get("lm_head.weight"), stored.get("lm_head.weight"));
  }));

test("tensors lie aligned to their type", () =>
  withOriginal(async ({ out }) => {
    await convertCheckpoint(source, out, { vision });
    for (const { name, type, offset } of (await openCheckpoint(out)).tensors) {
      assert.is(offset % (type === "F32" ? 4 : 2), 0, name);
    }
  }));

test("the converted folder says what the original does", () =>
  withOriginal(async ({ out }) => {
    await convertCheckpoint(source, out, { vision });
    const { template, preprocessing, tokens, config } = await openCheckpoint(out);
    assert.is(template, "vicuna_v1");
    assert.is(preprocessing.imageAspectRatio, "pad");
    assert.equal(tokens, { bos: 1, eos: 2 });
    assert.equal([config.layers, config.vision.layers, config.vision.imageSize, config.imageTokens], [7, 2, 140, 100]);
    for (const name of ["config.json", "generation_config.json", "tokenizer.model", "tokenizer_config.json"]) {
      assert.equal(readFileSync(path.join(out, name)), readFileSync(path.join(source, name)), name);
    }
    assert.equal(readFileSync(path.join(out, "vision_tower_config.json")), readFileSync(path.join(vision, "config.json")));
  }));

test("a converted folder can be converted again, and gives the same bytes", () =>
  withOriginal(async ({ clip, out }) => {
    await convertCheckpoint(source, out, { vision });
    // Its own tower is passed over in favour of the one that is given, as LLaVA's code does.
    await convertCheckpoint(out, `${out}-again`, { vision: clip });
    assert.equal([...(await contents(`${out}-again`))], [...(await contents(out))]);
    editJson(path.join(out, "config.json"), (config) => (config.unfreeze_mm_vision_tower = true));
    writeFileSync(path.join(clip, "pytorch_model.bin"), zipOf([]));
    await convertCheckpoint(out, `${out}-own`, { vision: clip });
    assert.equal([...(await contents(`${out}-own`))], [...(await contents(out))]);
  }));

test("pickles in the Hugging Face layout are converted without a vision folder", () =>
  withFolder(async (folder) => {
    const tiny = new TinyCheckpoint();
    const own = path.join(folder, "own");
    tiny.write(own);
    rmSync(path.join(own, "model.safetensors"));
    const tensors = [...tiny.tensors.values()].map(({ name, shape }): TensorToPickle => ({
      name,
      storage: "torch HalfStorage",
      shape: [...shape],
    }));
    writeFileSync(path.join(own, "pytorch_model.bin"), torchFile(tensors, 1));
    assert.is((await failure(openCheckpoint(own))).hint?.includes("himap weights convert"), true);
    const { layout, tensors: count } = await convertCheckpoint(own, path.join(folder, "out"));
    assert.is(layout, "huggingface");
    const opened = await openCheckpoint(path.join(folder, "out"));
    assert.is(opened.tensors.length, count);
    assert.is(opened.template, "hf");
    assert.is((await failure(convertCheckpoint(own, path.join(folder, "out-2"), { vision }))).code, "ERR_INVALID_ARG");
  }));

test("a size of files that is none, or that makes more files than are read, is refused before anything is written", () =>
  withFolder(async (folder) => {
    const tiny = new TinyCheckpoint();
    tiny.config.text_config.num_hidden_layers = 120;
    tiny.fill();
    const own = path.join(folder, "own");
    tiny.write(own);
    const out = path.join(folder, "out");
    for (const shardBytes of [0, -5, 0.5, NaN, Number("1e400"), 2 ** 53]) {
      const error = await failure(convertCheckpoint(own, out, { shardBytes }));
      assert.is(error.code, "ERR_INVALID_ARG");
      assert.match(error.message, /expected an integer (of at least 1|from 1 to 9007199254740991) for shardBytes but received/);
    }
    const error = await failure(convertCheckpoint(own, out, { shardBytes: 1 }));
    assert.is(error.code, "ERR_INVALID_ARG");
    assert.match(error.message, /expected at most 1000 files for shardBytes 1 but received 1\d\d\d$/);
    assert.equal(readdirSync(folder), ["own"]);
    assert.is((await convertCheckpoint(own, out, { shardBytes: Number.MAX_SAFE_INTEGER })).files.length, 1);
  }));

test("a head that is tied is not written twice", () =>
  withFolder(async (folder) => {
    const tiny = new TinyCheckpoint();
    tiny.config.tie_word_embeddings = true;
    const own = path.join(folder, "own");
    tiny.write(own);
    await convertCheckpoint(own, path.join(folder, "out"));
    const { tensors } = await openCheckpoint(path.join(folder, "out"));
    const at = (name: string): number => tensors.find((tensor) => tensor.name === name)!.offset;
    assert.is(at("lm_head.weight"), at("language_model.embed_tokens.weight"));
  }));

const wrong: [name: string, code: ErrorCode, says: string, spoil: (own: string, clip: string) => ConvertOptions | void][] = [
  ["no vision folder", "ERR_INVALID_ARG", "the folder of a CLIP checkpoint", () => ({ vision: undefined })],
  ["a vision folder that is none", "ERR_BAD_CHECKPOINT", "config.json", () => ({ vision: "/nowhere" })],
  ["no config", "ERR_BAD_CHECKPOINT", "config.json", (own) => rmSync(path.join(own, "config.json"))],
  ["no weights", "ERR_BAD_CHECKPOINT", "pytorch_model.bin", (own) => rmSync(path.join(own, "pytorch_model.bin.index.json"))],
  [
    "a shard that is gone",
    "ERR_BAD_CHECKPOINT",
    "no such file",
    (own) => rmSync(path.join(own, "pytorch_model-00002-of-00002.bin")),
  ],
  [
    "an index that leads elsewhere",
    "ERR_BAD_CHECKPOINT",
    "plain names",
    (own) =>
      editJson(path.join(own, "pytorch_model.bin.index.json"), (index) => (index.weight_map["lm_head.weight"] = "../x.bin")),
  ],
  [
    "an index of safetensors",
    "ERR_UNSUPPORTED_FILE",
    ".bin",
    (own) =>
      editJson(path.join(own, "pytorch_model.bin.index.json"), (index) => (index.weight_map["lm_head.weight"] = "x.safetensors")),
  ],
  [
    "a tensor in another shard than the index says",
    "ERR_TENSOR_MISSING",
    "lm_head.weight",
    (own) =>
      editJson(
        path.join(own, "pytorch_model.bin.index.json"),
        (index) => (index.weight_map["lm_head.weight"] = "pytorch_model-00001-of-00002.bin"),
      ),
  ],
  [
    "a shard cut short",
    "ERR_BAD_CHECKPOINT",
    "an end record",
    (own) => {
      const file = path.join(own, "pytorch_model-00001-of-00002.bin");
      writeFileSync(file, readFileSync(file).subarray(0, 500_000));
    },
  ],
  [
    "a deeper model than the weights have",
    "ERR_TENSOR_MISSING",
    "layers.7",
    (own) => editJson(path.join(own, "config.json"), (config) => (config.num_hidden_layers = 8)),
  ],
  [
    "a shallower one",
    "ERR_TENSOR_EXTRA",
    "layers.6",
    (own) => editJson(path.join(own, "config.json"), (config) => (config.num_hidden_layers = 6)),
  ],
  [
    "another width",
    "ERR_TENSOR_SHAPE",
    "config.json implies",
    (own) => editJson(path.join(own, "config.json"), (config) => (config.intermediate_size = 200)),
  ],
  [
    "another tower",
    "ERR_BAD_CHECKPOINT",
    "mm_hidden_size",
    (_, clip) => editJson(path.join(clip, "config.json"), (config) => (config.vision_config.hidden_size = 128)),
  ],
  [
    "a tower of text alone",
    "ERR_TENSOR_MISSING",
    "vision_tower.",
    (_, clip) =>
      writeFileSync(
        path.join(clip, "pytorch_model.bin"),
        torchFile([{ name: "text_model.final_layer_norm.weight", shape: [4] }]),
      ),
  ],
  [
    "a projector of one layer",
    "ERR_UNSUPPORTED_MODEL",
    "mm_projector_type",
    (own) => editJson(path.join(own, "config.json"), (config) => (config.mm_projector_type = "linear")),
  ],
  [
    "start and end tokens of images",
    "ERR_UNSUPPORTED_MODEL",
    "mm_use_im_start_end",
    (own) => editJson(path.join(own, "config.json"), (config) => (config.mm_use_im_start_end = true)),
  ],
  [
    "pictures in tiles",
    "ERR_UNSUPPORTED_MODEL",
    "image_aspect_ratio",
    (own) => editJson(path.join(own, "config.json"), (config) => (config.image_aspect_ratio = "anyres")),
  ],
  [
    "weights of eight bytes",
    "ERR_TENSOR_SHAPE",
    "F64",
    (_, clip) => {
      const tensors: TensorToPickle[] = [
        { name: "vision_model.embeddings.class_embedding", storage: "torch DoubleStorage", shape: [64] },
      ];
      writeFileSync(path.join(clip, "pytorch_model.bin"), torchFile(tensors));
    },
  ],
  [
    "a pickle that calls",
    "ERR_UNSUPPORTED_FILE",
    "posix system",
    (_, clip) => {
      const evil = Buffer.from("\x80\x02cposix\nsystem\nX\x0d\0\0\0touch /tmp/owned\x85R.", "latin1");
      writeFileSync(path.join(clip, "pytorch_model.bin"), zipOf([{ name: "archive/data.pkl", data: evil }]));
    },
  ],
];
for (const [name, code, says, spoil] of wrong) {
  test(`refused with ${code}, nothing written: ${name}`, () =>
    withOriginal(async ({ own, clip, out }) => {
      const options = { vision: clip, ...spoil(own, clip) };
      const error = await failure(convertCheckpoint(own, out, options));
      assert.is(error.code, code, error.message);
      assert.ok(error.message.includes(says), error.message);
      assert.not.ok(existsSync(out));
    }));
}

test("nothing is overwritten, not even an empty folder; a place that cannot be written is said", () =>
  withOriginal(async ({ own, out }) => {
    mkdirSync(out);
    assert.is((await failure(convertCheckpoint(own, out, { vision }))).code, "ERR_INVALID_ARG");
    writeFileSync(`${out}-file`, "mine");
    assert.is((await failure(convertCheckpoint(own, `${out}-file`, { vision }))).code, "ERR_INVALID_ARG");
    assert.is(readFileSync(`${out}-file`, "utf8"), "mine");
    const error = await failure(convertCheckpoint(own, path.join(out, "not", "there"), { vision }));
    assert.match(error.message, /expected a place that can be written for the converted folder but received ENOENT/);
  }));

const gone: [name: string, says: string, spoil: (file: string) => void][] = [
  ["removed", "expected a readable file for the checkpoint but received ENOENT", (file) => rmSync(file)],
  ["cut short", "cut short", (file) => truncateSync(file, 1000)],
  [
    "one that cannot be read",
    "expected a readable file for the checkpoint but received EISDIR",
    (file) => {
      rmSync(file);
      mkdirSync(file);
    },
  ],
];
for (const [name, says, spoil] of gone) {
  test(`a source that is ${name} while others are copied is what the failure names`, () =>
    withOriginal(async ({ own, clip, out }) => {
      const file = path.join(own, "pytorch_model-00002-of-00002.bin");
      let spoilt = false;
      const onProgress = (): void => {
        if (!spoilt) spoil(file);
        spoilt = true;
      };
      const error = await failure(convertCheckpoint(own, out, { vision: clip, onProgress }));
      assert.is(error.code, "ERR_BAD_CHECKPOINT", error.message);
      assert.ok(error.message.startsWith(`${file}: `) && error.message.includes(says), error.message);
      assert.not.ok(existsSync(out));
    }));
}

test("an abort leaves nothing behind", () =>
  withOriginal(async ({ own, out }) => {
    const controller = new AbortController();
    let seen = 0;
    const onProgress = ({ loaded, total }: { loaded: number; total: number }): void => {
      assert.ok(loaded > seen && loaded <= total);
      seen = loaded;
      if (loaded > total / 2) controller.abort("enough");
    };
    const error = await failure(convertCheckpoint(own, out, { vision, signal: controller.signal, onProgress }));
    assert.is(error.code, "ERR_ABORTED");
    assert.is(error.cause, "enough");
    assert.not.ok(existsSync(out));
  }));

test("a folder before its conversion says how to convert it", async () => {
  const error = await failure(openCheckpoint(source));
  assert.is(error.code, "ERR_UNSUPPORTED_FILE");
  assert.match(error.hint!, /himap weights convert .* --vision/);
});

test("without the tower's config, its name has to say what it is", () =>
  withOriginal(async ({ own, out }) => {
    await convertCheckpoint(own, out, { vision });
    rmSync(path.join(out, "vision_tower_config.json"));
    // The name stands for CLIP at 336 pixels, whose width these weights do not have.
    assert.match((await failure(openCheckpoint(out))).message, /mm_hidden_size/);
    editJson(path.join(out, "config.json"), (config) => (config.mm_vision_tower = "google/siglip"));
    assert.match((await failure(openCheckpoint(out))).message, /vision_tower_config.json beside it, for mm_vision_tower/);
  }));

test("NaN and infinity in each type are found, and nothing else is", () =>
  withOriginal(async ({ out }) => {
    await convertCheckpoint(source, out, { vision });
    const clean = await verifyCheckpoint(out, { values: true });
    assert.is(clean.values, clean.parameters);
    assert.is((await verifyCheckpoint(out)).values, 0);
    const { tensors } = await openCheckpoint(out);
    const file = path.join(out, "model.safetensors");
    const put = (name: string, element: number, bits: number): void => {
      const { offset, type } = tensors.find((tensor) => tensor.name === name)!;
      const bytes = Buffer.alloc(type === "F32" ? 4 : 2);
      if (type === "F32") bytes.writeUInt32LE(bits);
      else bytes.writeUInt16LE(bits);
      const handle = openSync(file, "r+");
      writeSync(handle, bytes, 0, bytes.length, offset + element * bytes.length);
      closeSync(handle);
    };
    // The largest finite values are good.
    put("language_model.norm.weight", 0, 0x7bff);
    put("vision_tower.pre_layrnorm.bias", 0, 0xff7fffff);
    await verifyCheckpoint(out, { values: true });
    put("language_model.norm.weight", 3, 0x7c00);
    const one = await failure(verifyCheckpoint(out, { values: true }));
    assert.equal(one.faults, [one.message]);
    put("language_model.norm.weight", 4, 0xfc00);
    put("vision_tower.pre_layrnorm.bias", 5, 0x7fc00001);
    await verifyCheckpoint(out);
    const error = await failure(verifyCheckpoint(out, { values: true }));
    assert.is(error.code, "ERR_BAD_CHECKPOINT");
    assert.match(error.message, /: expected finite values for all tensors but received NaN or infinity in 2 of them$/);
    assert.is(error.faults!.length, 2);
    assert.match(error.faults![0]!, /pre_layrnorm\.bias".*1 NaN, 0 infinite/);
    assert.match(error.faults![1]!, /language_model\.norm\.weight".*0 NaN, 2 infinite/);
    const controller = new AbortController();
    controller.abort();
    assert.is((await failure(verifyCheckpoint(out, { values: true, signal: controller.signal }))).code, "ERR_ABORTED");
    renameSync(path.join(out, "tokenizer.model"), path.join(out, "hidden"));
    assert.is((await failure(verifyCheckpoint(out))).code, "ERR_BAD_CHECKPOINT");
  }));

test("a pipe that took the place of a file since is refused, and nobody waits for a writer", () =>
  withFolder(async (folder) => {
    const pipe = path.join(folder, "model.safetensors");
    assert.is(spawnSync("mkfifo", [pipe]).status, 0);
    let waited = false;
    // A writer, which lets an opening that waits go on, so that the test ends.
    const writer = setTimeout(() => {
      waited = true;
      closeSync(openSync(pipe, constants.O_RDWR | constants.O_NONBLOCK));
    }, 10_000);
    const file = await openSource(pipe, "model.safetensors");
    clearTimeout(writer);
    const refused: unknown = await readInto(file, new Uint8Array(8), 0, "model.safetensors").catch((error: unknown) => error);
    await file.close();
    assert.is((refused as HimapError).code, "ERR_BAD_CHECKPOINT");
    assert.not(waited);
  }));

test("memory stays flat: 150 MB of tensors in a process that may hold little", () =>
  withFolder(async (folder) => {
    // One large tensor, so that any copy of a whole tensor would show.
    const tiny = new TinyCheckpoint();
    tiny.config.text_config.vocab_size = 1 << 20;
    tiny.fill();
    const own = path.join(folder, "own");
    tiny.write(own);
    rmSync(path.join(own, "model.safetensors"));
    const tensors = [...tiny.tensors.values()].map(({ name, shape }): TensorToPickle => ({
      name,
      storage: "torch HalfStorage",
      shape: [...shape],
    }));
    const entries = [
      { name: "archive/data.pkl", data: pickledDict(tensors) },
      ...tensors.map(({ shape }, i) => ({
        name: `archive/data/${i}`,
        data: Buffer.alloc(2 * shape.reduce((product, side) => product * side, 1), 1),
      })),
    ];
    writeFileSync(path.join(own, "pytorch_model.bin"), zipOf(entries));
    const script = `
      import { convertCheckpoint } from ${JSON.stringify(new URL("../../weights-tools/convert.ts", import.meta.url).href)};
      import { readFileSync } from "node:fs";
      const peak = () => Number(/VmHWM:\\s+(\\d+)/.exec(readFileSync("/proc/self/status", "utf8"))[1]) * 1024;
      const before = peak();
      const { bytes } = await convertCheckpoint(process.argv[1], process.argv[2]);
      console.log(JSON.stringify({ bytes, grown: peak() - before }));
    `;
    const loader = fileURLToPath(import.meta.resolve("tsx"));
    const child = spawnSync(
      process.execPath,
      ["--max-old-space-size=64", "--import", loader, "--input-type=module", "-e", script, own, path.join(folder, "out")],
      { encoding: "utf8" },
    );
    assert.is(child.status, 0, child.stderr);
    const { bytes, grown } = JSON.parse(child.stdout) as { bytes: number; grown: number };
    assert.ok(bytes > 130e6, `${bytes} bytes`);
    assert.ok(grown < 40e6, `grew by ${grown} bytes`);
    console.log(`NOTE: ${(bytes / 1e6).toFixed(0)} MB converted, the process grew by ${(grown / 1e6).toFixed(0)} MB`);
  }));

test.run();
