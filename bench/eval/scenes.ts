/** The scenes of pico-eval, cut out of their sheet. */

import path from "node:path";

import { loadSharp } from "../../lib/image/sharp.js";
import { packageRoot } from "../../lib/package.js";
import type { RawImage } from "../../lib/types.js";

/** Of a scene, in pixels. */
export const sceneSide = 168;
const scenesPerRow = 20;

export async function openScenes(): Promise<(scene: number) => RawImage> {
  const sharp = await loadSharp();
  const sheet = await sharp(path.join(packageRoot, "bench", "pico-eval", "scenes.png")).removeAlpha().raw().toBuffer({ resolveWithObject: true });
  return (scene) => {
    const [left, top] = [sceneSide * (scene % scenesPerRow), sceneSide * Math.floor(scene / scenesPerRow)];
    const pixels = new Uint8Array(sceneSide * sceneSide * 3);
    for (let row = 0; row < sceneSide; row++) {
      const start = ((top + row) * sheet.info.width + left) * 3;
      pixels.set(sheet.data.subarray(start, start + sceneSide * 3), row * sceneSide * 3);
    }
    return { pixels, width: sceneSide, height: sceneSide, channels: 3 };
  };
}
