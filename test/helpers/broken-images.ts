/** Pictures that must be refused, each with its code. */

import { mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { crc32, deflateSync } from "node:zlib";
import sharp from "sharp";

import type { ErrorCode } from "../../lib/errors.cjs";
import type { DecodeOptions } from "../../lib/image/decode.js";
import { golden } from "./pictures.js";

export interface BrokenImage {
  name: string;
  input: unknown;
  code: ErrorCode;
  options?: Partial<DecodeOptions>;
}

/** A PNG chunk; `sum` replaces its checksum. */
function chunk(kind: string, data: Uint8Array, sum?: number): Buffer {
  const body = Buffer.concat([Buffer.from(kind, "latin1"), data]);
  const bytes = Buffer.alloc(body.length + 8);
  bytes.writeUInt32BE(data.length, 0);
  body.copy(bytes, 4);
  bytes.writeUInt32BE(sum ?? crc32(body), body.length + 4);
  return bytes;
}

const signature = Buffer.from("\x89PNG\r\n\x1a\n", "latin1");

function header(width: number, height: number, depth = 8, kind = 2): Buffer {
  const data = Buffer.alloc(13);
  data.writeUInt32BE(width, 0);
  data.writeUInt32BE(height, 4);
  data[8] = depth;
  data[9] = kind;
  return data;
}

/** A PNG that claims a size and holds the given rows. */
function png(width: number, height: number, rows: Uint8Array, depth = 8, kind = 2): Buffer {
  return Buffer.concat([
    signature,
    chunk("IHDR", header(width, height, depth, kind)),
    chunk("IDAT", deflateSync(rows)),
    chunk("IEND", Buffer.alloc(0)),
  ]);
}

function changed(bytes: Uint8Array, at: number, ...values: number[]): Uint8Array {
  const copy = Uint8Array.from(bytes);
  copy.set(values, at < 0 ? copy.length + at : at);
  return copy;
}

export async function brokenImages(): Promise<BrokenImage[]> {
  const file = (name: string): Buffer => readFileSync(golden(`pictures/${name}`));
  const jpeg = file("baseline.jpg");
  const webp = file("lossy.webp");
  const rgb = file("rgb.png");
  const text = (value: string): Buffer => Buffer.from(value, "latin1");
  const folder = mkdtempSync(path.join(tmpdir(), "himap-images-"));
  const empty = path.join(folder, "empty.png");
  writeFileSync(empty, "");
  const svg = text('<svg xmlns="http://www.w3.org/2000/svg" width="8" height="8"><rect width="8" height="8"/></svg>');
  const frame = jpeg.indexOf(Buffer.from([0xff, 0xc0])); // start of frame: height and width stand 5 bytes on
  const scan = jpeg.indexOf(Buffer.from([0xff, 0xda]));
  const raw = { pixels: new Uint8Array(12), width: 2, height: 2, channels: 3 };
  const locked = new ReadableStream<Uint8Array>();
  locked.getReader();

  const bytes: [name: string, input: unknown, code: ErrorCode, options?: Partial<DecodeOptions>][] = [
    ["no bytes", new Uint8Array(0), "ERR_BAD_IMAGE"],
    ["one byte", new Uint8Array(1), "ERR_BAD_IMAGE"],
    ["text", text("not a picture at all, only words"), "ERR_BAD_IMAGE"],
    ["an HTML page", text("<!doctype html><title>404</title>"), "ERR_BAD_IMAGE"],
    ["zeros", new Uint8Array(4096), "ERR_BAD_IMAGE"],
    ["a GIF", await sharp(rgb).gif().toBuffer(), "ERR_UNSUPPORTED_FILE"],
    ["a TIFF", await sharp(rgb).tiff().toBuffer(), "ERR_UNSUPPORTED_FILE"],
    ["an AVIF", await sharp(rgb).avif({ effort: 0 }).toBuffer(), "ERR_UNSUPPORTED_FILE"],
    ["an SVG", svg, "ERR_UNSUPPORTED_FILE"],
    ["a PDF", text("%PDF-1.4\n"), "ERR_UNSUPPORTED_FILE"],
    ["a BMP", text("BM\x46\0\0\0\0\0\0\0\x36\0\0\0"), "ERR_UNSUPPORTED_FILE"],
    ["a RIFF that is a sound", text("RIFF\x24\0\0\0WAVEfmt "), "ERR_BAD_IMAGE"],
    ["a PNG signature and an SVG", Buffer.concat([signature, svg]), "ERR_BAD_IMAGE"],
    ["a JPEG start and nothing", Uint8Array.of(0xff, 0xd8, 0xff), "ERR_BAD_IMAGE"],
    ["a JPEG cut in its header", jpeg.subarray(0, 100), "ERR_BAD_IMAGE"],
    ["a JPEG cut in its data", jpeg.subarray(0, jpeg.length - 40), "ERR_BAD_IMAGE"],
    ["a JPEG with damaged data", changed(jpeg, scan + 40, 0xff, 0x01, 0xff, 0x02, 0xff, 0x03), "ERR_BAD_IMAGE"],
    ["a JPEG of height 0", changed(jpeg, frame + 5, 0, 0), "ERR_BAD_IMAGE"],
    ["a JPEG of width 0", changed(jpeg, frame + 7, 0, 0), "ERR_BAD_IMAGE"],
    ["a JPEG of 12 bits", changed(jpeg, frame + 4, 12), "ERR_BAD_IMAGE"],
    ["a JPEG that claims 65,500 x 65,500", changed(jpeg, frame + 5, 0xff, 0xdc, 0xff, 0xdc), "ERR_TOO_LARGE"],
    ["a PNG cut in its header", rgb.subarray(0, 20), "ERR_BAD_IMAGE"],
    ["a PNG cut in its data", rgb.subarray(0, rgb.length - 200), "ERR_BAD_IMAGE"],
    ["a PNG with a wrong checksum", changed(rgb, rgb.indexOf("IDAT") + 60, rgb[rgb.indexOf("IDAT") + 60]! ^ 1), "ERR_BAD_IMAGE"],
    ["a PNG of width 0", png(0, 4, new Uint8Array(4)), "ERR_BAD_IMAGE"],
    ["a PNG of 2^31 columns", png(2 ** 31, 1, new Uint8Array(4)), "ERR_BAD_IMAGE"],
    ["a PNG of an unknown colour type", png(2, 2, new Uint8Array(14), 8, 5), "ERR_BAD_IMAGE"],
    ["a PNG of 3 bits", png(2, 2, new Uint8Array(14), 3, 0), "ERR_BAD_IMAGE"],
    ["a PNG with too few rows", png(4, 4, new Uint8Array(13)), "ERR_BAD_IMAGE"],
    ["a palette PNG without its palette", png(2, 2, new Uint8Array(6), 8, 3), "ERR_BAD_IMAGE"],
    [
      "a PNG without data",
      Buffer.concat([signature, chunk("IHDR", header(2, 2)), chunk("IEND", Buffer.alloc(0))]),
      "ERR_BAD_IMAGE",
    ],
    ["a bomb: 20,000 x 20,000 of 1 bit", png(20_000, 20_000, new Uint8Array(2501 * 20_000), 1, 0), "ERR_TOO_LARGE"],
    ["a PNG one pixel above the limit", png(101, 10, new Uint8Array(304 * 10)), "ERR_TOO_LARGE", { maxPixels: 1009 }],
    ["a PNG 70,000 pixels long", png(70_000, 1, new Uint8Array(210_001)), "ERR_TOO_LARGE"],
    ["a WebP cut in its data", webp.subarray(0, webp.length - 60), "ERR_BAD_IMAGE"],
    ["a WebP cut in its header", webp.subarray(0, 24), "ERR_BAD_IMAGE"],
    ["a WebP of an unknown chunk", changed(webp, 12, 88, 88, 88, 88), "ERR_BAD_IMAGE"],
    ["an empty file", { path: empty }, "ERR_BAD_IMAGE"],
    ["a file that is not there", { path: path.join(folder, "none.png") }, "ERR_BAD_IMAGE"],
    ["a folder", { path: folder }, "ERR_BAD_IMAGE"],
    ["a device", { path: "/dev/zero" }, "ERR_BAD_IMAGE"],
    ["a path of no characters", { path: "" }, "ERR_INVALID_ARG"],
    ["a path with a zero byte", { path: "a\0b.png" }, "ERR_INVALID_ARG"],
    ["a URL of the web", new URL("https://example.com/a.png"), "ERR_INVALID_ARG"],
    ["a URL that holds the data", new URL("data:image/png;base64,AAAA"), "ERR_INVALID_ARG"],
    ["a file URL of another machine", new URL("file://elsewhere/a.png"), "ERR_INVALID_ARG"],
    ["a stream that another reads", locked, "ERR_INVALID_ARG"],
    ["a stream of strings", new ReadableStream({ start: (controller) => controller.enqueue("text") }), "ERR_INVALID_ARG"],
    [
      "a stream that fails",
      new ReadableStream({ start: (controller) => controller.error(new Error("cable cut")) }),
      "ERR_BAD_IMAGE",
    ],
    ["a Blob of text", new Blob(["words"]), "ERR_BAD_IMAGE"],
    ["raw pixels too few", { ...raw, height: 3 }, "ERR_INVALID_ARG"],
    ["raw pixels of no width", { ...raw, width: 0, pixels: new Uint8Array(0) }, "ERR_INVALID_ARG"],
    ["raw pixels of half a pixel", { ...raw, width: 1.5 }, "ERR_INVALID_ARG"],
    ["raw pixels of NaN", { ...raw, width: NaN }, "ERR_INVALID_ARG"],
    ["raw pixels of one channel", { ...raw, channels: 1, pixels: new Uint8Array(4) }, "ERR_INVALID_ARG"],
    [
      "raw pixels above the limit",
      { pixels: new Uint8Array(3000), width: 100, height: 10, channels: 3 },
      "ERR_TOO_LARGE",
      { maxPixels: 999 },
    ],
    ["raw floats", { ...raw, pixels: new Float32Array(12) }, "ERR_INVALID_ARG"],
  ];
  return bytes.map(([name, input, code, options]) => ({ name, input, code, ...(options && { options }) }));
}
