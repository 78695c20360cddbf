/** What is told of cards and driver, from a kernel's files made for the purpose. */

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";

import { test } from "uvu";
import * as assert from "uvu/assert";

import { nvidiaHint, readNvidia } from "../../lib/nvidia.js";

const root = mkdtempSync(path.join(os.tmpdir(), "himap-nvidia-"));
test.after(() => rmSync(root, { recursive: true }));

function write(file: string, text: string): void {
  mkdirSync(path.dirname(path.join(root, file)), { recursive: true });
  writeFileSync(path.join(root, file), text);
}

test("nothing where there is nothing", async () => {
  assert.equal(await readNvidia(root), { cards: [], onBus: 0 });
});

test("cards on the bus are counted without a driver, other devices of the vendor are not", async () => {
  const devices = { "0000:01:00.0": ["0x10de", "0x030000"], "0000:01:00.1": ["0x10de", "0x040300"], "0000:02:00.0": ["0x10de", "0x030200"], "0000:03:00.0": ["0x8086", "0x030000"] };
  for (const [slot, [vendor, kind]] of Object.entries(devices)) {
    write(`sys/bus/pci/devices/${slot}/vendor`, `${vendor}\n`);
    write(`sys/bus/pci/devices/${slot}/class`, `${kind}\n`);
  }
  assert.equal(await readNvidia(root), { cards: [], onBus: 2 });
});

test("the driver's version in both of its forms, and the cards' models", async () => {
  write("proc/driver/nvidia/gpus/0000:01:00.0/information", "Model: \t\t NVIDIA H100 80GB HBM3\nIRQ:   \t\t 18\n");
  write("proc/driver/nvidia/version", "NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.86.15  Fri Jan 10\nGCC version: gcc 12.2.0\n");
  assert.equal(await readNvidia(root), { driver: "570.86.15", cards: ["NVIDIA H100 80GB HBM3"], onBus: 2 });
  write("proc/driver/nvidia/version", "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build\n");
  assert.is((await readNvidia(root)).driver, "580.95.05");
});

test("each reason has its own advice", () => {
  assert.match(nvidiaHint({ cards: [], onBus: 1 }, false), /himap build/);
  assert.match(nvidiaHint({ cards: [], onBus: 0 }, true), /no NVIDIA card/);
  assert.match(nvidiaHint({ cards: [], onBus: 1 }, true), /install NVIDIA's driver, 580/);
  assert.match(nvidiaHint({ driver: "535.104", cards: [], onBus: 1 }, true), /535\.104 is too old/);
  assert.match(nvidiaHint({ driver: "580.95.05", cards: ["a card"], onBus: 1 }, true), /--gpus all/);
});

test.run();
