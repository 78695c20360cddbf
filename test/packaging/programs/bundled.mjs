// Bundled with everything but sharp: nothing is read from node_modules/himap but the model.
import path from "node:path";
import { doctor, load } from "himap/linux-x64";

const folder = path.join(process.cwd(), "node_modules", "himap");
async function main() {
  const engine = await load(path.join(folder, "models", "pico-llava"), { threads: 2 });
  const picture = { path: path.join(folder, "examples", "images", "scene-1.png") };
  const content = [{ type: "image", image: picture }, { type: "text", text: "Describe the image." }];
  console.log((await engine.generate([{ role: "user", content }], { pruning: "himap", maxTokens: 24 })).text);
  await engine.dispose();
  console.log((await doctor()).binary.path);
}
void main();
