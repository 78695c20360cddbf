/** What the kernel says of NVIDIA's cards and driver: files only, so that it holds where nothing of CUDA works. */

import { readdir, readFile } from "node:fs/promises";
import path from "node:path";

import type { DoctorReport } from "./types.js";

const vendor = "0x10de";
/** Classes of PCI devices: VGA and 3D controllers. */
const displayClass = /^0x030[02]/;
/** The oldest that runs binaries of CUDA 13. */
const leastDriver = 580;

const read = (...parts: string[]): Promise<string> => readFile(path.join(...parts), "utf8").catch(() => "");
const list = (...parts: string[]): Promise<string[]> => readdir(path.join(...parts)).catch(() => []);

/** @param root where `/proc` and `/sys` lie */
export async function readNvidia(root = "/"): Promise<DoctorReport["nvidia"]> {
  const proc = path.join(root, "proc", "driver", "nvidia");
  const driver = /^NVRM version:.*?\s(\d+\.\d+(?:\.\d+)?)\s/m.exec(await read(proc, "version"))?.[1];
  const gpus = await list(proc, "gpus");
  const cards = await Promise.all(gpus.map(async (gpu) => /^Model:\s*(.+?)\s*$/m.exec(await read(proc, "gpus", gpu, "information"))?.[1] ?? gpu));
  const bus = path.join(root, "sys", "bus", "pci", "devices");
  const onBus = await Promise.all((await list(bus)).map(async (slot) =>
    (await read(bus, slot, "vendor")).trim() === vendor && displayClass.test(await read(bus, slot, "class"))));
  return { ...(driver !== undefined && { driver }), cards, onBus: onBus.filter(Boolean).length };
}

/**
 * What to do where the CUDA backend cannot be used.
 * @param hasLibrary whether the binary came with a CUDA library
 */
export function nvidiaHint({ driver, onBus }: DoctorReport["nvidia"], hasLibrary: boolean): string {
  if (!hasLibrary) {
    return process.arch === "x64"
      ? "the binary in use was built without CUDA; `npx himap build` builds it where nvcc is"
      : `no CUDA library is published for ${process.platform}-${process.arch}; \`npx himap build\` builds one where nvcc is`;
  }
  if (driver === undefined) {
    return onBus === 0 ? "no NVIDIA card is on this machine's bus" : `a card is on the bus: install NVIDIA's driver, ${leastDriver} or newer`;
  }
  return Number.parseInt(driver, 10) < leastDriver
    ? `driver ${driver} is too old: install ${leastDriver} or newer`
    : `the kernel has driver ${driver}: in a container, make the card visible to it (docker run --gpus all)`;
}
