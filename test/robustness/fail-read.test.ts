/**
 * Every opening, stat, listing and reading of a file in TypeScript fails once: the first, then the second, until there are no
 * more. Each time a typed error comes, or the same result as ever; no file stays open; and the next try is right.
 */

import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import fs, { type FileHandle } from "node:fs/promises";
import { syncBuiltinESMExports } from "node:module";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";

import { test } from "uvu";
import * as assert from "uvu/assert";

import { HimapError, load, type Engine } from "../../lib/index.js";
import { convertCheckpoint } from "../../weights-tools/convert.js";
import { verifyCheckpoint } from "../../weights-tools/verify.js";

const golden = fileURLToPath(new URL("../golden/", import.meta.url));
const picture = `${golden}mha/short.png`;

/** Requests until the one that fails; 0: none. */
let left = 0;
let fired: string | undefined;
/** Descriptors of this process, Linux's way to know them. */
const descriptors = (): number => (process.platform === "linux" ? readdirSync("/proc/self/fd").length : 0);

function request(name: string): void {
  if (left === 0 || --left > 0) return;
  fired = name;
  throw Object.assign(new Error(`EIO: i/o error, ${name}`), { code: "EIO", errno: -5, syscall: name });
}

/** Stands between the product and node:fs/promises for the rest of this process. */
async function standBetween(): Promise<void> {
  const own = await fs.open(picture);
  const handles = Object.getPrototypeOf(own) as FileHandle;
  await own.close();
  const { open, stat, readdir } = fs;
  const { read, stat: statOf } = handles;
  const module = fs as unknown as Record<string, unknown>;
  module.open = async (...args: Parameters<typeof open>) => (request("open"), open(...args));
  module.stat = async (...args: Parameters<typeof stat>) => (request("stat"), stat(...args));
  module.readdir = async (...args: Parameters<typeof readdir>) => (request("readdir"), readdir(...args));
  syncBuiltinESMExports();
  const wrapped = handles as unknown as Record<string, unknown>;
  wrapped.read = async function (this: FileHandle, ...args: Parameters<typeof read>) {
    request("read");
    return read.apply(this, args);
  };
  wrapped.stat = async function (this: FileHandle) {
    request("fstat");
    return statOf.call(this);
  };
}

/** Fails each request of `work` in turn. What it gives must be equal whenever it gives anything. */
async function eachFault(name: string, work: () => Promise<unknown>): Promise<void> {
  const right = await work();
  const codes = new Map<string, number>();
  for (let nth = 1; ; nth++) {
    left = nth;
    fired = undefined;
    const before = descriptors();
    const outcome = await work().then((value) => ({ value }), (error: unknown) => ({ error }));
    left = 0;
    assert.is(descriptors(), before, `${name}, request ${nth} (${fired}): files left open`);
    if ("error" in outcome) {
      const { error } = outcome;
      assert.ok(error instanceof HimapError && error.code !== "ERR_INTERNAL", `${name}, request ${nth} (${fired}): ${String(error)}`);
      codes.set(error.code, (codes.get(error.code) ?? 0) + 1);
    } else {
      assert.equal(outcome.value, right, `${name}, request ${nth} (${fired})`);
    }
    if (fired !== undefined) continue;
    assert.ok("value" in outcome, `${name}: refused without a fault`);
    const told = [...codes].map(([code, count]) => `${code} ${count}`).join(", ");
    console.log(`NOTE: ${name}: ${nth - 1} requests failed one after another: ${told}, the others made no difference`);
    assert.ok(codes.size > 0);
    return;
  }
}

let folder: string;
test.before(async () => {
  folder = mkdtempSync(path.join(tmpdir(), "himap-fail-read-"));
  await standBetween();
});
test.after(() => rmSync(folder, { recursive: true, force: true }));

for (const name of ["mha", "gqa"]) {
  test(`loading ${name}`, () =>
    eachFault(`load ${name}`, async () => {
      const engine = await load(`${golden}${name}/checkpoint`, { threads: 1 });
      const { fingerprint, hidden, vocabulary } = engine.info;
      await engine.dispose();
      return { fingerprint, hidden, vocabulary };
    }));
}

test("a picture in a file", async () => {
  const engine: Engine = await load(`${golden}mha/checkpoint`, { threads: 1 });
  await eachFault("picture", async () => Array.from((await engine.encodeImage({ path: picture })).features));
  await engine.dispose();
});

test("verifying every value", () => eachFault("verify", () => verifyCheckpoint(`${golden}mha/checkpoint`, { values: true })));

test("converting, and nothing is left where it failed", async () => {
  let runs = 0;
  await eachFault("convert", async () => {
    const out = path.join(folder, `out-${runs++}`);
    const { files, ...report } = await convertCheckpoint(`${golden}original/checkpoint`, out, { vision: `${golden}original/checkpoint-clip` });
    rmSync(out, { recursive: true });
    return { files: files.length, layout: report.layout };
  });
  assert.equal(await fs.readdir(folder), []);
});

test.run();
