/** Every fault of a `renderHeatmap` call found and reported together; defaults applied. */

import { Faults, isArray } from "../check.js";
import { limits, loadDefaults } from "../defaults.js";
import type { ImagePlacement } from "../types.js";
import { checkPicture } from "./check.js";
import type { PictureInput } from "./decode.js";
import type { HeatmapOptions, PrunedImages } from "./heatmap.js";

export interface HeatmapRequest {
  inputs: PictureInput[];
  result: PrunedImages;
  size: number;
  autoOrient: boolean;
  maxPixels: number;
  signal: AbortSignal | undefined;
}

const optionNames = ["size", "autoOrient", "maxPixels", "signal"] as const satisfies readonly (keyof HeatmapOptions)[];

/** @throws HimapError ERR_INVALID_ARG with every fault */
export function checkHeatmap(images: unknown, result: unknown, options: unknown): HeatmapRequest {
  const faults = new Faults();
  const pruned = readResult(result, faults);
  const inputs = readPictures(images, pruned, faults);
  const given = faults.properties(options === undefined ? {} : options, "options", optionNames) ?? {};
  const number = (name: "size" | "maxPixels", min: number, max: number, otherwise: number): number =>
    given[name] === undefined ? otherwise : (faults.number(given[name], name, { min, max, integer: true }) ?? otherwise);
  const request = {
    inputs,
    size: number("size", 64, 2048, 336),
    autoOrient: given.autoOrient === undefined ? false : (faults.boolean(given.autoOrient, "autoOrient") ?? false),
    maxPixels: number("maxPixels", 1, 2 ** 32, loadDefaults.maxPixels),
    signal: given.signal === undefined ? undefined : faults.signal(given.signal, "signal"),
  };
  faults.raise("renderHeatmap");
  return { ...request, result: pruned! };
}

function readPictures(images: unknown, result: PrunedImages | undefined, faults: Faults): PictureInput[] {
  const list = isArray(images) ? (faults.elements(images, "images", limits.images) ?? []) : [images];
  if (result && result.images.length !== list.length) faults.add(`the result's ${result.images.length} images`, "images", list);
  return list.flatMap((image, i) => {
    const where = isArray(images) ? `images[${i}]` : "images";
    const input = checkPicture(image, where, faults);
    if (!input || !("embedding" in input)) return input ?? [];
    faults.add("the picture itself", where, image);
    return [];
  });
}

/** What is drawn of a result; the rest of one is not looked at. */
function readResult(value: unknown, faults: Faults): PrunedImages | undefined {
  const before = faults.count;
  try {
    const { cuts, images, usage } = value as PrunedImages;
    const pruned: PrunedImages = { cuts: Array.from(cuts), images: Array.from(images), ...(usage && { usage }) };
    const { length } = pruned.images;
    if (length === 0 || length > limits.images) faults.add(`1 to ${limits.images} images`, "result.images", images);
    if (pruned.cuts.length > limits.cuts) faults.add(`at most ${limits.cuts} cuts`, "result.cuts", cuts);
    if (usage) faults.number(usage.imageTokens, "result.usage.imageTokens", { min: 1, max: limits.images * mostTokens, integer: true });
    pruned.images.forEach((image, i) => {
      if (!isPlacement(image)) faults.add("an image's placement", `result.images[${i}]`, image);
    });
    pruned.cuts.forEach(({ before, kept, scores }, i) => {
      if (!Number.isSafeInteger(before)) faults.add("an integer", `result.cuts[${i}].before`, before);
      if (!(kept instanceof Uint32Array)) faults.add("a Uint32Array", `result.cuts[${i}].kept`, kept);
      if (scores !== undefined && !(scores instanceof Float32Array)) faults.add("a Float32Array", `result.cuts[${i}].scores`, scores);
    });
    return faults.count === before ? pruned : undefined;
  } catch {
    faults.add("a result of generate, or its cuts and images,", "result", value);
    return undefined;
  }
}

/** Far beyond any model, and small enough to be drawn. */
const mostTokens = 2 ** 20;

function isPlacement({ width, height, grid, placed }: ImagePlacement): boolean {
  const [rows, columns] = grid;
  const { x, y, width: across, height: down } = placed;
  return (
    [width, height, rows, columns].every((side) => Number.isInteger(side) && side >= 1 && side <= limits.imageSide) &&
    rows * columns <= mostTokens &&
    [x, y].every((corner) => Math.abs(corner) <= limits.imageSide) &&
    [across, down].every((side) => side > 0 && side <= limits.imageSide)
  );
}
