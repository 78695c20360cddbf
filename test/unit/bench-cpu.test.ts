import { existsSync } from "node:fs";
import { open, readFile } from "node:fs/promises";
import path from "node:path";

import { test } from "uvu";
import * as assert from "uvu/assert";

import { writeDecoder, writeVision } from "../../bench/cpu/gguf.js";
import { caption, textTables, visionRivalTable, visionTable } from "../../bench/cpu/markdown.js";
import { Additions, withCeilings } from "../../bench/cpu/machine.js";
import { cpuBench } from "../../bench/cpu/options.js";
import { repeat } from "../../bench/cpu/repeat.js";
import { promptIds, type TextRow } from "../../bench/cpu/text.js";
import type { VisionRow } from "../../bench/cpu/vision.js";
import { inventVocabulary } from "../../bench/cpu/vocabulary.js";
import { decodeBytes, decodeFlops, pictureFlops, prefillFlops } from "../../bench/cpu/work.js";
import { beginRun, resultFile, type RunFacts } from "../../bench/result.js";
import { openCheckpoint } from "../../lib/checkpoint/index.js";
import { packageRoot, packageVersion } from "../../lib/package.js";
import { makeRandom } from "../../weights-tools/make-random.js";
import { decodeWeights, encodeWeights } from "../../weights-tools/number-formats.js";
import { withFolder } from "../helpers/tiny-checkpoint.js";

interface Found {
  dims: number[];
  type: number;
  data: Buffer;
}

/** Bytes of an element, by its type's number. */
const elementBytes: Record<number, number> = { 0: 4, 1: 2, 30: 2 };

/** Reads a GGUF file by the letter of its format: every fact, and every tensor with its bytes. */
async function readGguf(file: string): Promise<{ facts: Map<string, unknown>; tensors: Map<string, Found> }> {
  const handle = await open(file);
  const bytes = await handle.readFile();
  await handle.close();
  let at = 0;
  const u32 = (): number => bytes.readUInt32LE((at += 4) - 4);
  const u64 = (): number => Number(bytes.readBigUInt64LE((at += 8) - 8));
  const text = (): string => {
    const length = u64();
    return bytes.toString("utf8", at, (at += length));
  };
  const value = (kind: number): unknown => {
    if (kind === 4 || kind === 5) return u32();
    if (kind === 6) return bytes.readFloatLE((at += 4) - 4);
    if (kind === 7) return bytes[at++] === 1;
    if (kind === 8) return text();
    assert.is(kind, 9);
    const of = u32();
    return Array.from({ length: u64() }, () => value(of));
  };
  assert.is(bytes.toString("latin1", 0, (at += 4)), "GGUF");
  assert.is(u32(), 3);
  const [tensorCount, factCount] = [u64(), u64()];
  const facts = new Map(Array.from({ length: factCount }, () => [text(), value(u32())]));
  const entries = Array.from({ length: tensorCount }, () => {
    const name = text();
    const dims = Array.from({ length: u32() }, u64);
    return { name, dims, type: u32(), offset: u64() };
  });
  const start = Math.ceil(at / 32) * 32;
  const tensors = new Map(entries.map(({ name, dims, type, offset }) => {
    assert.is(offset % 32, 0);
    const length = dims.reduce((product, side) => product * side, elementBytes[type]!);
    assert.ok(start + offset + length <= bytes.length);
    return [name, { dims, type, data: bytes.subarray(start + offset, start + offset + length) }];
  }));
  return { facts, tensors };
}

test("numbers survive encoding and decoding", () => {
  const values = Float32Array.of(0, -0, 1, -1.5, 65504, 2 ** -24, 2 ** -14, 0.333251953125);
  for (const type of ["F32", "F16"] as const) assert.equal([...decodeWeights(encodeWeights(values, type), type)], [...values]);
  assert.equal([...decodeWeights(encodeWeights(Float32Array.of(1, -0.5, 3.140625), "BF16"), "BF16")], [1, -0.5, 3.140625]);
});

