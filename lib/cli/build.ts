/** `himap build`: the native binary from the package's own sources, where none was shipped for a machine. */

import { spawn } from "node:child_process";
import { once } from "node:events";
import path from "node:path";

import { packageRoot } from "../package.js";
import { defineCommand } from "./command.js";

export const build = defineCommand({
  name: "build",
  summary: "build the native binary from source, where the package has none for this machine",
  operands: {},
  options: {},
  notes: ["Needs CMake and a C++17 compiler; says so where they are missing. Takes a few minutes; longer where nvcc is, for the CUDA backend."],
  async run(_, { signal }) {
    const script = path.join(packageRoot, "scripts", "build", "cmake.cjs");
    const child = spawn(process.execPath, [script], { cwd: packageRoot, stdio: "inherit", signal });
    const [code] = (await once(child, "close")) as [number | null];
    return code ?? 1;
  },
});
