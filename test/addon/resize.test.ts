import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { test } from "uvu";
import * as assert from "uvu/assert";

import { loadNative } from "../../lib/binding/load.js";
import { decodeImage } from "../../lib/image/decode.js";
import { placeImage } from "../../lib/image/place.js";
import { prepareImage } from "../../lib/image/prepare.js";
import type { RawImage } from "../../lib/types.js";
import { clip, formulaPicture, golden } from "../helpers/pictures.js";
import { readTensors } from "../helpers/safetensors.js";

const native = loadNative();
const sha256 = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");
const limits = { maxPixels: 64_000_000, autoOrient: false };
const resize = (image: RawImage, geometry: "pad" | "crop", side: number) =>
  native.preprocess({ ...image, geometry, side, mean: clip.mean, std: clip.std });

test("the 136 vectors of Pillow's bicubic are met bit for bit", async () => {
  const vectors = JSON.parse(readFileSync(golden("resize-vectors.json"), "utf8")) as {
    width: number;
    height: number;
    side: number;
    geometry: "pad" | "crop";
    sha256: string;
  }[];
  assert.is(vectors.length, 136);
  for (const { width, height, side, geometry, sha256: expected } of vectors) {
    const { bytes } = await resize(formulaPicture(width, height), geometry, side);
    assert.is(sha256(bytes), expected, `${width}x${height} ${geometry} to ${side}`);
  }
});

test("a picture of 500 x 334: whole and by its pixels", async () => {
  const expected = {
    pad: {
      hash: "63394ae4ff1ac77e80008298daf2b78fc6d1f2dd4a9760976ce0f34545619bd2",
      at: {
        "0,0": [122, 116, 104],
        "168,168": [124, 55, 105],
        "10,60": [191, 251, 35],
        "335,275": [198, 169, 35],
        "200,100": [74, 124, 174],
      },
    },
    crop: {
      hash: "8cb197cac692d9d181bfddbb2603c93035f0c340375fbce89b43b5b80e6891f2",
      at: { "0,0": [67, 117, 167], "168,168": [255, 49, 99], "10,60": [200, 144, 44], "335,335": [224, 18, 68] },
    },
  };
  for (const geometry of ["pad", "crop"] as const) {
    const { bytes } = await resize(formulaPicture(500, 334), geometry, 336);
    for (const [key, rgb] of Object.entries(expected[geometry].at)) {
      const [x, y] = key.split(",").map(Number) as [number, number];
      assert.equal([...bytes.subarray((y * 336 + x) * 3, (y * 336 + x) * 3 + 3)], rgb, `${geometry} ${key}`);
    }
    assert.is(sha256(bytes), expected[geometry].hash);
  }
});

test("the fourth channel is ignored", async () => {
  const rgb = formulaPicture(61, 40);
  const pixels = new Uint8Array(61 * 40 * 4);
  for (let i = 0; i < 61 * 40; i++) pixels.set([rgb.pixels[i * 3]!, rgb.pixels[i * 3 + 1]!, rgb.pixels[i * 3 + 2]!, i], i * 4);
  const with4 = await resize({ pixels, width: 61, height: 40, channels: 4 }, "pad", 56);
  assert.equal(with4.bytes, (await resize(rgb, "pad", 56)).bytes);
});

for (const name of ["mha", "gqa", "full576", "hd128"]) {
  test(`the pictures of ${name} become what the reference saw`, async () => {
    const { requests } = JSON.parse(readFileSync(golden(`${name}/case.json`), "utf8")) as {
      requests: { name: string; image?: { file: string; geometry: "pad" | "crop"; resized_sha256: string } }[];
    };
    const config = JSON.parse(readFileSync(golden(`${name}/checkpoint/config.json`), "utf8")) as {
      vision_config: { image_size: number; patch_size: number };
    };
    const { image_size: side, patch_size: patch } = config.vision_config;
    for (const { name: request, image } of requests) {
      if (!image) continue;
      const { file, geometry } = image;
      const decoded = await decodeImage({ path: golden(`${name}/${file}`) }, limits);
      assert.is(sha256((await resize(decoded, geometry, side)).bytes), image.resized_sha256, request);
      if (request !== "short") continue;
      const prepared = await prepareImage(
        { path: golden(`${name}/${file}`) },
        { ...limits, geometry, side, patch, ...clip },
        native,
      );
      const expected = readTensors(golden(`${name}/short.safetensors`)).get("pixel_values")!.data;
      assert.is(prepared.pixels.length, expected.length);
      let worst = 0;
      for (let i = 0; i < expected.length; i++) worst = Math.max(worst, Math.abs(expected[i]! - prepared.pixels[i]!));
      assert.ok(worst <= 1e-6, `largest difference ${worst}`);
      assert.equal(prepared.placement, placeImage(decoded.width, decoded.height, side, patch, geometry));
      assert.ok(prepared.decodeMs >= 0);
    }
  });
}

