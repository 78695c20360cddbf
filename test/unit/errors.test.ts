import { test } from "uvu";
import * as assert from "uvu/assert";

import { HimapError } from "../../lib/errors.cjs";
import type { PartialResult } from "../../lib/types.js";

const json = (error: HimapError): unknown => JSON.parse(JSON.stringify({ error })).error;

test("an error as JSON says what it says in words, and hands on neither its cause nor a text that was generated", () => {
  const given = { hint: "send fewer", faults: ["one", "two"], cause: new Error("secret"), partial: { text: "secret" } as PartialResult };
  assert.equal(json(new HimapError("ERR_QUEUE_FULL", "generate: the queue is full", given)), {
    name: "HimapError", code: "ERR_QUEUE_FULL", message: "generate: the queue is full", retryable: true, hint: "send fewer", faults: ["one", "two"],
  });
});

test("what an error does not have is not there", () => {
  assert.equal(json(new HimapError("ERR_BAD_IMAGE", "no picture")), {
    name: "HimapError", code: "ERR_BAD_IMAGE", message: "no picture", retryable: false,
  });
});

test.run();
