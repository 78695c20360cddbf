import { test } from "uvu";
import * as assert from "uvu/assert";

import { commandHelp, defineCommand, readArguments, UsageError, type Arguments } from "../../lib/cli/command.js";
import { loadOptionsOf } from "../../lib/cli/options.js";
import { readPruning } from "../../lib/cli/pruning.js";

const sample = defineCommand({
  name: "weights try",
  summary: "a sample",
  operands: { FROM: "where from", TO: "where to" },
  options: {
    maxTokens: { kind: "number", value: "N", help: "how many" },
    stop: { kind: "texts", value: "TEXT", help: "where to end" },
    heatmap: { kind: "text", value: "FILE", help: "a picture" },
    json: { kind: "flag", help: "as JSON" },
  },
  async run() {},
});

const read = (...argv: string[]): Arguments<typeof sample.options> | undefined => readArguments(sample, argv);

/** The faults of the UsageError that is thrown, one in a line. */
function fault(work: () => unknown): string {
  try {
    work();
  } catch (error) {
    assert.instance(error, UsageError);
    return (error as UsageError).faults!.join("\n");
  }
  throw new Error("expected a UsageError but nothing was thrown");
}

test("operands and options in any order, with and without an equals sign", () => {
  assert.equal(read("a", "--max-tokens", "5", "b", "--json", "--stop=x", "--stop", "y z", "--heatmap=--odd"), {
    operands: ["a", "b"],
    options: { maxTokens: 5, json: true, stop: ["x", "y z"], heatmap: "--odd" },
  });
  assert.equal(read("-", "--", "--json"), { operands: ["-", "--json"], options: {} });
});

test("numbers as people write them", () => {
  for (const [text, value] of [["-1", -1], ["0.5", 0.5], [".5", 0.5], ["1e-3", 0.001], ["+2", 2], ["5.", 5]] as const) {
    assert.is(read("a", "b", "--max-tokens", text)!.options.maxTokens, value, text);
  }
  for (const text of ["", "five", "0x10", "1,5", "NaN", "Infinity", "1e", " 1"]) {
    assert.match(fault(() => read("a", "b", `--max-tokens=${text}`)), /expected a number for --max-tokens but received/, text);
  }
});

test("options of load that are named alike, and those of its memory", () => {
  assert.equal(loadOptionsOf({ device: "cpu", kvBytes: 1e9, maxBatch: 4 }), { device: "cpu", maxBatch: 4, memory: { kvBytes: 1e9 } });
  assert.equal(loadOptionsOf({ embeddingBytes: 0 }), { memory: { embeddingBytes: 0 } });
});

test("a single dash: -h is help, what has a space is an operand, all else is an unknown option as it was typed", () => {
  for (const prompt of ["- What colour?", "-what is\nit", "-h me", "-5 or 5?", "-"]) {
    assert.equal(read("a", prompt)!.operands, ["a", prompt]);
  }
  for (const [item, received] of [["-what", "-what"], ["-5", "-5"], ["-jh", "-jh"], ["-x=h", "-x"]] as const) {
    assert.match(fault(() => read("a", item)), new RegExp(`a known option for himap weights try but received "${received}"$`));
    assert.equal(read("a", "--", item)!.operands, ["a", item]);
  }
  assert.match(fault(() => read("a", "b", "-max-tokens", "5")), /received "-max-tokens" \(did you mean "--max-tokens"\?\)/);
  assert.equal(read("a", "b", "--stop", "-h")!.options, { stop: ["-h"] });
});

test("the later of two values counts", () => {
  assert.is(read("a", "b", "--heatmap", "1.png", "--heatmap", "2.png")!.options.heatmap, "2.png");
});

test("what cannot be understood is said, with what came and what was likely meant", () => {
  assert.match(fault(() => read("a", "b", "--max-token", "5")), /expected a known option for himap weights try but received "--max-token" \(did you mean "--max-tokens"\?\)/);
  assert.match(fault(() => read("a", "b", "-j")), /expected a known option .* but received "-j"$/);
  assert.match(fault(() => read("a", "b", "--heatmap")), /expected FILE for --heatmap but received nothing/);
  assert.match(fault(() => read("a", "b", "--heatmap", "--json")), /expected FILE for --heatmap but received "--json"/);
  assert.match(fault(() => read("a", "b", "--json=yes")), /expected no value for --json but received "yes"/);
  assert.match(fault(() => read()), /expected FROM TO for himap weights try but received nothing/);
  assert.match(fault(() => read("a")), /expected FROM TO .* but received "a"$/);
  assert.match(fault(() => read("a", "b", "c")), /but received "a" "b" "c"/);
  assert.match(fault(() => read("a", "b", "--__proto__")), /expected a known option/);
});

test("all faults at once", () => {
  assert.is(fault(() => read("--max-tokens", "x", "--jsn", "--heatmap")).split("\n").length, 3);
});

test("help wins over what is missing, and says everything", () => {
  assert.is(read("--help"), undefined);
  assert.is(read("-h", "a"), undefined);
  const help = commandHelp(sample as never);
  for (const word of ["himap weights try FROM TO [options]", "--max-tokens N", "where to end", "--debug", "ends the options"]) assert.ok(help.includes(word), word);
  assert.ok(help.split("\n").every((line) => line.length <= 100));
});

test("--debug is no option of the command itself", () => {
  assert.equal(read("a", "b", "--debug")!.options, {});
});

test("pruning: a name is handed on, JSON is read", () => {
  assert.is(readPruning("himap"), "himap");
  assert.is(readPruning("nonsense"), "nonsense", "the library knows the names");
  assert.equal(readPruning('{"preset":"random","seed":3}'), { preset: "random", seed: 3 });
  const cut = { before: 2, score: { rows: "last" }, keep: { ratio: 0.5 } };
  assert.equal(readPruning(JSON.stringify([cut])), { cuts: [cut] });
  assert.equal(readPruning(JSON.stringify({ cuts: [cut] })), { cuts: [cut] });
});

test("pruning: lists become the typed arrays that a policy wants", () => {
  assert.equal(readPruning('[{"before":0,"score":{"kept":[1,5]}}]'), { cuts: [{ before: 0, score: { kept: Uint32Array.of(1, 5) } }] });
  const weighted = readPruning('[{"before":2,"score":{"rows":"all","weights":[1,0.5]},"keep":{"count":1}}]') as { cuts: readonly { score: { weights: Float32Array } }[] };
  assert.equal(weighted.cuts[0]!.score.weights, Float32Array.of(1, 0.5));
});

test("pruning: what is not JSON or has no place in a list is said", () => {
  assert.match(fault(() => readPruning("[{]")), /expected JSON for --pruning but received "\[\{\]"/);
  assert.match(fault(() => readPruning('[{"before":0,"score":{"kept":[1,-5]}}]')), /expected indices of image tokens for kept in --pruning but received -5/);
  // Whatever else it holds is the library's to judge.
  for (const odd of ["[]", "[null]", "[[1]]", '{"cuts":[{"score":null}]}', '{"cuts":7}', '[{"score":{"kept":"a"}}]']) readPruning(odd);
});

test.run();