test("a patch's middle on the picture is where the resize took it from", async () => {
  // Brightness runs along one axis, so that a patch's value says where it came from; steep enough to see a whole pixel.
  for (const [width, height] of [
    [900, 600],
    [600, 900],
    [333, 1000],
    [512, 512],
    [1001, 47],
    [47, 1001],
    [301, 300],
  ] as const) {
    for (const geometry of ["pad", "crop"] as const) {
      const { grid, placed } = placeImage(width, height, 336, 14, geometry);
      for (const axis of ["x", "y"] as const) {
        const length = axis === "x" ? width : height;
        const pixels = new Uint8Array(width * height * 3);
        for (let i = 0; i < width * height; i++) {
          const at = axis === "x" ? i % width : Math.floor(i / width);
          pixels.fill(Math.round((255 * (at + 0.5)) / length), i * 3, i * 3 + 3);
        }
        const { bytes } = await resize({ pixels, width, height, channels: 3 }, geometry, 336);
        for (let patch = 0; patch < 24; patch++) {
          const middle =
            axis === "x"
              ? placed.x + (placed.width * (patch + 0.5)) / grid[1]
              : placed.y + (placed.height * (patch + 0.5)) / grid[0];
          // The other axis: the middle of the square is always on the picture.
          const seen = (line: number): number => bytes[(axis === "x" ? 168 * 336 + line : line * 336 + 168) * 3]!;
          const support = (2 * placed.width) / 336 + 1;
          if (middle < support || middle > length - support) continue;
          const value = (seen(patch * 14 + 6) + seen(patch * 14 + 7)) / 2;
          const allowed = 1.5 + (255 / length) * 0.51;
          assert.ok(
            Math.abs(value - (255 * middle) / length) < allowed,
            `${width}x${height} ${geometry} ${axis} patch ${patch}: ${value} against ${(255 * middle) / length}`,
          );
        }
      }
    }
  }
});

test("several pictures at once, in any order, each get their own answer", async () => {
  const sizes = Array.from({ length: 40 }, (_, i) => [1 + ((i * 37) % 90), 1 + ((i * 53) % 70)] as const);
  const alone = [];
  for (const [width, height] of sizes) alone.push(sha256((await resize(formulaPicture(width, height), "crop", 56)).bytes));
  const together = await Promise.all(sizes.map(([width, height]) => resize(formulaPicture(width, height), "crop", 56)));
  assert.equal(
    together.map(({ bytes }) => sha256(bytes)),
    alone,
  );
});

test("what the caller does to its bytes after the call changes nothing", async () => {
  const expected = sha256((await resize(formulaPicture(400, 300), "pad", 336)).bytes);
  for (let round = 0; round < 50; round++) {
    const image = formulaPicture(400, 300);
    const pending = resize(image, "pad", 336);
    if (round % 2) image.pixels.fill(0);
    else structuredClone(image.pixels.buffer, { transfer: [image.pixels.buffer as ArrayBuffer] });
    assert.is(sha256((await pending).bytes), expected);
  }
});

test("arguments of any kind are refused with a code, and nothing else happens", async () => {
  const good = { ...formulaPicture(4, 4), geometry: "pad", side: 28, mean: clip.mean, std: clip.std };
  const odd: unknown[] = [
    undefined,
    null,
    NaN,
    Infinity,
    -1,
    0,
    1.5,
    2 ** 53,
    1e308,
    "4",
    "",
    {},
    [],
    [1, 2, 3],
    Symbol("s"),
    4n,
    () => 4,
    new Float64Array(3),
    new DataView(new ArrayBuffer(4)),
  ];
  const fields = ["pixels", "width", "height", "channels", "geometry", "side", "mean", "std"];
  for (const field of fields) {
    for (const value of odd) {
      if ((field === "mean" || field === "std") && Array.isArray(value) && value.length === 3 && field === "std") continue;
      try {
        await native.preprocess({ ...good, [field]: value } as never);
        assert.unreachable(`${field} ${String(value)}`);
      } catch (error) {
        assert.is((error as { code?: string }).code, "ERR_INVALID_ARG", `${field}: ${String(error)}`);
      }
    }
  }
  for (const value of odd) {
    try {
      await native.preprocess(value as never);
      assert.unreachable();
    } catch (error) {
      assert.is((error as { code?: string }).code, "ERR_INVALID_ARG");
    }
  }
});

test.run();
