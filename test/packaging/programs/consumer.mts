// What a user's compiler sees of the package, by import.
import { doctor, errorCodes, HimapError, load, presets, renderHeatmap, type Engine, type GenerateOptions, type Result } from "himap";
import { load as staticLoad } from "himap/linux-x64";

const options: GenerateOptions = { pruning: "himap", maxTokens: 3 };
export async function use(folder: string): Promise<Result> {
  await using engine: Engine = await load(folder, { device: "auto" });
  for await (const { text } of engine.generate("hello", options)) text.trim();
  return engine.generate([{ role: "user", content: [{ type: "image", image: { path: "a.png" } }, { type: "text", text: "?" }] }], options);
}
export const same: typeof load = staticLoad;
export const others = [doctor, errorCodes, HimapError, presets, renderHeatmap];
