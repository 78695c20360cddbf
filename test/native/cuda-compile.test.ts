// Every kernel compiled by nvcc for every target, where nvcc is: no spilled register, no stack, nothing serialised.
// The build folder is kept, so that only what changed is compiled again.

import { spawnSync } from "node:child_process";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { test } from "uvu";
import * as assert from "uvu/assert";

const root = fileURLToPath(new URL("../..", import.meta.url));
const found = spawnSync("nvcc", ["--version"], { stdio: "ignore" }).status === 0;
if (!found) console.log("SKIP: nvcc was not found, so the kernels are not compiled for cards");

(found ? test : test.skip)("the kernels compile for every target without spills", () => {
  const result = spawnSync(path.join(root, "scripts", "cuda.sh"), ["compile"], { cwd: root, encoding: "utf8" });
  assert.is(result.status, 0, `${result.stdout}${result.stderr}`);
  assert.match(result.stdout, /^[1-9]\d* kernels compiled, 0 faults$/m);
});

test.run();
