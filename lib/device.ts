/** Which device a model runs on. */

import type { BackendName, BackendReport, NativeModule } from "./binding/native.js";
import { HimapError } from "./errors.cjs";

/** Best first: what `auto` goes through. */
const preference = ["cuda", "cpu"] as const satisfies readonly BackendName[];

/** What `device: "auto"` takes, and why not what would be better. */
export function bestDevice(reports: readonly BackendReport[]): { device?: BackendName; passedOver: BackendReport[] } {
  const passedOver: BackendReport[] = [];
  for (const name of preference) {
    const report = reports.find((one) => one.name === name);
    if (report?.usable) return { device: name, passedOver };
    if (report) passedOver.push(report);
  }
  return { passedOver };
}

/**
 * The backend for what a caller asked for. A device that is named is taken or refused, never replaced.
 * @throws HimapError ERR_NO_BINARY: the named device, or any, cannot be used here; the message says why
 */
export function chooseDevice(
  asked: "auto" | BackendName, native: Pick<NativeModule, "backends">, logger: (level: "info", message: string) => void,
): BackendName {
  const reports = native.backends();
  if (asked === "auto") {
    const { device, passedOver } = bestDevice(reports);
    if (device === undefined) throw refused("any device", passedOver);
    for (const { name, reason } of passedOver) logger("info", `${name} is not used: ${reason ?? "no reason given"}`);
    return device;
  }
  const report = reports.find(({ name }) => name === asked);
  if (!report?.usable) throw refused(`device "${asked}"`, report ? [report] : []);
  return asked;
}

function refused(what: string, reports: readonly BackendReport[]): HimapError {
  const reasons = reports.map(({ name, reason }) => `${name}: ${reason ?? "no reason given"}`).join("; ");
  return new HimapError("ERR_NO_BINARY", `load: expected to use ${what} but it cannot be used here: ${reasons || "it was not built"}`, {
    hint: "`himap doctor` lists the devices of this machine",
  });
}
