import { test } from "uvu";
import * as assert from "uvu/assert";

import { placeImage } from "../../lib/image/place.js";

test("pad: the grid is the square around the picture, the odd pixel on the far side", () => {
  assert.equal(placeImage(500, 334, 336, 14, "pad"), {
    width: 500,
    height: 334,
    grid: [24, 24],
    placed: { x: 0, y: -83, width: 500, height: 500 },
  });
  assert.equal(placeImage(335, 336, 336, 14, "pad").placed, { x: 0, y: 0, width: 336, height: 336 });
  assert.equal(placeImage(333, 336, 336, 14, "pad").placed, { x: -1, y: 0, width: 336, height: 336 });
  assert.equal(placeImage(1, 40, 336, 14, "pad").placed, { x: -19, y: 0, width: 40, height: 40 });
});

test("crop: the grid is the middle square, by the resized picture's whole pixels", () => {
  // 500 x 334 becomes 502 x 336 (502.99 truncated), cut at 83.
  const { grid, placed } = placeImage(500, 334, 336, 14, "crop");
  assert.equal(grid, [24, 24]);
  assert.is(placed.x, 83 * (500 / 502));
  assert.is(placed.width, 336 * (500 / 502));
  assert.equal([placed.y, placed.height], [0, 334]);
  assert.equal(placeImage(336, 336, 336, 14, "crop").placed, { x: 0, y: 0, width: 336, height: 336 });
});

test("pixels that fill no patch are left out at the right and bottom edge", () => {
  assert.equal(placeImage(100, 100, 100, 14, "pad"), {
    width: 100,
    height: 100,
    grid: [7, 7],
    placed: { x: 0, y: 0, width: 98, height: 98 },
  });
  assert.equal(placeImage(100, 100, 100, 14, "crop").placed, { x: 0, y: 0, width: 98, height: 98 });
});

test("whatever the size, a padded grid covers the picture and a cropped one lies on it", () => {
  for (let width = 1; width <= 120; width += 7) {
    for (let height = 1; height <= 120; height += 5) {
      const pad = placeImage(width, height, 336, 14, "pad").placed;
      assert.ok(pad.x <= 0 && pad.y <= 0 && pad.x + pad.width >= width && pad.y + pad.height >= height);
      assert.is(pad.width, pad.height);
      const crop = placeImage(width, height, 336, 14, "crop").placed;
      assert.ok(crop.x >= 0 && crop.y >= 0 && crop.x + crop.width <= width + 1e-9 && crop.y + crop.height <= height + 1e-9);
      // As good as square: the longer side is truncated to whole pixels.
      assert.ok(Math.abs(crop.width / crop.height - 1) < 1 / 336);
    }
  }
});

test.run();
