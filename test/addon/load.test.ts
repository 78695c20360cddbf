import { createRequire } from "node:module";
import { test } from "uvu";
import * as assert from "uvu/assert";

const require = createRequire(import.meta.url);

test("the addon loads and says its version", () => {
  const addon = require("node-gyp-build")(new URL("../..", import.meta.url).pathname);
  assert.is(addon.version, require("../../package.json").version);
});

test.run();
