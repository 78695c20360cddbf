import fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";

import { readConfig } from "../../../lib/checkpoint/config.js";
import { parseJson, parseJsonObject, type JsonValue } from "../../../lib/checkpoint/json.js";
import { writeManifest } from "../../../lib/checkpoint/manifest.js";
import { canonicalName, originalTower } from "../../../lib/checkpoint/names.js";
import { parseSafetensorsHeader } from "../../../lib/checkpoint/safetensors.js";
import { readWeightMap, safetensors } from "../../../lib/checkpoint/shards.js";
import { expectedTensors } from "../../../lib/checkpoint/tensors.js";
import { HimapError } from "../../../lib/errors.cjs";
import { parseTokenizerJson, parseTokenizerModel, VocabularyTokenizer } from "../../../lib/tokenizer/index.js";
import { memorySource } from "../../../weights-tools/byte-source.js";
import { publishedName } from "../../../weights-tools/make-random.js";
import { safetensorsHeader, type TensorToWrite } from "../../../weights-tools/safetensors-writer.js";
import { readTorchTensors } from "../../../weights-tools/torch-file.js";
import { readZip } from "../../../weights-tools/zip.js";
import { pickledDict, torchEntries, zipOf, type TensorToPickle } from "../../helpers/torch-writer.js";
import { jsonBytes, jsonForm, modelFile, smallPieces } from "../../helpers/vocabulary.js";

const limits = { depth: 64, values: 10_000, objects: 10_000 };
/** The same cases on every machine. */
const runs = (numRuns: number): fc.Parameters<unknown> => ({ numRuns, seed: 20_261_122 });
const utf8 = new TextEncoder();

/** A value as `JSON.parse` would give it. */
function plain(value: JsonValue): unknown {
  if (Array.isArray(value)) return value.map(plain);
  return value instanceof Map ? Object.fromEntries([...value].map(([key, inner]) => [key, plain(inner)])) : value;
}

/** What a parser returned, or that it refused in the way it should. */
function outcome<T>(parse: () => T): { value: T } | "refused" {
  try {
    return { value: parse() };
  } catch (error) {
    assert.instance(error, HimapError, String(error));
    return "refused";
  }
}

test("JSON: every value comes back", () => {
  fc.assert(
    fc.property(fc.jsonValue({ maxDepth: 6 }), fc.integer({ min: 0, max: 3 }), (value, indent) => {
      const text = JSON.stringify(value, undefined, indent);
      assert.equal(plain(parseJson(utf8.encode(text), "f", limits)), JSON.parse(text));
    }),
    runs(500),
  );
});

test("JSON: what is accepted is what JSON.parse accepts, but for a key that stands twice", () => {
  const pieces = fc.constantFrom(
    "{", "}", "[", "]", ",", ":", '"a"', '"b"', '"\\u0041"', '"\\x"', "1", "-0", "01", "1.", ".5", "2e3", "1e999", "true",
    "nul", "null", " ", "\n", "\u00a0", "\u0000", '"',
  );
  const nearlyJson = fc.oneof(
    fc.array(pieces, { maxLength: 12 }).map((parts) => parts.join("")),
    fc
      .tuple(fc.json({ maxDepth: 3 }), fc.nat(), pieces)
      .map(([text, at, piece]) => text.slice(0, at % (text.length + 1)) + piece + text.slice(at % (text.length + 1))),
  );
  fc.assert(
    fc.property(nearlyJson, (text) => {
      const own = outcome(() => plain(parseJson(utf8.encode(text), "f", limits)));
      let theirs: { value: unknown } | "refused";
      try {
        theirs = { value: JSON.parse(text) as unknown };
      } catch {
        theirs = "refused";
      }
      if (own !== "refused") assert.equal(own, theirs, text);
      else if (theirs !== "refused") assert.match(text, /"(?:[^"\\]|\\.)*"\s*:.*"(?:[^"\\]|\\.)*"\s*:/s, text);
    }),
    runs(4000),
  );
});

