/** A request's picture as a step takes it: remembered, or made ready for the vision tower. */

import type { NativeModule, StepImage } from "../binding/native.js";
import type { ImagePlacement } from "../types.js";
import { orAbort } from "./abort.js";
import { readPicture, type PictureInput } from "./decode.js";
import type { EmbeddingCache } from "./embedding-cache.js";
import { identifyPicture } from "./identity.js";
import { placeImage } from "./place.js";
import { prepareImage, prepareSource, type PrepareOptions } from "./prepare.js";

export interface Picture {
  image: StepImage;
  placement: ImagePlacement;
}

/**
 * @param fingerprint of the model that will see it
 * @throws ERR_INVALID_ARG, ERR_BAD_IMAGE, ERR_UNSUPPORTED_FILE, ERR_TOO_LARGE, ERR_ABORTED
 */
export async function preparePicture(
  input: PictureInput,
  options: PrepareOptions,
  fingerprint: string,
  native: Pick<NativeModule, "preprocess">,
  cache: EmbeddingCache | undefined,
): Promise<Picture> {
  if (!cache) {
    const { pixels, placement } = await prepareImage(input, options, native);
    return { image: { pixels }, placement };
  }
  const { geometry, side, patch, autoOrient, signal } = options;
  const given = await readPicture(input, options);
  // Raw pixels are still the caller's: what is hashed has to be what is encoded, whatever happens to them in between.
  const source = given instanceof Uint8Array ? given : { ...given, pixels: Uint8Array.from(given.pixels) };
  const identity = await orAbort(identifyPicture(source, { fingerprint, geometry, autoOrient }), signal);
  const known = cache.find(identity);
  if (known) {
    cache.hits++;
    return { image: { features: known.features }, placement: placeImage(known.width, known.height, side, patch, geometry) };
  }
  const { pixels, placement } = await prepareSource(source, options, native);
  cache.expect(pixels, { identity, width: placement.width, height: placement.height });
  return { image: { pixels }, placement };
}
