/** From any form of picture to RGB bytes, as Pillow's `convert("RGB")` makes them. sharp decodes and does nothing else. */

import type { Sharp } from "sharp";

import { phrase } from "../check.js";
import { limits } from "../defaults.js";
import { HimapError } from "../errors.cjs";
import type { ImageInput, RawImage } from "../types.js";
import { imageFormat } from "./format.js";
import { Gate } from "./gate.js";
import { loadSharp } from "./sharp.js";
import { readSource } from "./source.js";

export interface DecodeOptions {
  /** Largest width * height accepted, looked at before anything is decoded. */
  maxPixels: number;
  /** Turn the picture as its EXIF orientation says. */
  autoOrient: boolean;
  signal?: AbortSignal | undefined;
}

/** A picture whose form was checked: a URL has become its path, a buffer its bytes; an embedding holds no picture. */
export type PictureInput = Exclude<ImageInput, { embedding: unknown } | URL | ArrayBuffer>;

/** At most two decodes at once: they run on libuv's pool of four, and the user's files need threads too. */
const decoding = new Gate(2);

/** A picture as it was handed in: raw pixels, or the bytes of a file. */
export type PictureSource = RawImage | Uint8Array;

/**
 * Decodes a picture. Palettes are expanded, grey is replicated, 16 bits become the upper 8, alpha is dropped (not blended),
 * only the first page is read, colour profiles are ignored: what the models were trained on. Raw pixels are
 * handed back as they are; their fourth channel is to be ignored.
 * @throws ERR_INVALID_ARG, ERR_BAD_IMAGE, ERR_UNSUPPORTED_FILE, ERR_TOO_LARGE, ERR_ABORTED
 */
export async function decodeImage(input: PictureInput, options: DecodeOptions): Promise<RawImage> {
  return decodeSource(await readPicture(input, options), options);
}

/**
 * Copies of a file's bytes, and raw pixels as they are.
 * @throws ERR_INVALID_ARG, ERR_BAD_IMAGE, ERR_UNSUPPORTED_FILE, ERR_TOO_LARGE, ERR_ABORTED
 */
export async function readPicture(input: PictureInput, options: DecodeOptions): Promise<PictureSource> {
  if ("pixels" in input) {
    checkSize(input.width, input.height, options.maxPixels);
    return input;
  }
  const bytes = await readSource(input, options.signal);
  imageFormat(bytes);
  return bytes;
}

/** The second half of `decodeImage`. @throws ERR_BAD_IMAGE, ERR_TOO_LARGE, ERR_ABORTED */
export async function decodeSource(source: PictureSource, options: DecodeOptions): Promise<RawImage> {
  return source instanceof Uint8Array ? decoding.run(() => decodeBytes(source, options), options.signal) : source;
}

function checkSize(width: number, height: number, maxPixels: number): void {
  if (Math.max(width, height) > limits.imageSide) {
    throw new HimapError(
      "ERR_TOO_LARGE",
      `expected at most ${limits.imageSide} pixels a side for an image but received ${width} x ${height}`,
    );
  }
  if (width * height > maxPixels) {
    throw new HimapError("ERR_TOO_LARGE", `expected at most ${maxPixels} pixels for an image but received ${width} x ${height}`, {
      hint: "raise maxPixels, an option of load() and of renderHeatmap()",
    });
  }
}

async function decodeBytes(bytes: Uint8Array, { maxPixels, autoOrient }: DecodeOptions): Promise<RawImage> {
  const sharp = await loadSharp();
  // A file that decodes with a warning is damaged, and an answer about a damaged picture is a silent fault.
  const open = (limitInputPixels: number | false): Sharp =>
    sharp(bytes, { failOn: "warning", ignoreIcc: true, limitInputPixels, autoOrient });
  try {
    // Reads no more than the header; its limit would be an error of another kind.
    const { width, height, space } = await open(false).metadata();
    checkSize(width, height, maxPixels);
    const picture = open(maxPixels);
    // Left in CMYK, the four inks are turned into RGB below: libvips would do so by a profile.
    if (space === "cmyk") picture.pipelineColourspace("cmyk").toColourspace("cmyk");
    else picture.toColourspace("srgb").removeAlpha();
    const { data, info } = await picture.raw().toBuffer({ resolveWithObject: true });
    return { pixels: toRgb(data, info.channels, info.width * info.height), width: info.width, height: info.height, channels: 3 };
  } catch (cause) {
    if (cause instanceof HimapError) throw cause;
    throw new HimapError("ERR_BAD_IMAGE", `expected an intact image but the decoder says: ${decoderText(cause)}`, { cause });
  }
}

/** The first line of what the decoder says, without the numbers that could be addresses. */
function decoderText(cause: unknown): string {
  const line =
    String((cause as Error).message ?? cause)
      .trim()
      .split("\n")[0] ?? "";
  return line.replace(/0x[0-9a-f]+/gi, "?").slice(0, 200);
}

/** One channel of grey, three of RGB, or four inks, as RGB. */
function toRgb(data: Uint8Array, channels: number, count: number): Uint8Array {
  if (channels === 3) return data;
  const rgb = new Uint8Array(count * 3);
  if (channels === 1) {
    for (let i = 0, o = 0; i < count; i++) {
      const grey = data[i]!;
      rgb[o++] = grey;
      rgb[o++] = grey;
      rgb[o++] = grey;
    }
    return rgb;
  }
  if (channels !== 4) throw new HimapError("ERR_BAD_IMAGE", phrase("1, 3 or 4 colour channels", "an image", channels));
  for (let i = 0, o = 0; i < count * 4; i += 4) {
    const light = 255 - data[i + 3]!;
    for (let c = 0; c < 3; c++) {
      // light * ink / 255, rounded as Pillow rounds.
      const product = light * data[i + c]! + 128;
      rgb[o++] = Math.max(0, light - (((product >> 8) + product) >> 8));
    }
  }
  return rgb;
}
