/** Where the patches that a model sees lie on the source picture. `native/image/resize.cc` resizes by the same rules. */

import type { ImageAspectRatio, ImagePlacement } from "../types.js";

/**
 * The grid of patches as a rectangle on a picture of `width` x `height`.
 * @param side of the square that the model sees, in pixels
 * @param patch side of a patch, in pixels of that square; what is left over at the right and bottom edge is not seen
 */
export function placeImage(
  width: number,
  height: number,
  side: number,
  patch: number,
  geometry: ImageAspectRatio,
): ImagePlacement {
  const patches = Math.floor(side / patch);
  const grid: [rows: number, columns: number] = [patches, patches];
  const seen = patches * patch;
  if (geometry === "pad") {
    // The picture stands in the middle of a square, the odd pixel on the far side.
    const canvas = Math.max(width, height);
    const extent = (canvas * seen) / side;
    // + 0 turns -0 into 0.
    return {
      width,
      height,
      grid,
      placed: {
        x: -Math.floor((canvas - width) / 2) + 0,
        y: -Math.floor((canvas - height) / 2) + 0,
        width: extent,
        height: extent,
      },
    };
  }
  // The shorter side becomes `side`, the longer one is truncated to whole pixels, so the two scales differ a little.
  const shorter = Math.min(width, height);
  const along = (length: number): { start: number; extent: number } => {
    const resized = Math.floor((side * length) / shorter);
    const scale = length / resized;
    return { start: Math.floor((resized - side) / 2) * scale, extent: seen * scale };
  };
  const columns = along(width);
  const rows = along(height);
  return { width, height, grid, placed: { x: columns.start, y: rows.start, width: columns.extent, height: rows.extent } };
}
