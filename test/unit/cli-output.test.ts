import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import os from "node:os";
import path from "node:path";

import { test } from "uvu";
import * as assert from "uvu/assert";

import { Columns, layOut } from "../../lib/cli/columns.js";
import type { Terminal } from "../../lib/cli/command.js";
import { formatDoctor } from "../../lib/cli/doctor.js";
import { checkOutput, firstTokenMs, jsonText, median, stagesText, statisticsText, tokensPerSecond, writeOutput } from "../../lib/cli/output.js";
import { progressBar } from "../../lib/cli/progress.js";
import { bytesText, flopsText, millisecondsText, numberText, percentText, plural, printable, wrap } from "../../lib/text.js";
import type { DoctorReport, Result } from "../../lib/types.js";

const result: Result = {
  text: "a ring",
  tokens: Uint32Array.of(7, 8, 9, 2),
  finishReason: "stop",
  usage: { promptTokens: 158, imageTokens: 144, imageTokensPerStage: [144, 72, 18], completionTokens: 4, prefills: 1 },
  timings: { queue: 0.01, decode: 3, vision: 2, prefill: 9, generate: 6 },
  cuts: [{ before: 2, kept: new Uint32Array(72) }, { before: 8, kept: new Uint32Array(18) }],
  flops: { paper: 35, paperUnpruned: 100, prefill: 0.75e9, prefillUnpruned: 1.5e9 },
  kvBytes: 2_380_000,
  images: [],
};

/** A terminal that keeps what is written. */
function fakeTerminal(output: boolean, columns = 60): Terminal & { text: string; notes: string } {
  return {
    text: "",
    notes: "",
    async write(piece) {
      this.text += piece;
    },
    note(piece) {
      this.notes += piece;
    },
    isTerminal: { output, error: output },
    columns,
    signal: new AbortController().signal,
    drain: () => new AbortController().signal,
  };
}

test("numbers in three figures", () => {
  assert.equal([0, 8.4, 999.4, 999.6, 1634, 1_234_567].map(numberText), ["0.00", "8.40", "999", "1,000", "1,630", "1,230,000"]);
  assert.equal([0, 1, 2].map((count) => plural(count, "item")), ["0 items", "1 item", "2 items"]);
  assert.equal([0, 999, 1000, 999_499, 999_500, 14.1e9].map(bytesText), ["0 bytes", "999 bytes", "1.00 kB", "999 kB", "1.00 MB", "14.1 GB"]);
  assert.equal([0, 0.04, 0.5, 1, 14.06, 99.9, 99.96, 999.4, 999.6, 60_000, 1_234_000].map(millisecondsText), [
    "0.0 ms", "0.040 ms", "0.50 ms", "1.00 ms", "14.1 ms", "99.9 ms", "100 ms", "999 ms", "1.00 s", "60.0 s", "1,230 s",
  ]);
  assert.equal([61.9e6, 999.4e6, 999.6e6, 1.48e12, 5.12e15].map(flopsText), ["61.9 MFLOP", "999 MFLOP", "1.00 GFLOP", "1.48 TFLOP", "5,120 TFLOP"]);
  assert.equal([0, 0.003, 0.0994, 0.35, 1].map(percentText), ["0 %", "0.3 %", "9.9 %", "35 %", "100 %"]);
});

test("control characters do not reach a terminal; text in any script does", () => {
  assert.is(printable("a\x1b[2Jb\rc\u009bd"), "a\ufffd[2Jb\ufffdc\ufffdd");
  assert.is(printable("line\n\tßпривет 猫"), "line\n\tßпривет 猫");
});

test("lines are broken between words, and within a word that is longer than a line", () => {
  assert.equal(wrap("one two three", 7), ["one two", "three"]);
  assert.equal(wrap("abcdefgh ij", 3), ["abc", "def", "gh", "ij"]);
  assert.equal(wrap("", 5), [""]);
  assert.equal(wrap("a\nb", 5), ["a", "b"]);
});

