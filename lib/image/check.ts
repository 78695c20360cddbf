/** Faults in the form of a picture: everything that shows before its bytes are read. */

import { fileURLToPath } from "node:url";

import type { Faults } from "../check.js";
import { limits } from "../defaults.js";
import type { RawImage } from "../types.js";
import type { PictureInput } from "./decode.js";

const kinds = ["path", "pixels", "embedding"] as const;
const names = [...kinds, "width", "height", "channels"] as const;
type Given = Partial<Record<(typeof names)[number], unknown>>;

/**
 * Checks the form of a picture; bytes and streams are kept as they are. An embedding comes back unread, for it is the
 * caller's to check or to refuse. The result is `undefined` where there are faults.
 */
export function checkPicture(value: unknown, where: string, faults: Faults): PictureInput | { embedding: unknown } | undefined {
  let hint = typeof value === "string" ? " (a file is { path }, so that a text from outside never reads one)" : "";
  try {
    if (value instanceof Uint8Array || value instanceof Blob || value instanceof ReadableStream) return value;
    if (value instanceof ArrayBuffer) return new Uint8Array(value);
    if (value instanceof URL) return readUrl(value, where, faults);
    if (typeof value === "object" && value !== null) {
      // Those of Node that read a file have a path too.
      if ("pipe" in value) hint = " (a stream of Node is one as Readable.toWeb(stream))";
      else if (kinds.some((kind) => kind in value)) {
        const given = faults.properties(value, where, names);
        return given && readObject(given, where, faults);
      }
    }
  } catch {
    // Cannot be read.
  }
  faults.add("bytes, a Blob, a stream, { path }, a file: URL, raw pixels or an embedding", where, value, () => hint);
  return undefined;
}

function readUrl(url: URL, where: string, faults: Faults): PictureInput | undefined {
  try {
    return { path: fileURLToPath(url) };
  } catch {
    faults.add("a file: URL of this machine", where, url.href, () => " (nothing is fetched: hand in the bytes)");
    return undefined;
  }
}

function readObject(given: Given, where: string, faults: Faults): PictureInput | { embedding: unknown } | undefined {
  const kind = kinds.find((name) => given[name] !== undefined) ?? "path";
  const own: readonly string[] = kind === "pixels" ? ["pixels", "width", "height", "channels"] : [kind];
  for (const name of names) {
    if (given[name] !== undefined && !own.includes(name)) faults.add(`no ${name} beside ${kind}`, `${where}.${name}`, given[name]);
  }
  if (kind === "embedding") return { embedding: given.embedding };
  if (kind === "pixels") return readRaw(given, where, faults);
  const { path } = given;
  if (typeof path === "string" && path !== "" && !path.includes("\0")) return { path };
  faults.add("the path of a file", `${where}.path`, path);
  return undefined;
}

function readRaw(given: Given, where: string, faults: Faults): RawImage | undefined {
  const { pixels, channels } = given;
  const side = { min: 1, max: limits.imageSide, integer: true };
  const width = faults.number(given.width, `${where}.width`, side);
  const height = faults.number(given.height, `${where}.height`, side);
  if (channels !== 3 && channels !== 4) {
    faults.add("3 or 4", `${where}.channels`, channels);
    return undefined;
  }
  if (width === undefined || height === undefined) return undefined;
  const bytes = width * height * channels;
  if (pixels instanceof Uint8Array && pixels.length === bytes) return { pixels, width, height, channels };
  faults.add(`a Uint8Array of width * height * channels = ${bytes} bytes`, `${where}.pixels`, pixels);
  return undefined;
}
