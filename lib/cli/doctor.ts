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
  const { memory, binary, devices } = report;
  const rows: [string, string][] = [
    ["himap", report.version],
    ["platform", `${report.platform}, Node ${report.node}`],
    ["processors", String(report.processors)],
    ["memory", `${bytesText(memory.total)}, ${bytesText(memory.free)} free`],
    ["binary", binary.path ?? `none: ${binary.error}`],
    ...devices.map(({ name, usable, reason, detail }): [string, string] => [
      name, [usable ? "usable" : `not usable: ${reason ?? "no reason given"}`, ...(detail === undefined ? [] : [detail])].join(", "),
    ]),
    ["device", report.device === undefined ? "none can be used" : `auto takes ${report.device}`],
  ];
  return rows.map(([name, value]) => `${name.padEnd(12)}${value}\n`).join("");
}
