/** A request's picture as a step takes it: remembered, or made ready for the vision tower. */

import type { NativeModule, StepImage } from "../binding/native.js";
import type { ImagePlacement } from "../types.js";
import { orAbort } from "./abort.js";
import { readPicture, type PictureInput, type PictureSource } from "./decode.js";
import type { EmbeddingCache } from "./embedding-cache.js";
import { identifyFile, identifyPrepared } from "./identity.js";
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
  const source: PictureSource = await readPicture(input, options);
  const file = source instanceof Uint8Array ? await orAbort(identifyFile(source, { fingerprint, geometry, autoOrient }), signal) : undefined;
  const known = file === undefined ? undefined : cache.use(file);
  if (known) return { image: { features: known.features }, placement: placeImage(known.width, known.height, side, patch, geometry) };

  const { pixels, bytes, placement } = await prepareSource(source, options, native);
  const identity = file ?? (await orAbort(identifyPrepared(bytes, fingerprint), signal));
  // Steps look again before they encode it, so that it is enough to say what it is.
  cache.expect(pixels, { identity, width: placement.width, height: placement.height });
  return { image: { pixels }, placement };
}
