/** `himap doctor`: what this machine offers. */

import { doctor } from "../doctor.js";
import { bytesText } from "../text.js";
import type { DoctorReport } from "../types.js";
import { defineCommand } from "./command.js";
import { jsonText } from "./output.js";

export const doctorCommand = defineCommand({
  name: "doctor",
  summary: "what this machine offers, and why not more; fails where no device can be used",
  operands: {},
  options: { json: { kind: "flag", help: "one JSON object on standard output" } },
  async run({ options }, terminal) {
    const report = await doctor();
    await terminal.write(options.json ? jsonText(report) : formatDoctor(report));
    return report.device === undefined ? 1 : 0;
  },
});

/** A report as a page for a terminal. */
export function formatDoctor(report: DoctorReport): string {
  const { system, memory, binary, images, devices, nvidia } = report;
  const c = system.glibc === undefined ? "a C library that is not glibc" : `glibc ${system.glibc}`;
  const limit = memory.limit === undefined ? "" : `, of which this process may use ${bytesText(memory.limit)}`;
  const rows: [string, ...string[]][] = [
    ["himap", report.version],
    ["platform", `${report.platform}, ${system.kernel}, ${c}, Node ${report.node}`],
    ["processors", `${report.processors}, ${report.processor}`],
    ["memory", `${bytesText(memory.total)}, ${bytesText(memory.free)} free${limit}`],
    ["binary", ...(binary.path === undefined ? [`none: ${binary.error}`] : [binary.path, binary.why!])],
    ["pictures", images.error ?? `sharp ${images.sharp}, libvips ${images.libvips}`],
    ...devices.map(({ name, usable, path, reason, hint, detail }): [string, ...string[]] => [
      name,
      usable ? `usable${detail === undefined ? "" : `, ${detail}`}` : `not usable: ${reason ?? "no reason given"}`,
      hint ?? path,
    ]),
    ["driver", nvidia.driver === undefined ? "no NVIDIA driver" : `NVIDIA ${nvidia.driver}: ${nvidia.cards.join(", ") || "no card"}`],
    ["device", report.device === undefined ? "none can be used" : `auto takes ${report.device}`],
  ];
  return rows.map(([name, ...lines]) => lines.map((line, i) => `${(i === 0 ? name : "").padEnd(12)}${line}\n`).join("")).join("");
}
