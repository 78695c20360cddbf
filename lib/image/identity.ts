/** What makes two pictures the same to a model. */

import type { ImageAspectRatio } from "../types.js";
import type { PictureSource } from "./decode.js";

export interface PictureView {
  /** Of the model. */
  fingerprint: string;
  geometry: ImageAspectRatio;
  autoOrient: boolean;
}

/**
 * Equal where the same bytes are decoded and seen in the same way by the same model, and therefore encoded to the same bits.
 * Hashed are the bytes as they came, not the decoded pixels: decoding depends on nothing else, a file has a tenth of the
 * bytes, and a picture that is known need not be decoded. A picture stored in two formats counts as two. The SHA-256 is
 * taken on libuv's pool, of a copy.
 */
export async function identifyPicture(source: PictureSource, { fingerprint, geometry, autoOrient }: PictureView): Promise<string> {
  const encoded = source instanceof Uint8Array;
  const bytes = encoded ? source : source.pixels;
  const form = encoded ? `file ${autoOrient ? "oriented" : "stored"}` : `pixels ${source.width} ${source.height} ${source.channels}`;
  const hash = Buffer.from(await crypto.subtle.digest("SHA-256", bytes as Uint8Array<ArrayBuffer>)).toString("hex");
  return `${fingerprint} ${geometry} ${form} ${hash}`;
}