for (const type of ["F32", "F16", "BF16"] as const) {
  test(`GGUF of a ${type} checkpoint holds its numbers, those of rotated heads by neighbours`, () =>
    withFolder(async (folder) => {
      await makeRandom(folder, { shape: "tiny", type, shards: 2, seed: 1 });
      const checkpoint = await openCheckpoint(folder);
      const file = path.join(folder, "decoder.gguf");
      await writeDecoder(checkpoint, file);
      const { facts, tensors } = await readGguf(file);
      const { config } = checkpoint;
      assert.is(facts.get("llama.block_count"), config.layers);
      assert.is((facts.get("tokenizer.ggml.tokens") as string[]).length, config.vocabulary);
      assert.is(tensors.size, 3 + 9 * config.layers);

      const stored = async (name: string): Promise<Buffer> => {
        const tensor = checkpoint.tensors.find((one) => one.name === name)!;
        const handle = await open(checkpoint.files[tensor.file]!.path);
        const { buffer } = await handle.read(Buffer.alloc(tensor.bytes), 0, tensor.bytes, tensor.offset);
        await handle.close();
        return buffer;
      };
      const at = "language_model.layers.1";
      assert.ok(tensors.get("blk.1.attn_v.weight")!.data.equals(await stored(`${at}.self_attn.v_proj.weight`)));
      const norm = tensors.get("blk.1.ffn_norm.weight")!;
      assert.is(norm.type, 0);
      const expected = decodeWeights(await stored(`${at}.post_attention_layernorm.weight`), type);
      assert.equal(decodeWeights(norm.data, "F32"), expected);
      const query = await stored(`${at}.self_attn.q_proj.weight`);
      const row = query.length / config.hidden;
      const half = config.headDim / 2;
      const { dims, data } = tensors.get("blk.1.attn_q.weight")!;
      assert.equal(dims, [config.hidden, config.heads * config.headDim]);
      // Rows 4 and 5 of the second head are its third pair, one row from each half.
      for (const [to, from] of [[4, 2], [5, half + 2]] as const) {
        const [written, read] = [(config.headDim + to) * row, (config.headDim + from) * row];
        assert.ok(data.subarray(written, written + row).equals(query.subarray(read, read + row)));
      }
    }));
}

test("GGUF of tower and projector", () =>
  withFolder(async (folder) => {
    await makeRandom(folder, { shape: "tiny", type: "F16", shards: 1, seed: 1 });
    const checkpoint = await openCheckpoint(folder);
    const file = path.join(folder, "vision.gguf");
    await writeVision(checkpoint, file);
    const { facts, tensors } = await readGguf(file);
    const { vision, hidden } = checkpoint.config;
    assert.is(facts.get("clip.vision.block_count"), vision.layers);
    assert.is(tensors.size, 5 + 16 * vision.layers + 4);
    assert.equal(tensors.get("v.patch_embd.weight")!.dims, [14, 14, 3, vision.hidden]);
    assert.equal(tensors.get("mm.2.weight")!.dims, [hidden, hidden]);
    assert.is(tensors.get("v.position_embd.weight")!.type, 0);
  }));

test("an invented vocabulary has as many tokens as asked for, all different", () => {
  const tokens = inventVocabulary(32_064);
  assert.is(tokens.length, 32_064);
  assert.is(new Set(tokens.map(({ text }) => text)).size, 32_064);
});

test("a prompt's ids begin with BOS and lie in the vocabulary", () => {
  const ids = promptIds(640, 32_064);
  assert.is(ids[0], 1);
  assert.ok(ids.every((id) => id < 32_064));
});

