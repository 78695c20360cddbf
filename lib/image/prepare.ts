/** From any form of picture to what the vision tower reads. */

import type { NativeModule } from "../binding/native.js";
import type { ImageAspectRatio, ImagePlacement } from "../types.js";
import { orAbort } from "./abort.js";
import { decodeSource, readPicture, type DecodeOptions, type PictureInput, type PictureSource } from "./decode.js";
import { placeImage } from "./place.js";

export interface PrepareOptions extends DecodeOptions {
  geometry: ImageAspectRatio;
  /** Side of the square that the model sees, and of a patch, in pixels. */
  side: number;
  patch: number;
  /** Per channel, of values in 0..1. */
  mean: readonly number[];
  std: readonly number[];
}

export interface PreparedImage {
  /** Normalised, [3, side, side]. */
  pixels: Float32Array;
  /** The same before normalisation: RGB, [side, side, 3]. */
  bytes: Uint8Array;
  placement: ImagePlacement;
  /** Milliseconds from the call to the pixels. */
  decodeMs: number;
}

/**
 * Decodes on libuv's pool, resizes and normalises on the native module's own threads.
 * @throws ERR_INVALID_ARG, ERR_BAD_IMAGE, ERR_UNSUPPORTED_FILE, ERR_TOO_LARGE, ERR_ABORTED
 */
export async function prepareImage(
  input: PictureInput,
  options: PrepareOptions,
  native: Pick<NativeModule, "preprocess">,
): Promise<PreparedImage> {
  const started = performance.now();
  const prepared = await prepareSource(await readPicture(input, options), options, native);
  return { ...prepared, decodeMs: performance.now() - started };
}

/** The second half of `prepareImage`. @throws ERR_BAD_IMAGE, ERR_TOO_LARGE, ERR_ABORTED */
export async function prepareSource(
  source: PictureSource,
  options: PrepareOptions,
  native: Pick<NativeModule, "preprocess">,
): Promise<Omit<PreparedImage, "decodeMs">> {
  const { signal, geometry, side, patch, mean, std } = options;
  const { pixels: decoded, width, height, channels } = await decodeSource(source, options);
  const { pixels, bytes } = await orAbort(
    native.preprocess({ pixels: decoded, width, height, channels, geometry, side, mean, std }),
    signal,
  );
  return { pixels, bytes, placement: placeImage(width, height, side, patch, geometry) };
}
