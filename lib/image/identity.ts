/** What makes two pictures the same to a model: the SHA-256 of what its features are computed from, and how. */

import type { ImageAspectRatio } from "../types.js";

export interface PictureView {
  /** Of the model. */
  fingerprint: string;
  geometry: ImageAspectRatio;
  autoOrient: boolean;
}

/**
 * Equal where the same file is decoded and seen in the same way by the same model. Hashed is the file, not its decoded
 * pixels: decoding depends on nothing else, a file has a tenth of the bytes, and a picture that is known need not be
 * decoded. A picture stored in two formats counts as two.
 */
export async function identifyFile(bytes: Uint8Array, { fingerprint, geometry, autoOrient }: PictureView): Promise<string> {
  return `${fingerprint} file ${geometry} ${autoOrient ? "oriented" : "stored"} ${await sha256(bytes)}`;
}

/**
 * Of a picture that came as pixels, resized: equal where the model sees the same. Raw pixels are many, and still their
 * owner's, who may change them at any time.
 * @param bytes RGB before normalisation, [side, side, 3]
 */
export async function identifyPrepared(bytes: Uint8Array, fingerprint: string): Promise<string> {
  return `${fingerprint} prepared ${await sha256(bytes)}`;
}

/** Taken on libuv's pool, of a copy. */
async function sha256(bytes: Uint8Array): Promise<string> {
  return Buffer.from(await crypto.subtle.digest("SHA-256", bytes as Uint8Array<ArrayBuffer>)).toString("hex");
}
