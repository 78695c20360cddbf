/** A picture of pruning: what each cut kept, and the scores that it ranked, on the source picture. */

import { phrase } from "../check.js";
import { HimapError } from "../errors.cjs";
import type { CutResult, ImageInput, ImagePlacement, RawImage, Rect } from "../types.js";
import { Canvas, heat, mix, textSize, type Colour } from "./canvas.js";
import { decodeImage } from "./decode.js";
import { pictureError } from "./fault.js";
import { checkHeatmap } from "./heatmap-request.js";
import { loadSharp } from "./sharp.js";

export interface HeatmapOptions {
  /** Longer side of a panel in pixels, 64 to 2048. Default 336. */
  size?: number;
  /** As in the request that gave the result. Default false. */
  autoOrient?: boolean;
  /** Default 64,000,000. */
  maxPixels?: number;
  signal?: AbortSignal;
}

/** What is drawn: a `Result`, or its parts. */
export interface PrunedImages {
  cuts: readonly CutResult[];
  images: readonly ImagePlacement[];
  usage?: { imageTokens: number };
}

const paper: Colour = [255, 255, 255];
const ink: Colour = [45, 45, 52];
const padding: Colour = [122, 116, 104];
const outline: Colour = [255, 196, 0];
const dark: Colour = [16, 16, 22];
/** Of patches that earlier cuts dropped, where scores are shown: a tone that the scale does not have. */
const gone: Colour = [168, 172, 176];
const gap = 16;
/** Of a page; sharp refuses more. */
const mostPixels = 2 ** 28 - 2 ** 15;
/** What captions and gaps add to a panel at most, either way. */
const around = 128;

/**
 * Draws, for each picture of a result, a row of panels: the picture with the square that the model saw, what each cut kept
 * (dropped patches are darkened, what lies outside the square is hatched), and for each cut with scores (option `scores`
 * of the request) how each patch alive before it was scored.
 * @param images the pictures of the request, in its order
 * @returns a PNG file
 * @throws HimapError ERR_INVALID_ARG with every fault of the arguments, or where pictures and result do not belong together;
 *   ERR_BAD_IMAGE, ERR_UNSUPPORTED_FILE, ERR_TOO_LARGE, ERR_OUT_OF_MEMORY, ERR_ABORTED
 */
export async function renderHeatmap(
  images: ImageInput | readonly ImageInput[],
  result: PrunedImages,
  options?: HeatmapOptions,
): Promise<Uint8Array> {
  const { inputs, result: pruned, size, ...reading } = checkHeatmap(images, result, options);
  const layers = layersOf(pruned);
  checkPage(layers, inputs.length, size);
  const rows: Panel[][] = [];
  let token = 0;
  for (const [i, input] of inputs.entries()) {
    const placement = pruned.images[i]!;
    const picture = await decodeImage(input, reading).catch((cause: unknown) => {
      throw pictureError(cause, `renderHeatmap: images[${i}]`, input);
    });
    if (picture.width !== placement.width || picture.height !== placement.height) {
      throw new HimapError(
        "ERR_INVALID_ARG",
        `renderHeatmap: expected ${placement.width} x ${placement.height} pixels for images[${i}] but received ${picture.width} x ${picture.height}`,
        {
          hint: "hand in the pictures of the request, in its order, with its autoOrient",
        },
      );
    }
    rows.push(await drawRow(picture, placement, layers, token + layers.extra, size));
    token += layers.perImage;
  }
  return encode(compose(rows, size));
}

/** @throws HimapError ERR_TOO_LARGE, before anything is drawn */
function checkPage({ ranges }: Layers, pictures: number, size: number): void {
  const panels = pictures * (1 + ranges.length + ranges.filter(Boolean).length);
  const most = Math.floor(mostPixels / (size + around) ** 2);
  if (panels <= most) return;
  throw new HimapError("ERR_TOO_LARGE", `renderHeatmap: ${phrase(`at most ${most} panels`, `a size of ${size}`, panels)}`, {
    hint: "lower size, or draw fewer pictures at once",
  });
}

/** The result's cuts over all image tokens of the prompt. */
interface Layers {
  /** Tokens per image, and how many stand before its patches (the class row, where a model keeps it). */
  perImage: number;
  extra: number;
  cuts: { before: number; kept: Uint8Array; alive: Uint8Array; scores?: Float32Array }[];
  /** Lowest score and the one that only 1 % exceed, per cut. */
  ranges: ([low: number, high: number] | undefined)[];
}

