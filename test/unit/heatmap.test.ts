import sharp from "sharp";
import { test } from "uvu";
import * as assert from "uvu/assert";

import { HimapError } from "../../lib/errors.cjs";
import { renderHeatmap, type PrunedImages } from "../../lib/image/heatmap.js";
import { placeImage } from "../../lib/image/place.js";
import type { ImageInput, ImagePlacement, RawImage } from "../../lib/types.js";

const red = [255, 0, 0];
const gap = 16;

function plain(width: number, height: number): RawImage {
  const pixels = new Uint8Array(width * height * 3);
  for (let i = 0; i < pixels.length; i += 3) pixels[i] = 255;
  return { pixels, width, height, channels: 3 };
}

async function draw(
  images: RawImage | RawImage[],
  result: PrunedImages,
  size = 336,
): Promise<{ data: Buffer; width: number; height: number }> {
  const png = await renderHeatmap(images, result, { size });
  assert.equal([...png.subarray(0, 4)], [0x89, 0x50, 0x4e, 0x47]);
  const { data, info } = await sharp(png).raw().toBuffer({ resolveWithObject: true });
  assert.is(info.channels, 3);
  return { data, width: info.width, height: info.height };
}

/** The smallest rectangle around the points of a colour within a column range: [left, top, right, bottom]. */
function boundsOf(
  { data, width, height }: { data: Buffer; width: number; height: number },
  colour: number[],
  from: number,
  to: number,
): number[] {
  const bounds = [width, height, -1, -1];
  for (let y = 0; y < height; y++) {
    for (let x = from; x < to; x++) {
      const at = (y * width + x) * 3;
      if (colour.some((value, c) => data[at + c] !== value)) continue;
      bounds[0] = Math.min(bounds[0]!, x);
      bounds[1] = Math.min(bounds[1]!, y);
      bounds[2] = Math.max(bounds[2]!, x + 1);
      bounds[3] = Math.max(bounds[3]!, y + 1);
    }
  }
  return bounds;
}

/** Where a patch lies on a panel: `placeImage` put on paper. */
function expectedBounds({ width, height, placed, grid }: ImagePlacement, patch: number, left: number, size: number): number[] {
  const viewLeft = Math.min(0, placed.x);
  const viewTop = Math.min(0, placed.y);
  const scale =
    size / Math.max(Math.max(width, placed.x + placed.width) - viewLeft, Math.max(height, placed.y + placed.height) - viewTop);
  const row = Math.floor(patch / grid[1]);
  const column = patch % grid[1];
  const x = (at: number): number => left + (placed.x + (placed.width * at) / grid[1] - viewLeft) * scale;
  const y = (at: number): number => gap + (placed.y + (placed.height * at) / grid[0] - viewTop) * scale;
  return [x(column), y(row), x(column + 1), y(row + 1)];
}

for (const geometry of ["pad", "crop"] as const) {
  for (const [width, height] of [
    [640, 427],
    [427, 640],
    [500, 500],
    [97, 33],
    [1999, 613],
  ] as const) {
    test(`a kept patch is bright where it lies on a ${width} x ${height} picture with ${geometry}, and nothing else is`, async () => {
      const placement = placeImage(width, height, 336, 14, geometry);
      // In the middle, so that with `pad` the patch is on the picture.
      for (const patch of [12 * 24 + 11, 11 * 24 + 12, 13 * 24 + 12]) {
        const page = await draw(plain(width, height), {
          images: [placement],
          cuts: [{ before: 2, kept: Uint32Array.of(patch) }],
        });
        const panel = (page.width - 3 * gap) / 2;
        const left = 2 * gap + panel;
        const found = boundsOf(page, red, left, page.width);
        expectedBounds(placement, patch, left, 336).forEach((edge, i) =>
          assert.ok(Math.abs(edge - found[i]!) <= 1, `patch ${patch}: ${found} against edge ${edge}`),
        );
      }
    });
  }
}

