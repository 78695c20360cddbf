// Two installed copies of the package in one process, side by side.
import path from "node:path";
import { pathToFileURL } from "node:url";
import { answer, packageFolder } from "./answer.mjs";

const second = path.resolve("second", "node_modules", "himap");
const copies = await Promise.all([packageFolder, second].map((folder) => import(pathToFileURL(path.join(folder, "dist", "lib", "index.js")).href)));
const [first, other] = await Promise.all([answer(copies[0].load, packageFolder), answer(copies[1].load, second)]);
const paths = await Promise.all(copies.map(async ({ doctor }) => (await doctor()).binary.path));
if (new Set(paths).size !== 2) throw new Error(`expected two binaries but received ${paths}`);
if (first !== other) throw new Error(`answers differ: ${first} | ${other}`);
console.log(first);
