import { fileURLToPath } from "node:url";

import type { RawImage } from "../../lib/types.js";

/** CLIP's normalisation: mean and standard deviation per channel. */
export const clip = { mean: [0.48145466, 0.4578275, 0.40821073], std: [0.26862954, 0.26130258, 0.27577711] } as const;

/** The picture that the resize vectors were made from: p(x, y, c) = (7x + 13y + 50c + floor(xy / 97)) mod 256. */
export function formulaPicture(width: number, height: number): RawImage {
  const pixels = new Uint8Array(width * height * 3);
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const value = 7 * x + 13 * y + Math.floor((x * y) / 97);
      pixels[i++] = value;
      pixels[i++] = value + 50;
      pixels[i++] = value + 100;
    }
  }
  return { pixels, width, height, channels: 3 };
}

/** A file of test/golden. */
export function golden(name: string): string {
  return fileURLToPath(new URL(`../golden/${name}`, import.meta.url));
}
