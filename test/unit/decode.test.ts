import { createHash } from "node:crypto";
import { createReadStream, readFileSync } from "node:fs";
import fs from "node:fs/promises";
import { syncBuiltinESMExports } from "node:module";
import { Readable } from "node:stream";
import { pathToFileURL } from "node:url";
import sharp from "sharp";
import { test } from "uvu";
import * as assert from "uvu/assert";

import { HimapError } from "../../lib/errors.cjs";
import { Faults } from "../../lib/check.js";
import { limits } from "../../lib/defaults.js";
import { checkPicture } from "../../lib/image/check.js";
import { decodeImage, type DecodeOptions, type PictureInput } from "../../lib/image/decode.js";
import { readSource } from "../../lib/image/source.js";
import type { RawImage } from "../../lib/types.js";
import { brokenImages } from "../helpers/broken-images.js";
import { FakeClock } from "../helpers/clock.js";
import { formulaPicture, golden } from "../helpers/pictures.js";
import { Random } from "../helpers/random.js";

const options: DecodeOptions = { maxPixels: 1_000_000, autoOrient: false };

/** As a request has it: checked, then decoded. */
async function read(input: unknown, reading = options): Promise<RawImage> {
  const faults = new Faults();
  const picture = checkPicture(input, "image", faults);
  faults.raise("test");
  return decodeImage(picture as PictureInput, reading);
}

const sha256 = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");
const file = (name: string): Buffer => readFileSync(golden(`pictures/${name}`));
const expected = JSON.parse(file("expected.json").toString()) as Record<
  string,
  { width: number; height: number; sha256: string }
>;

for (const [name, { width, height, sha256: hash }] of Object.entries(expected)) {
  test(`${name} decodes to Pillow's bytes`, async () => {
    const image = await decodeImage(file(name), options);
    assert.equal([image.width, image.height, image.channels], [width, height, 3]);
    assert.is(sha256(image.pixels), hash);
  });
}

test("an interlaced PNG is the same picture", async () => {
  const image = await decodeImage(await sharp(file("rgb.png")).png({ progressive: true }).toBuffer(), options);
  assert.is(sha256(image.pixels), expected["rgb.png"]!.sha256);
});

test("a colour profile is ignored", async () => {
  // The stored values differ from the sRGB ones, and it is the stored ones that count.
  const tagged = await sharp(file("rgb.png")).withIccProfile("p3").png().toBuffer();
  const stored = await sharp(tagged, { ignoreIcc: true }).removeAlpha().raw().toBuffer();
  assert.is.not(sha256(stored), expected["rgb.png"]!.sha256);
  assert.is(sha256((await decodeImage(tagged, options)).pixels), sha256(stored));
});

test("EXIF orientation is applied only when asked for", async () => {
  const plain = await decodeImage(file("oriented.jpg"), options);
  const turned = await decodeImage(file("oriented.jpg"), { ...options, autoOrient: true });
  assert.equal([plain.width, plain.height, turned.width, turned.height], [62, 46, 46, 62]);
  // Orientation 6: the first row is the right-hand side.
  for (let x = 0; x < 62; x++)
    assert.equal(
      [...turned.pixels.subarray((x * 46 + 45) * 3, (x * 46 + 45) * 3 + 3)],
      [...plain.pixels.subarray(x * 3, x * 3 + 3)],
    );
});

test("bytes, Buffer, ArrayBuffer, Blob, stream, path, URL and raw pixels give the same picture", async () => {
  const bytes = file("rgb.png");
  const chunks = (size: number): ReadableStream<Uint8Array> =>
    new ReadableStream({
      start(controller) {
        for (let at = 0; at < bytes.length; at += size) controller.enqueue(new Uint8Array(bytes.subarray(at, at + size)));
        controller.close();
      },
    });
  const forms = [
    bytes,
    new Uint8Array(bytes),
    new Uint8Array(bytes).buffer,
    new Blob([new Uint8Array(bytes)]),
    chunks(7),
    chunks(1e6),
    { path: golden("pictures/rgb.png") },
    pathToFileURL(golden("pictures/rgb.png")),
    Readable.toWeb(createReadStream(golden("pictures/rgb.png"))) as ReadableStream<Uint8Array>,
  ];
  for (const form of forms) assert.is(sha256((await read(form)).pixels), expected["rgb.png"]!.sha256);
  const raw = formulaPicture(5, 4);
  assert.equal(await read(raw), raw);
});

test("bytes overwritten or transferred after the call change nothing", async () => {
  for (const spoil of [
    (bytes: Uint8Array) => bytes.fill(0),
    (bytes: Uint8Array) => structuredClone(bytes.buffer, { transfer: [bytes.buffer as ArrayBuffer] }),
  ]) {
    const bytes = new Uint8Array(file("lossy.webp"));
    const pending = decodeImage(bytes, options);
    spoil(bytes);
    assert.is(sha256((await pending).pixels), expected["lossy.webp"]!.sha256);
  }
});

test("every broken or refused picture gets its code", async () => {
  const broken = await brokenImages();
  assert.ok(broken.length >= 40, String(broken.length));
  assert.is(new Set(broken.map(({ name }) => name)).size, broken.length);
  console.log(`NOTE: ${broken.length} broken or refused pictures`);
  for (const { name, input, code, options: own } of broken) {
    try {
      await read(input, { ...options, ...own });
      assert.unreachable(`${name} was accepted`);
    } catch (error) {
      assert.instance(error, HimapError, `${name}: ${String(error)}`);
      assert.is((error as HimapError).code, code, `${name}: ${String(error)}`);
      assert.match((error as HimapError).message, /expected|aborted/, name);
      assert.not.match((error as HimapError).message, /0x[0-9a-f]{6}|\/tmp\/|\/home\/|node_modules/, name);
    }
  }
});