test("with nothing kept nothing is bright, with everything kept the square is", async () => {
  const placement = placeImage(600, 400, 336, 14, "crop");
  const none = await draw(plain(600, 400), { images: [placement], cuts: [{ before: 16, kept: new Uint32Array(0) }] });
  assert.is(boundsOf(none, red, none.width / 2, none.width)[2], -1);
  const all = await draw(plain(600, 400), {
    images: [placement],
    cuts: [{ before: 1, kept: Uint32Array.from({ length: 576 }, (_, i) => i) }],
  });
  const [left, top, right, bottom] = boundsOf(all, red, all.width / 2, all.width) as [number, number, number, number];
  assert.ok(Math.abs(right - left - 224) <= 1 && Math.abs(bottom - top - 224) <= 1, `${[left, top, right, bottom]}`);
});

test("scores colour the patches alive before their cut, from dark to pale, and leave the others grey", async () => {
  const placement = placeImage(336, 336, 336, 14, "crop");
  const first = Uint32Array.from({ length: 288 }, (_, i) => i); // the upper half
  const page = await draw(plain(336, 336), {
    images: [placement],
    cuts: [
      { before: 2, kept: first, scores: Float32Array.from({ length: 576 }, (_, i) => i) },
      { before: 8, kept: Uint32Array.of(0), scores: Float32Array.from({ length: 288 }, (_, i) => 288 - i) },
    ],
  });
  assert.is(page.width, 5 * 336 + 6 * gap);
  const at = (panel: number, patch: number): number[] => {
    const x = gap + panel * (336 + gap) + (patch % 24) * 14 + 7;
    const y = gap + Math.floor(patch / 24) * 14 + 7;
    return [...page.data.subarray((y * page.width + x) * 3, (y * page.width + x) * 3 + 3)];
  };
  const lightness = ([red, green, blue]: number[]): number => red! * 0.299 + green! * 0.587 + blue! * 0.114;
  for (let patch = 24; patch < 570; patch += 24)
    assert.ok(lightness(at(3, patch)) >= lightness(at(3, patch - 24)) - 1, `patch ${patch}`);
  for (let patch = 24; patch < 288; patch += 24)
    assert.ok(lightness(at(4, patch)) <= lightness(at(4, patch - 24)) + 1, `patch ${patch}`);
  const [r, g, b] = at(4, 400) as [number, number, number];
  assert.ok(Math.max(r, g, b) - Math.min(r, g, b) < 10, `${[r, g, b]} is grey`);
});

test("several pictures get a row each, with their own tokens after a class row", async () => {
  const images = [placeImage(100, 100, 56, 14, "crop"), placeImage(100, 100, 56, 14, "crop")];
  // 17 tokens per picture: token 0 and 17 are class rows; 18 + 5 is patch 5 of the second.
  const page = await draw([plain(100, 100), plain(100, 100)], {
    images,
    usage: { imageTokens: 34 },
    cuts: [{ before: 1, kept: Uint32Array.of(17, 23) }],
  });
  const found = boundsOf(page, red, page.width / 2, page.width);
  const rowHeight = (page.height - gap) / 2;
  expectedBounds(images[1]!, 5, 2 * gap + (page.width - 3 * gap) / 2, 336).forEach((edge, i) => {
    assert.ok(Math.abs(edge + (i % 2 ? rowHeight : 0) - found[i]!) <= 1, `${found}`);
  });
});

test("pictures of extreme shape, of one pixel, and constant or odd scores are drawn", async () => {
  for (const [width, height] of [
    [1, 1],
    [1, 3000],
    [3000, 1],
    [2, 65536],
  ] as const) {
    for (const geometry of ["pad", "crop"] as const) {
      const placement = placeImage(width, height, 336, 14, geometry);
      const kept = Uint32Array.of(0, 575);
      for (const value of [0, NaN, Infinity])
        await draw(
          plain(width, height),
          { images: [placement], cuts: [{ before: 2, kept, scores: new Float32Array(576).fill(value) }] },
          64,
        );
    }
  }
});