test("work of a prompt and of the steps behind it", () =>
  withFolder(async (folder) => {
    await makeRandom(folder, { shape: "tiny", type: "F16", shards: 1, seed: 1 });
    const checkpoint = await openCheckpoint(folder);
    const { hidden, ffn, layers, vocabulary, imageTokens } = checkpoint.config;
    const layer = 4 * hidden * hidden + 3 * hidden * ffn;
    const pairs = (10 * 11) / 2;
    assert.is(prefillFlops(checkpoint, 10), 2 * (layers * (10 * layer + 2 * pairs * hidden) + hidden * vocabulary));
    // Two steps attend to 11 and 12 tokens.
    assert.is(decodeFlops(checkpoint, 10, 2), 2 * (layers * (2 * layer + 2 * (11 + 12) * hidden) + 2 * hidden * vocabulary));
    const weights = 2 * (layers * (layer + 2 * hidden) + hidden + hidden * vocabulary);
    assert.is(decodeBytes(checkpoint, 10, 2, 4), 2 * weights + (11 + 12) * 2 * layers * hidden * 4);
    const dense = pictureFlops(checkpoint, 10, []);
    const pruned = pictureFlops(checkpoint, 10, [{ before: 1, keep: imageTokens / 2 }]);
    assert.is(dense.vision, pruned.vision);
    assert.ok(dense.prefill > pruned.prefill);
    assert.is(dense.prefill, prefillFlops(checkpoint, 10 + imageTokens));
  }));

test("contenders take turns, in reversed order each time, and as many runs are kept as asked for", async () => {
  const order: string[] = [];
  const contender = (name: string) => ({
    name,
    run: async () => {
      order.push(name);
      // As much as any machine has: nothing is left for others.
      return { processor: 1e9, name };
    },
  });
  const runs = await repeat([contender("a"), contender("b")], { count: 3, seconds: 0 }, () => {});
  assert.is(order.join(""), "abbaab");
  assert.equal(runs.map((one) => one.map(({ name }) => name)), [["a", "a", "a"], ["b", "b", "b"]]);
  assert.ok(runs.flat().every(({ others }) => others === 0));
});

test("a run is repeated while the host has company on our cores, and the quietest count", async () => {
  // Before the first run, and after each: quiet, loud, loud, quiet, quiet, ...
  const samples = [1, 2, 2, 1, 1, 1, 1];
  let next = 0;
  const additions = new Additions(() => samples[next++]!);
  let run = 0;
  const told: string[] = [];
  const contender = { name: "a", run: async () => ({ processor: 1e9, run: run++ }) };
  const [runs] = await repeat([contender], { count: 2, seconds: Infinity }, (line) => told.push(line), additions);
  assert.equal(runs!.map((one) => [one.run, one.company]), [[3, 0], [4, 0]]);
  assert.equal(told, ["a, additions slowed by 33 %", "a, additions slowed by 50 %", "a, additions slowed by 33 %", "a", "a"]);
  next = 0;
  let clock = 0;
  const [few] = await repeat([contender], { count: 2, seconds: 20 }, () => {}, additions, () => 10 * clock++);
  assert.equal(few!.map((one) => one.run), [5, 7], "no turn begins when the seconds are over: then the least disturbed");
  next = 0;
  const [all] = await repeat([contender], { count: 2, seconds: 0 }, () => {}, additions);
  assert.equal(all!.map((one) => one.run), [8, 9], "as many as are asked for, however long they take");
});

test("ceilings are the higher ones of before and after", async () => {
  const samples = [{ fmaGflops: 100, readGBs: 40 }, { fmaGflops: 120, readGBs: 30 }];
  const { result, ceilings } = await withCeilings("avx2", 2, async () => samples.length, () => samples.shift()!);
  assert.is(result, 1, "between the two");
  assert.equal(ceilings, { fmaGflops: 120, readGBs: 40 });
});

test("additions are timed on as many threads as asked for", () => {
  const additions = Additions.on(2);
  const seconds = additions.sample();
  assert.ok(seconds > 0 && additions.lost(seconds) === 0);
  assert.is(additions.lost(2 * seconds), 0.5);
});

