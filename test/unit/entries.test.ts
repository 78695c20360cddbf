import { spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

import { test } from "uvu";
import * as assert from "uvu/assert";

import { packageVersion } from "../../lib/package.js";

const root = fileURLToPath(new URL("../..", import.meta.url));

/** Runs a program in the package's own folder, where it can import itself by name. */
function run(kind: "module" | "commonjs", source: string): unknown {
  const { status, stdout, stderr } = spawnSync(process.execPath, [`--input-type=${kind}`, "-e", source], { cwd: root, encoding: "utf8" });
  assert.is(status, 0, stderr);
  return JSON.parse(stdout);
}

// The entries are what is compiled into dist/, which `npm test` makes before it runs anything.
const built = existsSync(`${root}/dist/lib/cjs.cjs`);
if (!built) console.log("SKIP: dist/ is not built");
const entry = built ? test : test.skip;

entry("both entries export the same names", () => {
  const esm = run("module", 'console.log(JSON.stringify(Object.keys(await import("himap")).sort()))');
  const cjs = run("commonjs", 'console.log(JSON.stringify(Object.keys(require("himap")).sort()))');
  assert.equal(cjs, esm);
  assert.ok((esm as string[]).includes("load"));
});

entry("they share the error class and the tables", () => {
  assert.equal(run("module", `
    import { createRequire } from "node:module";
    import * as esm from "himap";
    const cjs = createRequire(import.meta.url)("himap");
    const error = await cjs.load("/no/such/folder").catch((error) => error);
    console.log(JSON.stringify([cjs.HimapError === esm.HimapError, cjs.errorCodes === esm.errorCodes, cjs.presets === esm.presets,
      error instanceof esm.HimapError, error.code, error.name]));
  `.replaceAll("\n", " ")), [true, true, true, true, "ERR_INVALID_ARG", "HimapError"]);
});

entry("the model and the pictures that ship have the same address for import and require", () => {
  for (const name of ["himap/models/pico-llava/config.json", "himap/examples/images/scene-1.png"]) {
    const imported = run("module", `console.log(JSON.stringify(import.meta.resolve(${JSON.stringify(name)})))`);
    assert.is(fileURLToPath(imported as string), run("commonjs", `console.log(JSON.stringify(require.resolve(${JSON.stringify(name)})))`));
  }
});

entry("importing loads nothing native, and doctor never rejects", () => {
  const report = run("commonjs", `
    const himap = require("himap");
    import("himap").then(async ({ doctor }) => {
      const native = () => process.report.getReport().sharedObjects.filter((file) => /himap|vips|sharp/.test(file)).length;
      const before = native();
      const report = await himap.doctor();
      console.log(JSON.stringify({ before, version: report.version, hasBinary: report.binary.path !== undefined || report.binary.error !== undefined }));
    });
  `) as { before: number; version: string; hasBinary: boolean };
  assert.is(report.before, 0);
  assert.match(report.version, /^\d+\.\d+\.\d+$/);
  assert.ok(report.hasBinary);
});

test("the version in the sources is package.json's", () => {
  const { version } = JSON.parse(readFileSync(`${root}/package.json`, "utf8")) as { version: string };
  assert.is(packageVersion, version);
});

test.run();
