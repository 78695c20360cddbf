// What every program of the packaging tests asks: one question about one picture, pruned. The answer is always the same.

import { createRequire } from "node:module";
import path from "node:path";

export const packageFolder = path.dirname(createRequire(import.meta.url).resolve("himap/package.json"));

export const question = (folder) => [
  { role: "user", content: [{ type: "image", image: { path: path.join(folder, "examples", "images", "scene-1.png") } }, { type: "text", text: "Describe the image." }] },
];

/** @param load of any copy of the package; @param folder where a copy lies */
export async function answer(load, folder = packageFolder, options = {}) {
  const engine = await load(path.join(folder, "models", "pico-llava"), { threads: 2, ...options });
  try {
    return (await engine.generate(question(folder), { pruning: "himap", maxTokens: 24 })).text;
  } finally {
    await engine.dispose();
  }
}