test("JSON has typed arrays as arrays, on one line", () => {
  const text = jsonText({ tokens: Uint32Array.of(1, 2), cuts: [{ scores: Float32Array.of(0.5) }] });
  assert.is(text, '{"tokens":[1,2],"cuts":[{"scores":[0.5]}]}\n');
});

test("figures of an answer", () => {
  assert.is(stagesText(result, 16), "144 in 2 layers, 72 in 6, 18 in 8");
  assert.is(stagesText({ ...result, cuts: [] }, 16), "144 in 16 layers");
  assert.is(stagesText({ ...result, cuts: [{ before: 0, kept: new Uint32Array(5) }] }, 4), "5 in 4 layers");
  assert.is(stagesText({ ...result, cuts: [{ before: 1, kept: new Uint32Array(5) }] }, 4), "144 in 1 layer, 5 in 3");
  assert.is(firstTokenMs(result), 14.01);
  assert.is(tokensPerSecond(result), 500);
  assert.is(tokensPerSecond({ ...result, usage: { ...result.usage, completionTokens: 1 } }), undefined);
  assert.is(median([3, 1, 2]), 2);
  assert.is(median([4, 1, 2, 3]), 2.5);
  assert.is(
    statisticsText(result, 16),
    "158 tokens in, image tokens 144 in 2 layers, 72 in 6, 18 in 8; 4 out (stop)\n" +
      "first token 14.0 ms (decode 3.00 ms, vision 2.00 ms, prefill 9.00 ms), then 500 tokens/s\n" +
      "vision and prefill 750 MFLOP, 50 % of the unpruned; KV 2.38 MB\n",
  );
});

test("a file that cannot be written is a HimapError that names the option", async () => {
  const folder = mkdtempSync(path.join(os.tmpdir(), "himap-cli-"));
  await writeOutput(path.join(folder, "a"), Uint8Array.of(1), "--heatmap");
  assert.equal([...readFileSync(path.join(folder, "a"))], [1]);
  const error = await writeOutput(path.join(folder, "no", "a"), Uint8Array.of(1), "--heatmap").catch((thrown: unknown) => thrown as { code: string; message: string });
  rmSync(folder, { recursive: true });
  assert.is(error!.code, "ERR_INVALID_ARG");
  assert.match(error!.message, /expected a file that can be written for --heatmap but received .* \(ENOENT\)/);
});

test("an output is tested without a trace: what is there stays, what is not does not appear", async () => {
  const folder = mkdtempSync(path.join(os.tmpdir(), "himap-cli-"));
  const [there, missing] = [path.join(folder, "there"), path.join(folder, "missing")];
  await writeOutput(there, Uint8Array.of(7), "--out");
  await checkOutput(there, "--out");
  await checkOutput(missing, "--out");
  assert.equal([[...readFileSync(there)], existsSync(missing)], [[7], false]);
  for (const [file, code] of [[folder, "EISDIR"], [path.join(missing, "a"), "ENOENT"], [path.join(there, "a"), "ENOTDIR"]] as const) {
    const error = await checkOutput(file, "--out").catch((thrown: unknown) => thrown as { message: string });
    assert.match(error!.message, new RegExp(`expected a file that can be written for --out but received .* \\(${code}\\)$`));
  }
  rmSync(folder, { recursive: true });
});

test("the bar waits, draws at most every so often, and leaves nothing behind", () => {
  let now = 0;
  const terminal = fakeTerminal(true);
  const bar = progressBar(terminal, "opening", () => now);
  bar.update({ loaded: 1e9, total: 14e9 });
  assert.is(terminal.notes, "", "too early");
  now = 400;
  bar.update({ loaded: 7e9, total: 14e9 });
  assert.is(terminal.notes, `\r\x1b[Kopening [${"=".repeat(12)}${" ".repeat(12)}] 7.00 GB of 14.0 GB`);
  now = 410;
  bar.update({ loaded: 8e9, total: 14e9 });
  assert.not.match(terminal.notes, /8.00 GB/);
  bar.end();
  assert.ok(terminal.notes.endsWith("\r\x1b[K"));
});