const name = fc.string({ minLength: 1, maxLength: 20 }).filter((text) => text !== "__metadata__" && text !== "__proto__");
const shape = fc.array(fc.integer({ min: 0, max: 4 }), { maxLength: 4 });
const elements = (sides: readonly number[]): number => sides.reduce((product, side) => product * side, 1);
const widths = { F32: 4, F16: 2, BF16: 2, I64: 8, U8: 1 } as const;
const tensor = fc
  .tuple(name, fc.constantFrom(...(Object.keys(widths) as (keyof typeof widths)[])), shape)
  .map(([own, type, sides]): TensorToWrite => ({ name: own, type, shape: sides, bytes: elements(sides) * widths[type] }));
const tensors = fc.uniqueArray(tensor, { selector: (one) => one.name, maxLength: 8 });

test("safetensors: what the writer writes, the reader finds, in the order of the bytes", () => {
  fc.assert(
    fc.property(tensors, (list) => {
      const header = safetensorsHeader(list);
      const size = header.length + list.reduce((sum, { bytes }) => sum + bytes, 0);
      const found = parseSafetensorsHeader(header, size, "f");
      const byName = (left: { name: string }, right: { name: string }): number => (left.name < right.name ? -1 : 1);
      let at = header.length;
      const expected = list.map(({ bytes, ...rest }) => ({ ...rest, offset: (at += bytes) - bytes, bytes }));
      assert.equal([...found].sort(byName), [...expected].sort(byName));
      for (const [i, { offset, bytes }] of found.entries()) assert.is(found[i + 1]?.offset ?? size, offset + bytes);
    }),
    runs(500),
  );
});

test("safetensors: a file longer or shorter than its header says, or ranges moved by anything, are refused", () => {
  fc.assert(
    fc.property(
      tensors.filter((list) => list.some(({ bytes }) => bytes > 0)),
      fc.integer({ min: -9, max: 9 }).filter((by) => by !== 0),
      fc.nat(),
      (list, by, which) => {
        const header = safetensorsHeader(list);
        const size = header.length + list.reduce((sum, { bytes }) => sum + bytes, 0);
        assert.is(
          outcome(() => parseSafetensorsHeader(header, size + by, "f")),
          "refused",
        );
        const json = JSON.parse(Buffer.from(header.subarray(8)).toString()) as Record<string, { data_offsets: [number, number] }>;
        const full = list.filter(({ bytes }) => bytes > 0);
        const range = json[full[which % full.length]!.name]!.data_offsets;
        range[0] += by;
        range[1] += by;
        const text = Buffer.from(JSON.stringify(json));
        const moved = Buffer.concat([new Uint8Array(8), text]);
        moved.writeBigUInt64LE(BigInt(text.length));
        assert.is(
          outcome(() => parseSafetensorsHeader(moved, size - header.length + moved.length, "f")),
          "refused",
        );
      },
    ),
    runs(500),
  );
});

test("index: every tensor goes to the shard that it names, and names that lead out of the folder are refused", () => {
  const shard = fc.stringMatching(/^[a-z0-9-]{1,12}\.safetensors$/);
  fc.assert(
    fc.property(fc.dictionary(name, shard, { minKeys: 1, maxKeys: 12 }), (map) => {
      const found = readWeightMap(parseJsonObject(jsonBytes({ weight_map: map }), "i", limits), safetensors);
      const back = Object.fromEntries([...found].flatMap(([file, names]) => [...names].map((own) => [own, file])));
      assert.equal(Object.entries(back).sort(), Object.entries(map).sort());
    }),
    runs(300),
  );
  const outside = fc
    .tuple(fc.constantFrom("../", "/", "a/", "a\\", "c:", "\0", "./", "..\\"), shard)
    .map((parts) => parts.join(""));
  fc.assert(
    fc.property(outside, (file) => {
      assert.is(
        outcome(() => readWeightMap(parseJsonObject(jsonBytes({ weight_map: { a: file } }), "i", limits), safetensors)),
        "refused",
      );
    }),
    runs(100),
  );
});

const bytes = fc.uint8Array({ maxLength: 80 });

