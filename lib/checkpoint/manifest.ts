/**
 * The manifest: the model's numbers and where each tensor lies, as text, one fact a line. TypeScript writes it,
 * `native/model/manifest.cc` reads it and trusts nothing in it; a native runner can replay one without Node.
 */

import type { Checkpoint } from "./types.js";

/** Paths may hold anything, so bytes outside a safe set are written as %XX. */
function escapePath(path: string): string {
  return Array.from(Buffer.from(path, "utf8"), (byte) =>
    /[A-Za-z0-9/._-]/.test(String.fromCharCode(byte)) ? String.fromCharCode(byte) : `%${byte.toString(16).padStart(2, "0").toUpperCase()}`,
  ).join("");
}

export function writeManifest(checkpoint: Pick<Checkpoint, "config" | "files" | "tensors">): string {
  const { vision, ...text } = checkpoint.config;
  const lines = ["himap-manifest 1"];
  for (const [key, value] of Object.entries(text)) lines.push(`config ${key} ${value}`);
  for (const [key, value] of Object.entries(vision)) lines.push(`config vision.${key} ${value}`);
  for (const file of checkpoint.files) lines.push(`file ${file.bytes} ${escapePath(file.path)}`);
  for (const { name, type, file, offset, bytes, shape } of checkpoint.tensors) {
    lines.push(`tensor ${name} ${type} ${file} ${offset} ${bytes} ${shape.join(" ")}`);
  }
  lines.push("end");
  return `${lines.join("\n")}\n`;
}