test("what the system lacks at the moment is no fault of the picture", async () => {
  const { open } = fs;
  for (const [code, expected] of [
    ["EMFILE", "ERR_OUT_OF_MEMORY"],
    ["ENFILE", "ERR_OUT_OF_MEMORY"],
    ["ENOMEM", "ERR_OUT_OF_MEMORY"],
    ["EAGAIN", "ERR_OUT_OF_MEMORY"],
    ["EIO", "ERR_OUT_OF_MEMORY"],
    ["ENOENT", "ERR_BAD_IMAGE"],
    ["EACCES", "ERR_BAD_IMAGE"],
    ["EISDIR", "ERR_BAD_IMAGE"],
  ] as const) {
    fs.open = () => Promise.reject(Object.assign(new Error(code), { code }));
    syncBuiltinESMExports();
    const error = await read({ path: "x.png" }).catch((thrown: unknown) => thrown as HimapError);
    fs.open = open;
    syncBuiltinESMExports();
    assert.instance(error, HimapError);
    assert.equal([(error as HimapError).code, (error as HimapError).retryable], [expected, expected === "ERR_OUT_OF_MEMORY"], code);
    assert.match((error as HimapError).message, `received ${code}`);
  }
});

test("a stream above the limit is stopped where the limit is passed", async () => {
  let sent = 0;
  let cancelled = false;
  const endless = new ReadableStream<Uint8Array>({
    pull(controller) {
      sent += 16_000_000;
      controller.enqueue(new Uint8Array(16_000_000));
    },
    cancel() {
      cancelled = true;
    },
  });
  try {
    await decodeImage(endless, options);
    assert.unreachable();
  } catch (error) {
    assert.is((error as HimapError).code, "ERR_TOO_LARGE");
  }
  assert.ok(cancelled);
  assert.ok(sent < 320_000_000);
});

test("a stream that stalls ends, and is told to stop; a slow one does not", async () => {
  const clock = new FakeClock();
  let reason: unknown;
  let source!: ReadableStreamDefaultController<Uint8Array>;
  const stream = new ReadableStream<Uint8Array>({
    start: (controller) => void (source = controller),
    cancel: (cause) => void (reason = cause),
  });
  const reading = readSource(stream, undefined, clock);
  for (let chunk = 0; chunk < 5; chunk++) {
    source.enqueue(new Uint8Array(1));
    await new Promise((resolve) => setImmediate(resolve));
    clock.advance(limits.streamStallMs - 1);
  }
  clock.advance(1);
  const error = await reading.catch((thrown: unknown) => thrown);
  assert.instance(error, HimapError);
  assert.equal([(error as HimapError).code, (error as HimapError).retryable, reason], ["ERR_TIMEOUT", true, error]);
  assert.is(clock.pending, 0);
});

test("an abort ends waiting for a stream that never comes, for a turn, and before anything begins", async () => {
  const stalled = new ReadableStream<Uint8Array>({});
  const reason = new Error("enough");
  for (const input of [stalled, file("rgb.png"), { path: golden("pictures/rgb.png") }]) {
    const controller = new AbortController();
    const pending = decodeImage(input, { ...options, signal: controller.signal });
    controller.abort(reason);
    try {
      await pending;
      assert.unreachable();
    } catch (error) {
      assert.is((error as HimapError).code, "ERR_ABORTED");
      assert.is((error as HimapError).cause, reason);
    }
  }
  // Places in the queue come back: later pictures are decoded.
  const aborted = new AbortController();
  const many = Array.from({ length: 50 }, () =>
    decodeImage(file("baseline.jpg"), { ...options, signal: aborted.signal }).catch((error: unknown) => error),
  );
  aborted.abort(reason);
  for (const error of await Promise.all(many)) assert.is((error as HimapError).code, "ERR_ABORTED");
  assert.is(sha256((await decodeImage(file("baseline.jpg"), options)).pixels), expected["baseline.jpg"]!.sha256);
});

test("2,000 mutated pictures are decoded or refused with a code", async () => {
  const sources = [
    "baseline.jpg",
    "progressive.jpg",
    "cmyk.jpg",
    "rgb.png",
    "palette-alpha.png",
    "rgb-16-bit.png",
    "lossy.webp",
    "lossless.webp",
    "animated.webp",
  ].map(file);
  const random = new Random(12345);
  const counts: Record<string, number> = {};
  for (let i = 0; i < 2000; i++) {
    const bytes = new Uint8Array(sources[i % sources.length]!);
    for (let n = 1 + random.below(4); n > 0; n--) bytes[random.below(bytes.length)] = random.below(256);
    const cut = random.below(8) === 0 ? bytes.subarray(0, random.below(bytes.length)) : bytes;
    let outcome = "decoded";
    try {
      const { pixels, width, height } = await decodeImage(cut, options);
      assert.is(pixels.length, width * height * 3);
    } catch (error) {
      assert.instance(error, HimapError, String(error));
      outcome = (error as HimapError).code;
    }
    counts[outcome] = (counts[outcome] ?? 0) + 1;
  }
  console.log(
    `NOTE: mutated pictures: ${Object.entries(counts)
      .map(([name, count]) => `${count} ${name}`)
      .join(", ")}`,
  );
  for (const code of Object.keys(counts))
    assert.ok(["decoded", "ERR_BAD_IMAGE", "ERR_UNSUPPORTED_FILE", "ERR_TOO_LARGE"].includes(code), code);
});

test.run();