test("zip: entries of any names and bytes come back as ranges of the file", async () => {
  const entry = fc.record({ name: fc.string({ unit: "binary", minLength: 1, maxLength: 30 }), data: bytes });
  await fc.assert(
    fc.asyncProperty(
      fc.uniqueArray(entry, { selector: (one) => one.name, maxLength: 12 }),
      fc.boolean(),
      fc.boolean(),
      fc.uint8Array({ maxLength: 40 }),
      async (entries, wide, end64, comment) => {
        const file = zipOf(entries.map((one) => ({ ...one, lies: { local64: wide } })), { ...(end64 && { end64: {} }), comment });
        const found = await readZip(memorySource(file, "f")).catch((error: unknown) => {
          // A comment may look like another end record, which then contradicts the file.
          assert.ok(error instanceof HimapError && Buffer.from(comment).includes("PK"), String(error));
          return undefined;
        });
        if (found === undefined) return;
        assert.equal([...found.keys()], entries.map((one) => one.name));
        for (const { name: own, data } of entries) {
          const { offset, bytes: length } = found.get(own)!;
          assert.equal([...file.subarray(offset, offset + length)], [...data]);
        }
      },
    ),
    runs(300),
  );
});

const pickled = fc.uniqueArray(
  fc
    .tuple(name, fc.constantFrom("torch FloatStorage", "torch HalfStorage", "torch BFloat16Storage"), shape, fc.nat(5), fc.nat(5))
    .map(([own, storage, sides, offset, more]): TensorToPickle => ({
      name: own,
      storage,
      shape: sides,
      offset,
      elements: offset + elements(sides) + more,
    })),
  { selector: (one) => one.name, maxLength: 8 },
);

test("pickle: every tensor is the range of its storage's entry that offset and shape say", async () => {
  await fc.assert(
    fc.asyncProperty(pickled, async (list) => {
      const width = (storage: string): number => (storage === "torch FloatStorage" ? 4 : 2);
      const data = list.map(({ storage, elements: held }, i) => Buffer.alloc(held! * width(storage!), i + 1));
      const file = zipOf(torchEntries(pickledDict(list), data));
      const found = await readTorchTensors(memorySource(file, "f"));
      assert.equal(found.map((one) => [one.name, one.shape]), list.map((one) => [one.name, one.shape]));
      found.forEach(({ offset, bytes: length }, i) => {
        assert.is(length, elements(list[i]!.shape) * width(list[i]!.storage!));
        assert.ok(file.subarray(offset, offset + length).every((byte) => byte === i + 1));
      });
    }),
    runs(300),
  );
});

test("pickle: one byte changed anywhere gives tensors within the file, or a refusal", async () => {
  const list: TensorToPickle[] = [
    { name: "a", shape: [2, 3] },
    { name: "b", storage: "torch HalfStorage", shape: [3], offset: 1, elements: 4 },
  ];
  const file = zipOf(torchEntries(pickledDict(list), [Buffer.alloc(24), Buffer.alloc(8)]));
  await fc.assert(
    fc.asyncProperty(fc.nat(file.length - 1), fc.integer({ min: 1, max: 255 }), async (at, by) => {
      const changed = Buffer.from(file);
      changed[at]! ^= by;
      const found = await readTorchTensors(memorySource(changed, "f")).catch((error: unknown) => {
        assert.instance(error, HimapError);
        return [];
      });
      for (const { offset, bytes: length } of found) assert.ok(offset >= 0 && offset + length <= changed.length);
    }),
    runs(3000),
  );
});

const decoder = fc.record({
  heads: fc.integer({ min: 1, max: 16 }),
  perHead: fc.integer({ min: 1, max: 16 }),
  groups: fc.constantFrom(1, 2, 4),
  ffn: fc.integer({ min: 1, max: 4096 }),
  layers: fc.integer({ min: 1, max: 6 }),
  vocabulary: fc.integer({ min: 8, max: 70_000 }),
  towerHeads: fc.integer({ min: 1, max: 4 }),
  towerLayers: fc.integer({ min: 2, max: 5 }),
  grid: fc.integer({ min: 1, max: 30 }),
  patch: fc.integer({ min: 1, max: 20 }),
});