test("no bar where standard error is no terminal, nor for what is quick", () => {
  let now = 0;
  const file = fakeTerminal(false);
  const bar = progressBar(file, "opening", () => now);
  now = 1000;
  bar.update({ loaded: 1, total: 2 });
  bar.end();
  assert.is(file.notes, "");
  const quick = fakeTerminal(true);
  progressBar(quick, "opening", () => 0).end();
  assert.is(quick.notes, "");
});

test("columns lie beside each other, none wider than the terminal", () => {
  const lines = layOut([{ title: "left", text: "one two three four five six seven", facts: ["fact"] }, { title: "right", text: "one", facts: ["fact"] }], 41);
  assert.equal(lines, [
    "  left              | right",
    "  one two three     | one",
    "  four five six     |",
    "  seven             |",
    "  fact              | fact",
  ]);
  assert.ok(lines.every((line) => line.length <= 41));
});

test("facts stand beside each other though one takes two lines", () => {
  const lines = layOut([{ title: "a", text: "", facts: ["one two three four", "next"] }, { title: "b", text: "", facts: ["one", "next"] }], 31);
  assert.equal(lines, ["  a            | b", "               |", "  one two      | one", "  three four   |", "  next         | next"]);
});

test("on a terminal columns are redrawn in place", async () => {
  const terminal = fakeTerminal(true);
  const columns = new Columns(terminal, ["left", "right"]);
  await columns.add(0, "a");
  await columns.add(0, " b");
  await columns.add(1, "c", ["fact"]);
  const [first, second, third] = terminal.text.split("\x1b[2A");
  assert.ok(first!.includes("  a"));
  assert.ok(second!.includes("  a b"));
  assert.match(third!, /a b +\| c/);
});

test("elsewhere columns follow each other, and text streams", async () => {
  const terminal = fakeTerminal(false);
  const columns = new Columns(terminal, ["left", "right"]);
  await columns.add(0, "a");
  assert.is(terminal.text, "  left: a");
  await columns.add(0, " b");
  await columns.add(0, "", ["fact"]);
  await columns.add(1, "c");
  assert.is(terminal.text, "  left: a b\n    fact\n  right: c");
});

const machine: DoctorReport = {
  version: "1.2.3",
  platform: "linux-x64",
  node: "v20",
  system: { kernel: "Linux 6.1", glibc: "2.31" },
  binary: { error: "none was found (build one)" },
  images: { error: "sharp is not there" },
  devices: [],
  nvidia: { cards: [], onBus: 0 },
  memory: { total: 8e9, free: 4e9 },
  processors: 2,
  processor: "A Processor",
};

test("doctor's page says why there is no binary", () => {
  const page = formatDoctor(machine);
  assert.match(page, /platform +linux-x64, Linux 6\.1, glibc 2\.31, Node v20/);
  assert.match(page, /binary +none: none was found \(build one\)/);
  assert.match(page, /pictures +sharp is not there/);
  assert.match(page, /device +none can be used/);
});

test("doctor's page says what is usable and why the rest is not", () => {
  const page = formatDoctor({
    ...machine,
    binary: { path: "/a/himap.node", why: "prebuilt for linux-x64" },
    images: { sharp: "0.35", libvips: "8.18" },
    devices: [
      { name: "cpu", usable: true, path: "/a/cpu.so", detail: "avx2" },
      { name: "cuda", usable: false, path: "/a/cuda.so", reason: "no driver", hint: "install one" },
    ],
    nvidia: { driver: "580.95.05", cards: ["a card", "another"], onBus: 2 },
    memory: { total: 8e9, free: 4e9, limit: 2e9 },
    device: "cpu",
  });
  assert.match(page, /binary +\/a\/himap\.node\n +prebuilt for linux-x64\n/);
  assert.match(page, /cpu +usable, avx2\n +\/a\/cpu\.so\n/);
  assert.match(page, /cuda +not usable: no driver\n +install one\n/);
  assert.match(page, /driver +NVIDIA 580\.95\.05: a card, another\n/);
  assert.match(page, /memory +8\.00 GB, 4\.00 GB free, of which this process may use 2\.00 GB/);
  assert.match(page, /device +auto takes cpu/);
});

test.run();
