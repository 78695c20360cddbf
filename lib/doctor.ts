/** What this machine offers: which binary was loaded or why none, and which devices it can use. */

import os from "node:os";

import { loadNative, nativePath } from "./binding/load.js";
import type { NativeModule } from "./binding/native.js";
import { bestDevice } from "./device.js";
import { packageVersion } from "./package.js";
import type { DoctorReport } from "./types.js";

/** Never rejects: what is wrong is in the report. */
export async function doctor(): Promise<DoctorReport> {
  const report: DoctorReport = {
    version: packageVersion,
    platform: `${process.platform}-${process.arch}`,
    node: process.version,
    binary: {},
    devices: [],
    memory: { total: os.totalmem(), free: os.freemem() },
    processors: os.availableParallelism(),
  };
  let native: NativeModule;
  try {
    native = loadNative();
    report.binary = { path: nativePath() };
  } catch (cause) {
    const { message, hint } = cause as { message: string; hint?: string };
    report.binary = { error: hint ? `${message} (${hint})` : message };
    return report;
  }
  const backends = native.backends();
  report.devices = backends.map(({ name, usable, reason, path, detail }) => ({
    name,
    usable,
    ...(reason !== undefined && { reason }),
    detail: detail === undefined ? path : `${path}, ${detail}`,
  }));
  const { device } = bestDevice(backends);
  if (device !== undefined) report.device = device;
  return report;
}