test("config: the same model in both layouts has the same numbers and the same tensors", () => {
  fc.assert(
    fc.property(decoder, ({ heads, perHead, groups, ffn, layers, vocabulary, towerHeads, towerLayers, grid, patch }) => {
      const kv = heads % groups === 0 ? heads / groups : heads;
      const text = {
        hidden_size: heads * perHead * 8,
        intermediate_size: ffn,
        num_hidden_layers: layers,
        num_attention_heads: heads,
        num_key_value_heads: kv,
        vocab_size: vocabulary,
        rms_norm_eps: 1e-5,
      };
      const tower = {
        hidden_size: towerHeads * 16,
        intermediate_size: 33,
        num_hidden_layers: towerLayers,
        num_attention_heads: towerHeads,
        image_size: grid * patch,
        patch_size: patch,
      };
      const parse = (value: unknown) => parseJsonObject(jsonBytes(value), "c", limits);
      const published = readConfig(
        parse({ model_type: "llava", text_config: text, vision_config: tower, image_token_index: 3 }),
        undefined,
      );
      const original = readConfig(
        parse({
          model_type: "llava",
          mm_vision_tower: "clip",
          mm_projector_type: "mlp2x_gelu",
          mm_hidden_size: tower.hidden_size,
          ...text,
        }),
        undefined,
        parse({ vision_config: tower }),
      );
      assert.equal(original.model, published.model);
      assert.is(published.model.imageTokens, grid * grid);
      const names = expectedTensors(published).map((one) => one.name);
      assert.equal(expectedTensors(original).map((one) => one.name), names);

      // Every generation's name of a tensor, and that of LLaVA's own code, come down to one.
      for (const own of names) {
        const old = publishedName(own);
        const llava = own
          .replace(/^language_model\./, "model.")
          .replace(/^vision_tower\./, `${originalTower}vision_model.`)
          .replace("multi_modal_projector.linear_1.", "model.mm_projector.0.")
          .replace("multi_modal_projector.linear_2.", "model.mm_projector.2.");
        for (const form of [own, `model.${own}`.replace("model.lm_head", "lm_head"), old, llava]) {
          assert.is(canonicalName(form), own, form);
        }
      }
    }),
    runs(60),
  );
});

test("manifest: any path stays on its line and comes back", () => {
  const { model } = readConfig(parseJsonObject(jsonBytes({ model_type: "llava", image_token_index: 1 }), "c", limits), undefined);
  fc.assert(
    fc.property(fc.array(fc.string({ unit: "binary", maxLength: 60 }), { minLength: 1, maxLength: 4 }), (paths) => {
      const text = writeManifest({
        config: model,
        files: paths.map((location, i) => ({ path: location, bytes: i })),
        tensors: [],
      });
      const found = text.split("\n").flatMap((line) => /^file \d+ (.*)$/.exec(line)?.[1] ?? []);
      assert.equal(found.map((escaped) => decodeURIComponent(escaped)), paths);
      assert.is(text.split("\n").length, 1 + Object.keys(model).length - 1 + Object.keys(model.vision).length + paths.length + 2);
    }),
    runs(300),
  );
});

test("tokenizer: both file forms of one vocabulary encode any text alike, and decoding gives the text back", () => {
  const alphabet = fc.constantFrom("a", "b", "▁", "ab", "é", "猫");
  const texts = fc.uniqueArray(
    fc.array(alphabet, { minLength: 1, maxLength: 4 }).map((parts) => parts.join("")),
    { maxLength: 12 },
  );
  const text = fc.oneof(
    fc.string({ unit: "binary", maxLength: 30 }),
    fc.array(fc.constantFrom("a", "b", " ", "é", "猫", "\n", "<s>"), { maxLength: 30 }).map((parts) => parts.join("")),
  );
  fc.assert(
    fc.property(texts, fc.array(text, { minLength: 1, maxLength: 5 }), (pieces, samples) => {
      // A merge in tokenizer.json has pieces for both halves, so every character is one.
      const list = smallPieces([...new Set(["▁", "a", "b", "é", "猫", ...pieces])]);
      const model = new VocabularyTokenizer(parseTokenizerModel(modelFile(list), "m"));
      const json = new VocabularyTokenizer(parseTokenizerJson(jsonBytes(jsonForm(list, "prepend")), "j"));
      for (const sample of samples) {
        const ids = model.encode(sample);
        assert.equal(json.encode(sample), ids);
        assert.is(model.decode(ids), sample.replaceAll("▁", " "));
      }
    }),
    runs(200),
  );
});

test.run();
