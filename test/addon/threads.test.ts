import { Worker } from "node:worker_threads";
import { test } from "uvu";
import * as assert from "uvu/assert";

import { loadNative, nativePath } from "../../lib/binding/load.js";
import { runModule } from "../helpers/child.js";
import { clip, formulaPicture } from "../helpers/pictures.js";

const job = (width: number, height: number) => ({
  ...formulaPicture(width, height),
  geometry: "pad" as const,
  side: 336,
  ...clip,
});

/** What a worker or a child runs: the binary by its path, and a job that takes some 50 ms. */
const setUp = `
  const native = require(${JSON.stringify(nativePath())});
  const job = (pixels = new Uint8Array(3000 * 2000 * 3)) => native.preprocess({
    pixels, width: 3000, height: 2000, channels: 3, geometry: "pad", side: 336, mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5],
  });
`;

test("workers terminated in the middle of jobs leave the process and its other work alone", async () => {
  const text = `const { parentPort } = require("node:worker_threads"); ${setUp}
    for (let i = 0; i < 6; i++) job().then(() => parentPort.postMessage("done"), () => {});
    parentPort.postMessage("started");`;
  const expected = (await loadNative().preprocess(job(61, 47))).bytes;
  let finished = 0;
  for (let round = 0; round < 12; round++) {
    const workers = Array.from({ length: 2 }, () => new Worker(text, { eval: true }));
    await Promise.all(workers.map((worker) => new Promise((resolve) => worker.once("message", resolve))));
    for (const worker of workers) worker.on("message", () => finished++);
    const own = loadNative().preprocess(job(61, 47));
    await new Promise((resolve) => setTimeout(resolve, (round * 7) % 60));
    await Promise.all(workers.map((worker) => worker.terminate()));
    assert.equal((await own).bytes, expected);
  }
  console.log(`NOTE: 24 workers terminated with 144 jobs under way, ${finished} of which were finished`);
});

test("a worker that ends by itself waits for its jobs", async () => {
  const worker = new Worker(
    `const { parentPort } = require("node:worker_threads"); ${setUp} job().then((result) => parentPort.postMessage(result.bytes.length));`,
    { eval: true },
  );
  const messages: unknown[] = [];
  worker.on("message", (message) => messages.push(message));
  assert.is(await new Promise((resolve) => worker.once("exit", resolve)), 0);
  assert.equal(messages, [336 * 336 * 3]);
});

test("a pending promise keeps the process alive, a settled one does not", async () => {
  const { code, output } =
    await runModule(`import { createRequire } from "node:module"; const require = createRequire(import.meta.url); ${setUp}
    job().then(() => { console.log("first"); return job(); }).then(() => console.log("second"));`);
  assert.equal([code, output], [0, "first\nsecond\n"]);
});

for (const [name, end, expected] of [
  ["process.exit", "process.exit(7)", 7],
  ["an uncaught error", "setImmediate(() => { throw new Error('on purpose') })", 1],
] as const) {
  test(`${name} in the middle of jobs ends the process with its own code`, async () => {
    for (let round = 0; round < 3; round++) {
      const { code, signal } =
        await runModule(`import { createRequire } from "node:module"; const require = createRequire(import.meta.url); ${setUp}
        for (let i = 0; i < 8; i++) job(); setTimeout(() => { ${end} }, ${round * 20});`);
      assert.equal([code, signal], [expected, null]);
    }
  });
}

test("the event loop stays free while jobs run", async () => {
  const image = job(3000, 2000);
  const pending = Array.from({ length: 8 }, () => loadNative().preprocess(image));
  let worst = 0;
  let last = performance.now();
  const timer = setInterval(() => {
    worst = Math.max(worst, performance.now() - last - 1);
    last = performance.now();
  }, 1);
  await Promise.all(pending);
  clearInterval(timer);
  console.log(`NOTE: event loop held up at most ${worst.toFixed(1)} ms during 8 resizes of 6 megapixels`);
});

test("where addons are not allowed, the error says which flag is missing", async () => {
  const text = `import { loadNative } from "./lib/binding/load.ts";
    try { loadNative(); } catch (error) { console.log(error.name, error.code, error.hint); }`;
  const { output } = await runModule(text, ["--no-addons"]);
  assert.match(output, /HimapError ERR_NO_BINARY .*--no-addons.*--allow-addons/);
});

test("where there is no binary, the error says where it was looked for and what to do", async () => {
  const text = `import { loadNative } from "./lib/binding/load.ts";
    try { loadNative(); } catch (error) { console.log(error.code, error.message, error.hint); }`;
  const { output } = await runModule(text, [], { PREBUILDS_ONLY: "1", HIMAP_PREBUILD: "/nowhere" });
  assert.match(
    output,
    /ERR_NO_BINARY expected a native binary for \S+ but none could be loaded: looked in \/nowhere\/prebuilds\/\S+ \(ENOENT\), .*prebuilds/,
  );
  assert.match(output, /npx himap build/);
});

test.run();
