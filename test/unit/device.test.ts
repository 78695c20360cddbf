/** Which device a load takes: the best for `auto`, with the reason why not a better one; a named one or none. */

import { test } from "uvu";
import * as assert from "uvu/assert";

import type { BackendReport } from "../../lib/binding/native.js";
import { bestDevice, chooseDevice } from "../../lib/device.js";
import { HimapError } from "../../lib/errors.cjs";

const cpu: BackendReport = { name: "cpu", usable: true, path: "/a/libhimap-cpu.so", detail: "avx2" };
const card: BackendReport = { name: "cuda", usable: true, path: "/a/libhimap-cuda.so", detail: "a card" };
const noDriver: BackendReport = { ...card, usable: false, reason: "no NVIDIA driver was found on this machine" };

function choose(asked: "auto" | "cpu" | "cuda", ...reports: BackendReport[]): { device: string; log: string[] } {
  const log: string[] = [];
  const device = chooseDevice(asked, { backends: () => reports }, (_, message) => log.push(message));
  return { device, log };
}

function refusal(asked: "auto" | "cpu" | "cuda", ...reports: BackendReport[]): HimapError {
  try {
    choose(asked, ...reports);
  } catch (error) {
    return error as HimapError;
  }
  throw new Error("it was not refused");
}

test("auto takes the best there is and says why not a better one", () => {
  assert.equal(choose("auto", cpu, card), { device: "cuda", log: [] });
  assert.equal(choose("auto", cpu, noDriver), { device: "cpu", log: ["cuda is not used: no NVIDIA driver was found on this machine"] });
  assert.equal(choose("auto", cpu), { device: "cpu", log: [] });
  assert.equal(bestDevice([]).device, undefined);
});

test("a named device is taken or refused, never replaced", () => {
  assert.is(choose("cpu", cpu, card).device, "cpu");
  assert.is(choose("cuda", cpu, card).device, "cuda");
  const error = refusal("cuda", cpu, noDriver);
  assert.is(error.code, "ERR_NO_BINARY");
  assert.match(error.message, 'load: expected to use device "cuda" but it cannot be used here: cuda: no NVIDIA driver was found');
  assert.match(refusal("cuda", cpu).message, "it was not built");
  assert.match(refusal("auto", { ...cpu, usable: false, reason: "HIMAP_CPU is wrong" }).message, "cpu: HIMAP_CPU is wrong");
});

test.run();
