/** What this machine offers: which binary was loaded or why none, and which devices it can use. */

import { existsSync } from "node:fs";
import os from "node:os";

import { glibcVersion, target } from "./binding/find.js";
import { loadNative, nativePath, nativeWhy } from "./binding/load.js";
import type { NativeModule } from "./binding/native.js";
import { bestDevice } from "./device.js";
import { loadSharp } from "./image/sharp.js";
import { nvidiaHint, readNvidia } from "./nvidia.js";
import { packageVersion } from "./package.js";
import type { DoctorReport } from "./types.js";

/** Never rejects: what is wrong is in the report. */
export async function doctor(): Promise<DoctorReport> {
  const glibc = glibcVersion();
  const report: DoctorReport = {
    version: packageVersion,
    platform: target,
    node: process.version,
    system: { kernel: `${os.type()} ${os.release()}`, ...(glibc !== undefined && { glibc }) },
    binary: {},
    images: await loadSharp().then(({ versions }) => ({ sharp: versions.sharp!, libvips: versions.vips }), (error: unknown) => ({ error: explain(error) })),
    devices: [],
    nvidia: await readNvidia(),
    memory: memory(),
    processors: os.availableParallelism(),
    processor: os.cpus()[0]?.model.trim() || "unknown",
  };
  let native: NativeModule;
  try {
    native = loadNative();
    report.binary = { path: nativePath(), why: nativeWhy() };
  } catch (error) {
    report.binary = { error: explain(error) };
    return report;
  }
  const backends = native.backends();
  report.devices = backends.map(({ name, usable, path, reason, detail }) => ({
    name,
    usable,
    path,
    ...(reason !== undefined && { reason }),
    ...(name === "cuda" && !usable && { hint: nvidiaHint(report.nvidia, existsSync(path)) }),
    ...(detail !== undefined && { detail }),
  }));
  const { device } = bestDevice(backends);
  if (device !== undefined) report.device = device;
  return report;
}

/** A failure with its cause and what to do about it, in one line. */
function explain(error: unknown): string {
  const { message, hint, cause } = error as { message: string; hint?: string; cause?: { message?: string } };
  const inner = cause?.message?.split("\n", 1)[0];
  const whole = inner === undefined || message.includes(inner) ? message : `${message}: ${inner}`;
  return hint ? `${whole} (${hint})` : whole;
}

function memory(): DoctorReport["memory"] {
  const total = os.totalmem();
  const limit = process.constrainedMemory();
  return { total, free: os.freemem(), ...(limit > 0 && limit < total && { limit }) };
}
