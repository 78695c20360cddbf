/**
 * Writes test/golden/<case>/replay.txt: a reference case in a form that a native program replays without Node (ids, spans
 * and features in; kept sets, tokens and logits to compare with). One fact a line; tensors are named by file, byte offset
 * and number of floats; paths are relative to the case's folder.
 *
 *   node --import tsx scripts/make-replay.ts        after a change of the manifest or of a case; a test compares
 */

import { readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

import { openCheckpoint } from "../lib/checkpoint/index.js";
import { writeManifest } from "../lib/checkpoint/manifest.js";

export const replayCases = ["mha", "gqa", "full576", "hd128"];

export const caseFolder = (name: string): string => fileURLToPath(new URL(`../test/golden/${name}/`, import.meta.url));

/** Where each tensor of a safetensors file lies: `FILE OFFSET FLOATS`. */
function tensorPlaces(folder: string, file: string): Map<string, string> {
  const bytes = readFileSync(path.join(folder, file));
  const headerBytes = Number(bytes.readBigUInt64LE(0));
  const header = JSON.parse(bytes.toString("utf8", 8, 8 + headerBytes)) as Record<string, { data_offsets: [number, number] }>;
  return new Map(Object.entries(header).filter(([name]) => name !== "__metadata__").map(([name, { data_offsets: [begin, end] }]) =>
    [name, `${file} ${8 + headerBytes + begin} ${(end - begin) / 4}`]));
}

const list = (values: ArrayLike<number>): string => [values.length, ...Array.from(values)].join(" ");

export async function replayText(name: string): Promise<string> {
  const folder = caseFolder(name);
  const golden = JSON.parse(readFileSync(path.join(folder, "case.json"), "utf8"));
  const checkpoint = await openCheckpoint(path.join(folder, "checkpoint"));
  const files = checkpoint.files.map((file) => ({ ...file, path: path.relative(folder, file.path) }));
  const lines = ["himap-replay 1", `case ${name}`, writeManifest({ ...checkpoint, files }).trimEnd()];
  for (const [type, { none, himap_forced: forced, himap_kept_overlap: overlap }] of Object.entries<any>(golden.requests[0].half_precision)) {
    lines.push(`half ${type} ${[none.max_rel, none.rms_rel, forced.max_rel, forced.rms_rel, ...overlap].join(" ")}`);
  }
  for (const request of golden.requests) {
    const places = tensorPlaces(folder, `${request.name}.safetensors`);
    lines.push(`request ${request.name}`, `ids ${list(request.ids.flatMap((id: number) => (id === -200 ? new Array(golden.image_tokens).fill(-1) : [id])))}`);
    if (request.span) lines.push(`span ${request.span.start} ${request.span.count}`, `features ${places.get("image_features")}`);
    if (places.has("pixel_values")) lines.push(`pixels ${places.get("pixel_values")}`);
    for (const [policy, expected] of Object.entries<any>(request.policies)) {
      lines.push(`policy ${policy}`);
      golden.policies[policy].cuts.forEach((cut: any, i: number) => {
        if (request.span) lines.push(`cut ${cut.before} ${cut.rows} ${cut.heads} ${list(expected.kept[i])}`);
      });
      lines.push(`tokens ${list(expected.tokens)}`, `logits ${places.get(`${policy}.step_logits`)}`);
    }
  }
  return `${lines.join("\n")}\nend\n`;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  for (const name of replayCases) writeFileSync(path.join(caseFolder(name), "replay.txt"), await replayText(name));
}
