// Captions for every picture of examples/images, as they finish.

import { readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";

import { load } from "himap";

const path = (name) => fileURLToPath(new URL(`../${name}`, import.meta.url));

const engine = await load(path("../models/pico-llava"));

function* jobs() {
  for (const name of readdirSync(path("images")).filter((file) => file.endsWith(".png"))) {
    const image = { type: "image", image: { path: path(`images/${name}`) } };
    yield { key: name, messages: [{ role: "user", content: [image, { type: "text", text: "Describe the image." }] }] };
  }
}

const captions = engine.batch(jobs());
for await (const { key, ...outcome } of captions) {
  console.log(`${key}: ${outcome.ok ? outcome.value.text : outcome.error.code}`);
}
const { done, failed, requestsPerSecond } = captions.stats;
console.log(`${done} done, ${failed} failed, ${requestsPerSecond.toFixed(1)} a second`);
await engine.dispose();
