/** What an encoded picture is, by its first bytes: the decoder is never shown anything but the formats allowed. */

import { HimapError } from "../errors.cjs";

export type ImageFormat = "JPEG" | "PNG" | "WebP";

/** Formats that people do hand in, to be told so by name. "." stands for any byte. */
const signatures: readonly (readonly [name: string, start: string])[] = [
  ["JPEG", "\xff\xd8\xff"],
  ["PNG", "\x89PNG\r\n\x1a\n"],
  ["WebP", "RIFF....WEBP"],
  ["GIF", "GIF8"],
  ["TIFF", "II*\0"],
  ["TIFF", "MM\0*"],
  ["HEIF or AVIF", "....ftyp"],
  ["JPEG XL", "\xff\x0a"],
  ["JPEG XL", "\0\0\0\x0cJXL "],
  ["JPEG 2000", "\0\0\0\x0cjP"],
  ["BMP", "BM"],
  ["PDF", "%PDF"],
  ["SVG or XML", "<?xml"],
  ["SVG or XML", "<svg"],
];
const allowed: readonly string[] = ["JPEG", "PNG", "WebP"] satisfies ImageFormat[];

/** @throws ERR_UNSUPPORTED_FILE for another known format, ERR_BAD_IMAGE for bytes that are none */
export function imageFormat(bytes: Uint8Array): ImageFormat {
  const start = Array.from(bytes.subarray(0, 16), (byte) => String.fromCharCode(byte)).join("");
  const name = signatures.find(([, signature]) => matches(start, signature))?.[0];
  if (name !== undefined && allowed.includes(name)) return name as ImageFormat;
  const text = `expected a JPEG, PNG or WebP file for an image but received ${name ?? (bytes.length === 0 ? "no bytes" : "bytes of another kind")}`;
  throw new HimapError(name === undefined ? "ERR_BAD_IMAGE" : "ERR_UNSUPPORTED_FILE", text);
}

function matches(start: string, signature: string): boolean {
  return start.length >= signature.length && [...signature].every((character, i) => character === "." || character === start[i]);
}
