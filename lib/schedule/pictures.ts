/** The pictures of a prompt, made ready for a step. */

import type { StepImage } from "../binding/native.js";
import type { PictureInput } from "../image/decode.js";
import { pictureError } from "../image/fault.js";
import type { Picture } from "../image/picture.js";
import type { Model, PictureOptions } from "../model.js";
import type { ImageInput, ImagePlacement } from "../types.js";
import { manyListeners } from "../watch.js";

export interface Pictures {
  images: StepImage[];
  placements: ImagePlacement[];
  /** Milliseconds until all were ready. */
  decodeMs: number;
  /** Those that are pictures, not embeddings: their cost counts in full, though the tower may be spared by what is remembered. */
  encoded: number;
}

/**
 * All at once; the first failure ends the others.
 * @param inputs checked
 * @param where the call, and an image's place in it
 */
export async function preparePictures(
  model: Model, inputs: readonly ImageInput[], where: (image: number) => string, options: PictureOptions,
): Promise<Pictures> {
  const started = performance.now();
  const controller = new AbortController();
  const signal = manyListeners(AbortSignal.any([options.signal, controller.signal]));
  try {
    const prepared = await Promise.all(
      inputs.map(async (input, i): Promise<Picture> => {
        if ("embedding" in input) return { image: { features: input.embedding.features }, placement: input.embedding.image };
        const picture = input as PictureInput;
        return model.preparePicture(picture, { ...options, signal }).catch((cause: unknown) => {
          throw pictureError(cause, where(i), picture);
        });
      }),
    );
    return {
      images: prepared.map(({ image }) => image),
      placements: prepared.map(({ placement }) => placement),
      decodeMs: performance.now() - started,
      encoded: inputs.filter((input) => !("embedding" in input)).length,
    };
  } catch (cause) {
    controller.abort();
    throw cause;
  }
}