test("pictures and results that do not belong together are refused", async () => {
  const placement = placeImage(60, 40, 56, 14, "pad");
  const picture = plain(60, 40);
  const cut = { before: 2, kept: Uint32Array.of(1, 2) };
  const good: PrunedImages = { images: [placement], cuts: [cut] };
  const bad: [name: string, images: unknown, result: PrunedImages, size?: number][] = [
    ["no picture", [], good],
    ["two pictures", [picture, picture], good],
    ["no image in the result", picture, { images: [], cuts: [] }],
    ["another picture", plain(40, 60), good],
    ["an embedding", { embedding: {} }, good],
    ["a token that is not there", picture, { images: [placement], cuts: [{ before: 2, kept: Uint32Array.of(16) }] }],
    ["a token dropped before", picture, { images: [placement], cuts: [cut, { before: 3, kept: Uint32Array.of(3) }] }],
    ["too few scores", picture, { images: [placement], cuts: [{ ...cut, scores: new Float32Array(15) }] }],
    ["fewer tokens than patches", picture, { ...good, usage: { imageTokens: 15 } }],
    ["kept as an array", picture, { images: [placement], cuts: [{ before: 2, kept: [1, 2] as never }] }],
    ["a placement without a grid", picture, { images: [{ ...placement, grid: undefined as never }], cuts: [] }],
    ["more tokens than there can be", picture, { ...good, usage: { imageTokens: 2 ** 40 } }],
    ["a size of 63", picture, good, 63],
    ["a size of NaN", picture, good, NaN],
  ];
  for (const [name, images, result, size = 336] of bad) {
    try {
      await renderHeatmap(images as RawImage, result, { size });
      assert.unreachable(name);
    } catch (error) {
      assert.instance(error, HimapError, `${name}: ${String(error)}`);
      assert.is((error as HimapError).code, "ERR_INVALID_ARG", `${name}: ${String(error)}`);
    }
  }
});

test("whatever the arguments are, the failure is typed and has every fault", async () => {
  const placement = placeImage(60, 40, 56, 14, "pad");
  const good: PrunedImages = { images: [placement], cuts: [] };
  const render = renderHeatmap as (...args: unknown[]) => Promise<Uint8Array>;
  const { proxy, revoke } = Proxy.revocable({}, {});
  revoke();
  const cases: [args: unknown[], faults: RegExp[]][] = [
    [[proxy, proxy, proxy], [/for result/, /for images/, /for options/]],
    [[], [/for result but received undefined/, /bytes, a Blob.* for images but received undefined/]],
    [[plain(60, 40), {}], [/result of generate.* for result/]],
    [[plain(60, 40), null], [/for result but received null/]],
    [["picture.png", good], [/for images but received "picture.png" \(a file is \{ path \}/]],
    [[plain(60, 40), good, null], [/an object for options but received null/]],
    [[plain(60, 40), good, { signal: 5, size: 1 }], [/from 64 to 2048 for size/, /an AbortSignal for signal but received 5/]],
    [[plain(60, 40), good, { sise: 99 }], [/"sise" \(did you mean "size"\?\)/]],
    [[{ ...plain(60, 40), width: 0 }, good, { autoOrient: 1 }], [/for images\.width/, /for autoOrient/]],
  ];
  for (const [args, says] of cases) {
    const error = await render(...args).then(() => undefined, (thrown: unknown) => thrown as HimapError);
    assert.instance(error, HimapError, String(error));
    const { code, message, faults } = error!;
    assert.is(code, "ERR_INVALID_ARG", message);
    assert.ok(message.startsWith("renderHeatmap: "), message);
    assert.is(faults!.length, says.length, message);
    says.forEach((text, i) => assert.match(faults![i]!, text));
  }
});

test("a picture that fails is named, and panels beyond what is drawn are refused", async () => {
  const placement = placeImage(60, 40, 56, 14, "pad");
  const failure = (images: ImageInput[], result: PrunedImages, size = 336): Promise<HimapError> =>
    renderHeatmap(images, result, { size }).then(assert.unreachable as never, (thrown: HimapError) => thrown);
  const bad = await failure([plain(60, 40), { path: "/no/such/b.png" }], { images: [placement, placement], cuts: [] });
  assert.is(bad.message, "renderHeatmap: images[1]: b.png: expected a readable file for an image but received ENOENT");
  const cuts = Array.from({ length: 64 }, (_, before) => ({ before, kept: Uint32Array.of(0) }));
  const large = await failure([plain(60, 40)], { images: [placement], cuts }, 2048);
  assert.is(large.code, "ERR_TOO_LARGE", String(large));
  assert.match(large.message, "at most 56 panels for a size of 2048 but received 65");
});

test.run();
