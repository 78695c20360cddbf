import { test } from "uvu";
import * as assert from "uvu/assert";

import { UsageError } from "../../lib/cli/command.js";
import { asUsage, failureJson, failureText } from "../../lib/cli/failure.js";
import { HimapError } from "../../lib/errors.cjs";

/** What the library says, and what the command line makes of it. */
function told(given: Record<string, unknown>, ...faults: string[]): readonly string[] | undefined {
  const error = asUsage(new HimapError("ERR_INVALID_ARG", `generate: ${faults.join("; ")}`, { faults }), given);
  return error instanceof UsageError ? error.faults : undefined;
}

test("a fault of an option that was given is the command line's, in its words", () => {
  const cases: [given: Record<string, unknown>, fault: string, expected: string][] = [
    [{ maxTokens: -5 }, "expected a number for maxTokens but received -5", "expected a number for --max-tokens but received -5"],
    [{ n: 2 }, "expected 1, as it decides for one answer, for n but received 2", "expected 1, as it decides for one answer, for --n but received 2"],
    [{ pruning: "x", n: 1 }, 'expected a for pruning but received "x for n but received 1"', 'expected a for --pruning but received "x for n but received 1"'],
    [{ stop: [""] }, 'expected a string for stop[0] but received ""', 'expected a string for --stop but received ""'],
    [{ kvBytes: 1 }, "expected at least 9 for memory.kvBytes but received 1", "expected at least 9 for --kv-bytes but received 1"],
    [{ cache: "x" }, 'expected one of "a" for pruning.cache but received "x"', 'expected one of "a" for --cache but received "x"'],
    [{ pruning: "{}" }, 'expected one of "a" for pruning.cache but received "x"', 'expected one of "a" for --pruning: cache but received "x"'],
    [{ pruning: "[]", seed: 1 }, "expected 1 for pruning.seed but received 2", "expected 1 for --pruning: seed but received 2"],
    [{ pruning: "[]" }, "expected 1 for pruning.cuts[0].before but received 2", "expected 1 for --pruning: cuts[0].before but received 2"],
    [{ pruning: "[]" }, "expected 1 for pruning: cut 0 before but received 2", "expected 1 for --pruning: cut 0 before but received 2"],
  ];
  for (const [given, fault, expected] of cases) assert.equal(told(given, fault), [expected]);
});

test("what names no option that was given stays the library's", () => {
  assert.is(told({ topP: 1 }, "expected a number for maxTokens but received -5"), undefined);
  assert.is(told({}, "expected a number for constructor but received -5"), undefined);
  assert.is(told({ heatmap: "x" }, 'expected a file that can be written for --heatmap but received "x" (ENOENT)'), undefined);
  const other = new HimapError("ERR_TIMEOUT", "expected a number for maxTokens but received -5");
  assert.is(asUsage(other, { maxTokens: 1 }), other);
  assert.equal(told({ topP: 7 }, "expected 1 for topP but received 7", "expected text for prompt but received 3"), [
    "expected 1 for --top-p but received 7", "expected text for prompt but received 3",
  ]);
});

test("a fault that came alone loses the name of the call, and keeps its cure and its cause", () => {
  const cause = new HimapError("ERR_INVALID_ARG", "weights convert: expected no folder for vision but received \"x\"", { hint: "it has its own" });
  const error = asUsage(cause, { vision: "x" }) as UsageError;
  assert.equal([error.message, error.hint, error.cause], ['expected no folder for --vision but received "x"', "it has its own", cause]);
});

test("for people: a line for each fault, the cure, and where help is", () => {
  assert.is(failureText(new UsageError(["one", "two"])), "himap: one\nhimap: two\nhimap: try himap --help, or himap COMMAND --help\n");
  assert.is(failureText(new HimapError("ERR_NO_BINARY", "none", { hint: "build one" })), "himap: ERR_NO_BINARY none\nhimap: build one\n");
  assert.is(failureText(Object.assign(new Error("ENOENT: gone"), { code: "ENOENT" })), "himap: ENOENT: gone\n");
  assert.is(failureText(Object.assign(new Error("gone"), { code: "ENOENT" })), "himap: ENOENT gone\n");
});

test("for programs: one object, with what had been answered", () => {
  const partial = { text: "a", tokens: Uint32Array.of(7) };
  const { error } = JSON.parse(failureJson(new HimapError("ERR_TIMEOUT", "late", { partial: partial as never }))) as { error: object };
  assert.equal(error, { name: "HimapError", code: "ERR_TIMEOUT", message: "late", retryable: true, partial: { text: "a", tokens: [7] } });
  assert.is(failureJson(new UsageError(["one"])), '{"error":{"name":"HimapError","code":"ERR_INVALID_ARG","message":"one","retryable":false,"faults":["one"]}}\n');
  assert.is(failureJson(new TypeError("odd")), '{"error":{"code":"ERR_INTERNAL","message":"odd","retryable":false}}\n');
});

test.run();
