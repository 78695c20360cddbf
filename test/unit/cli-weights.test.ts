import { readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

import { test } from "uvu";
import * as assert from "uvu/assert";

import { commandHelp, readArguments, type Command, type Terminal } from "../../lib/cli/command.js";
import { failureJson } from "../../lib/cli/failure.js";
import { prefillText } from "../../lib/cli/output.js";
import { readPruning } from "../../lib/cli/pruning.js";
import { weightsConvert, weightsVerify } from "../../lib/cli/weights.js";
import { openCheckpoint } from "../../lib/checkpoint/index.js";
import { HimapError } from "../../lib/errors.cjs";
import { withFolder } from "../helpers/tiny-checkpoint.js";

const golden = fileURLToPath(new URL("../golden/original", import.meta.url));

/** Runs a command as the program does: what it wrote to standard output and standard error, and what it threw. */
async function outcome(command: Command, ...argv: string[]): Promise<{ out: string; notes: string; error: unknown }> {
  let [out, notes] = ["", ""];
  const terminal: Terminal = {
    write: async (text) => void (out += text),
    note: (text) => void (notes += text),
    isTerminal: { output: false, error: false },
    columns: 100,
    signal: new AbortController().signal,
    drain: () => new AbortController().signal,
  };
  const error: unknown = await command.run(readArguments(command, argv)!, terminal).then(() => undefined, (cause: unknown) => cause);
  return { out, notes, error };
}

async function run(command: Command, ...argv: string[]): Promise<string> {
  const { out, error } = await outcome(command, ...argv);
  if (error !== undefined) throw error;
  return out;
}

test("convert, then verify", () =>
  withFolder(async (folder) => {
    const out = path.join(folder, "out");
    const text = await run(
      weightsConvert as Command,
      `${golden}/checkpoint`,
      out,
      "--vision",
      `${golden}/checkpoint-clip`,
      "--shard-bytes",
      "1000000",
    );
    assert.match(text, /^.*out: 107 tensors, 2\.65 MB in \d files, /);
    assert.match(await run(weightsVerify as Command, out), /: good\n.*not looked at/s);
    assert.match(await run(weightsVerify as Command, out, "--values"), /1\.22 million values, all finite/);
    const report = JSON.parse(await run(weightsVerify as Command, out, "--values", "--json")) as {
      values: number;
      parameters: number;
    };
    assert.is(report.values, report.parameters);
  }));

test("each tensor that holds NaN is named, a hundred of them in lines and all of them in JSON", () =>
  withFolder(async (folder) => {
    const out = path.join(folder, "out");
    await run(weightsConvert as Command, `${golden}/checkpoint`, out, "--vision", `${golden}/checkpoint-clip`);
    const { tensors } = await openCheckpoint(out);
    const file = path.join(out, "model.safetensors");
    const bytes = readFileSync(file);
    const spoil = (count: number): void => {
      for (const tensor of tensors.slice(0, count)) bytes.fill(0xff, tensor.offset, tensor.offset + tensor.bytes);
      writeFileSync(file, bytes);
    };
    const verify = (...more: string[]) => outcome(weightsVerify as Command, out, "--values", ...more);

    spoil(1);
    // The one fault is the message, which the program prints.
    assert.is((await verify()).notes, "");
    spoil(3);
    const few = await verify();
    assert.is(few.out, "");
    assert.is(few.notes.match(/^model\.safetensors, tensor .* NaN, 0 infinite$/gm)!.length, 3);
    assert.match((few.error as HimapError).message, /in 3 of them/);

    spoil(tensors.length);
    const lines = (await verify()).notes.trimEnd().split("\n");
    assert.is(lines.length, 101);
    assert.is(lines.at(-1), `and ${tensors.length - 100} more`);

    const { out: text, notes, error } = await verify("--json");
    assert.equal([text, notes], ["", ""]);
    const { code, faults } = (JSON.parse(failureJson(error)) as { error: { code: string; faults: string[] } }).error;
    assert.equal([code, faults.length], ["ERR_BAD_CHECKPOINT", tensors.length]);
  }));

test("a failure is the library's", async () => {
  const error: unknown = await run(weightsConvert as Command, `${golden}/checkpoint`, "/nowhere/out").catch(
    (cause: unknown) => cause,
  );
  assert.instance(error, HimapError);
  assert.match((error as HimapError).message, /a CLIP checkpoint/);
});

test("the help says what a conversion does with a pickle", () => {
  assert.match(commandHelp(weightsConvert as Command).replace(/\s+/g, " "), /Nothing in a pickle is run/);
});

test("a cache mode goes with any policy, and each of its prefills is counted", () => {
  assert.equal(readPruning("himap", "--pruning", "redecide"), { preset: "himap", cache: "redecide" });
  assert.equal(readPruning('{"preset":"random","seed":3}', "--pruning", "frozen"), {
    preset: "random",
    seed: 3,
    cache: "frozen",
  });
  const cuts = [{ before: 2, score: { rows: "last" }, keep: { ratio: 0.5 } }];
  assert.equal(readPruning(JSON.stringify(cuts), "--pruning", "redecide"), { cuts, cache: "redecide" });

  const usage = { promptTokens: 150, imageTokens: 100, imageTokensPerStage: [100], completionTokens: 8, prefills: 8 };
  const flops = { paper: 1, paperUnpruned: 1, prefill: 8e9, prefillUnpruned: 10e9 };
  assert.is(prefillText({ flops, usage }), "vision and 8 prefills, one per token, 8.00 GFLOP, 80 % of the unpruned");
});

test.run();