function layersOf({ cuts, images, usage }: PrunedImages): Layers {
  const [rows, columns] = images[0]!.grid;
  const perImage = usage ? usage.imageTokens / images.length : rows * columns;
  const total = perImage * images.length;
  const layers: Layers = { perImage, extra: perImage - rows * columns, cuts: [], ranges: [] };
  if (!Number.isInteger(perImage) || layers.extra < 0)
    throw new HimapError(
      "ERR_INVALID_ARG",
      `renderHeatmap: ${phrase(`${rows * columns} tokens or more per image`, "usage.imageTokens", usage?.imageTokens)}`,
    );
  let alive = new Uint8Array(total).fill(1);
  let list = Uint32Array.from(alive.keys());
  for (const cut of cuts) {
    const kept = new Uint8Array(total);
    for (const index of cut.kept) {
      if (!alive[index])
        throw new HimapError(
          "ERR_INVALID_ARG",
          `renderHeatmap: ${phrase("tokens alive before the cut", `kept before layer ${cut.before}`, index)}`,
        );
      kept[index] = 1;
    }
    let scores: Float32Array | undefined;
    if (cut.scores) {
      if (cut.scores.length !== list.length)
        throw new HimapError(
          "ERR_INVALID_ARG",
          `renderHeatmap: ${phrase(`${list.length} scores`, `scores before layer ${cut.before}`, cut.scores)}`,
        );
      scores = new Float32Array(total);
      for (const [rank, index] of list.entries()) scores[index] = cut.scores[rank]!;
    }
    layers.cuts.push({ before: cut.before, kept, alive, ...(scores && { scores }) });
    layers.ranges.push(cut.scores && rangeOf(cut.scores));
    alive = kept;
    list = cut.kept.slice().sort();
  }
  return layers;
}

/** A few scores often dwarf the rest; clipped at 99 %, the rest can be told apart. */
function rangeOf(scores: Float32Array): [number, number] {
  const sorted = scores.slice().sort();
  return [sorted[0] ?? 0, sorted[Math.floor((sorted.length - 1) * 0.99)] ?? 0];
}

interface Panel {
  canvas: Canvas;
  captions: string[];
  /** Scores at the two ends of the colour scale. */
  range?: [low: number, high: number];
}

/** The panels of one picture. `first` is the token of its first patch. */
async function drawRow(
  picture: RawImage,
  placement: ImagePlacement,
  layers: Layers,
  first: number,
  size: number,
): Promise<Panel[]> {
  const { base, token, square } = await drawBase(picture, placement, size);
  const { width, height } = base;
  const patches = placement.grid[0] * placement.grid[1];
  /** A panel whose points inside the square `paint` colours. */
  const panel = (captions: string[], paint: (colour: Colour, token: number) => Colour): Panel => {
    const canvas = new Canvas(width, height, paper);
    for (let y = 0, i = 0; y < height; y++) {
      for (let x = 0; x < width; x++, i++) {
        const colour: Colour = [base.pixels[i * 3]!, base.pixels[i * 3 + 1]!, base.pixels[i * 3 + 2]!];
        const patch = token[i]!;
        canvas.set(x, y, patch >= 0 ? paint(colour, first + patch) : mix(grey(colour), paper, (x + y) % 8 < 4 ? 0.75 : 0.9));
      }
    }
    return { canvas, captions };
  };

  const source = new Canvas(width, height, paper);
  source.pixels.set(base.pixels);
  drawFrame(source, square, outline, Math.max(1, Math.round(size / 160)));
  const panels: Panel[] = [
    {
      canvas: source,
      captions: [`${placement.width} x ${placement.height}`, `${placement.grid[1]} x ${placement.grid[0]} patches`],
    },
  ];
  for (const { before, kept } of layers.cuts) {
    const count = kept.subarray(first, first + patches).reduce((sum, flag) => sum + flag, 0);
    panels.push(
      panel([`before layer ${before}`, `${count} of ${patches} kept`], (colour, at) =>
        kept[at] ? colour : mix(grey(colour), dark, 0.72),
      ),
    );
  }
  layers.cuts.forEach(({ before, alive, scores }, i) => {
    const range = layers.ranges[i];
    if (!scores || !range) return;
    const [low, high] = range;
    const scale = high > low ? 1 / (high - low) : 0;
    const drawn = panel([`scores, layer ${before}`], (colour, at) =>
      alive[at] ? mix(grey(colour), heat((scores[at]! - low) * scale), 0.72) : mix(grey(colour), gone, 0.75),
    );
    panels.push({ ...drawn, range });
  });
  return panels;
}