test("only a run of everything writes to cpu.json; any other choice is in the name", () => {
  const names: [args: string, name: string][] = [
    ["", "cpu"],
    ["--types F32,F16,BF16 --threads 1,2 --vision-rival", "cpu"],
    ["--types F32 --threads 1", "cpu-f32-1-thread"],
    ["--types f16,bf16", "cpu-f16-bf16"],
    ["--threads 1,2,4", "cpu-1-2-4-threads"],
    ["--short", "cpu-short"],
    ["--only picture", "cpu-picture"],
    ["--shape tiny --prompt 64 --short", "cpu-tiny-prompt-64-short"],
  ];
  for (const [args, name] of names) {
    assert.is(cpuBench(args.split(" ").filter(Boolean)).out, path.join(packageRoot, "bench", "results", `${name}.json`), args);
  }
  assert.equal(cpuBench([]).parts, ["text", "picture"]);
  assert.equal(cpuBench(["--only", "picture"]).parts, ["picture"]);
  assert.throws(() => cpuBench(["--only", "vision"]), 'expected --only to be text or picture but received "vision"');
  assert.is(cpuBench(["--short", "--out", "x.json"]).out, "x.json");
  assert.is(path.basename(resultFile("batch", [undefined, "pico", undefined])), "batch-pico.json");
});

test("a result says what was measured, where, and how long it took", () =>
  withFolder(async (folder) => {
    const file = path.join(folder, "new", "result.json");
    const write = await beginRun(file);
    const first = write({ figure: 1 });
    await new Promise((resolve) => setTimeout(resolve, 20));
    const facts = write({ figure: 2 });
    assert.equal(JSON.parse(await readFile(file, "utf8")), { ...facts, figure: 2 });
    assert.ok(first.seconds >= 0 && facts.seconds >= first.seconds + 0.01);
    assert.is(facts.version, packageVersion);
    assert.ok(facts.machine.processors >= 1 && facts.machine.before.others >= 0);
    if (existsSync(path.join(packageRoot, ".git"))) assert.match(facts.commit!, /^[0-9a-f]{7,40}(-dirty)?$/);
    else assert.is(facts.commit, undefined);
  }));

test("what a run prints is Markdown with the SIMD path beside the figures", () => {
  const facts: RunFacts = {
    version: "1", commit: "abcdef1", seconds: 1980,
    machine: { processor: "P", processors: 2, memoryBytes: 1, node: "v", load: [], before: { others: 0, background: 0 } },
  };
  const of = { type: "F16", threads: 2, simd: "avx2", ceilings: { fmaGflops: 100, readGBs: 20 } } as const;
  const figures = {
    prefill: { seconds: 1, tokensPerSecond: 10, gflops: 50, gflopsPerProcessor: 25 }, decode: { seconds: 1, tokensPerSecond: 2, gflops: 1, gbs: 10 }, runs: [],
  };
  const text: TextRow = { ...of, himap: { ...figures, logits: "h" }, rival: { ...figures, kernels: "k" }, sameTokens: 33 };
  const vision: VisionRow = {
    ...of, preset: "none", seconds: { picture: 0.01, vision: 1, prefill: 2, total: 4 }, gflops: { vision: 50, prefill: 60 }, kept: [], logits: "h", runs: [],
  };
  const rival = { rival: "other 1", type: "F16", threads: 2, total: 9, prompt: 8, promptTokens: 640, processor: 13.5, others: 0, background: 0 };
  assert.is(
    caption("npm run bench:cpu", "cpu.json", facts, [{ others: 0.01, background: 0.2 }, { others: 0.049, background: 0 }]),
    "`npm run bench:cpu` at abcdef1 on 2 processors (P), other processes\ntaking at most 0.05 of them, work of low priority 0.20; `cpu.json` has the figures. 33 minutes.\n",
  );
  assert.match(caption("c", "f", facts, [{ others: 0, background: 0, company: 0.3 }]), "taking at most 0.00 of them, the host at most 30 % of their speed; `f`");
  assert.is((textTables([text], "r").match(/^\| F16, 2, avx2 \| 10\.0 \(50\) \||^\| F16, 2, avx2 \| 2\.00 \(10\.0\) \|/gm) ?? []).length, 2);
  assert.match(visionTable([vision]), "| F16, 2, avx2 | `none` | 10.0 | 1.00 (50, 50 %) | 2.00 (60) | 1.00x | 4.00 | `h` |\n");
  assert.match(visionRivalTable([rival]), "| F16, 2 | other 1 | 640 | 8.00 | 9.00 | 1.50 |\n");
  assert.is(visionRivalTable([]) + textTables([], "r") + visionTable([]), "");
});

test.run();