/** The picture at panel size on what padding adds, which patch each point belongs to (-1: none), and where the square lies. */
async function drawBase(
  picture: RawImage,
  placement: ImagePlacement,
  size: number,
): Promise<{ base: Canvas; token: Int32Array; square: Rect }> {
  const { placed, grid } = placement;
  const left = Math.min(0, placed.x);
  const top = Math.min(0, placed.y);
  const across = Math.max(picture.width, placed.x + placed.width) - left;
  const down = Math.max(picture.height, placed.y + placed.height) - top;
  const scale = size / Math.max(across, down);
  const width = Math.max(1, Math.round(across * scale));
  const height = Math.max(1, Math.round(down * scale));
  const base = new Canvas(width, height, padding);

  const x = Math.min(Math.round(-left * scale), width - 1);
  const y = Math.min(Math.round(-top * scale), height - 1);
  const shownWidth = Math.max(1, Math.min(Math.round(picture.width * scale), width - x));
  const shownHeight = Math.max(1, Math.min(Math.round(picture.height * scale), height - y));
  const raw = { width: picture.width, height: picture.height, channels: picture.channels };
  const sharp = await loadSharp();
  const shown = await sharp(picture.pixels, { raw, limitInputPixels: false })
    .removeAlpha()
    .resize(shownWidth, shownHeight, { fit: "fill" })
    .raw()
    .toBuffer();
  base.copy(x, y, shownWidth, shownHeight, shown);

  // A patch's edge on the panel is its exact edge on the picture, rounded to the nearest point.
  const token = new Int32Array(width * height);
  for (let row = 0, i = 0; row < height; row++) {
    const patchRow = Math.floor((((row + 0.5) / scale + top - placed.y) / placed.height) * grid[0]);
    for (let column = 0; column < width; column++, i++) {
      const patchColumn = Math.floor((((column + 0.5) / scale + left - placed.x) / placed.width) * grid[1]);
      const inside = patchRow >= 0 && patchRow < grid[0] && patchColumn >= 0 && patchColumn < grid[1];
      token[i] = inside ? patchRow * grid[1] + patchColumn : -1;
    }
  }
  const square = {
    x: (placed.x - left) * scale,
    y: (placed.y - top) * scale,
    width: placed.width * scale,
    height: placed.height * scale,
  };
  return { base, token, square };
}

function grey([red, green, blue]: Colour): Colour {
  const light = red * 0.299 + green * 0.587 + blue * 0.114;
  return [light, light, light];
}

/** The outline of a rectangle, within it. */
function drawFrame(canvas: Canvas, rect: Rect, colour: Colour, thickness: number): void {
  const x = Math.round(rect.x);
  const y = Math.round(rect.y);
  const width = Math.round(rect.x + rect.width) - x;
  const height = Math.round(rect.y + rect.height) - y;
  canvas.fill(x, y, width, thickness, colour);
  canvas.fill(x, y + height - thickness, width, thickness, colour);
  canvas.fill(x, y, thickness, height, colour);
  canvas.fill(x + width - thickness, y, thickness, height, colour);
}

/** All panels on one canvas, rows below each other, captions under the panels. */
function compose(rows: readonly Panel[][], size: number): Canvas {
  const scale = size >= 288 ? 2 : 1;
  const line = textSize("", scale)[1] + 2 * scale;
  const widthOf = ({ canvas, captions }: Panel): number =>
    Math.max(canvas.width, ...captions.map((caption) => textSize(caption, scale)[0]));
  const rowWidth = (row: readonly Panel[]): number => row.reduce((sum, panel) => sum + widthOf(panel) + gap, gap);
  const rowHeight = (row: readonly Panel[]): number => Math.max(...row.map(({ canvas }) => canvas.height)) + gap + 2 * line;
  const page = new Canvas(
    Math.max(...rows.map(rowWidth)),
    rows.reduce((sum, row) => sum + rowHeight(row), gap),
    paper,
  );
  let y = gap;
  for (const row of rows) {
    let x = gap;
    const below = y + rowHeight(row) - gap - 2 * line + Math.round(gap / 2);
    for (const panel of row) {
      const { canvas, captions, range } = panel;
      page.copy(x, y, canvas.width, canvas.height, canvas.pixels);
      captions.forEach((caption, i) => page.text(x, below + i * line, caption, scale, ink));
      if (range) drawScale(page, x, below + line, canvas.width, scale, range);
      x += widthOf(panel) + gap;
    }
    y += rowHeight(row);
  }
  return page;
}

/** The colour scale with the scores at its ends. */
function drawScale(page: Canvas, x: number, y: number, width: number, scale: number, range: readonly [number, number]): void {
  const [low, high] = range.map((value) => value.toPrecision(2)) as [string, string];
  const [lowWidth, height] = textSize(low, scale);
  const highWidth = textSize(high, scale)[0];
  page.text(x, y, low, scale, ink);
  page.text(x + width - highWidth, y, high, scale, ink);
  const start = x + lowWidth + 4 * scale;
  const length = width - lowWidth - highWidth - 8 * scale;
  for (let i = 0; i < length; i++) page.fill(start + i, y, 1, height - 2 * scale, heat(i / length));
}

async function encode({ pixels, width, height }: Canvas): Promise<Uint8Array> {
  const sharp = await loadSharp();
  return sharp(pixels, { raw: { width, height, channels: 3 } })
    .png({ compressionLevel: 9 })
    .toBuffer();
}
