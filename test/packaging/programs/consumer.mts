// What a user's compiler sees of the package, by import.
import {
  doctor, errorCodes, HimapError, load, presets, renderHeatmap,
  type BatchOptions, type Cut, type Engine, type GenerateOptions, type LoadOptions, type Result,
} from "himap";
import { load as staticLoad } from "himap/linux-x64";

const options: GenerateOptions = { pruning: "himap", maxTokens: 3 };
export async function use(folder: string): Promise<Result> {
  await using engine: Engine = await load(folder, { device: "auto" });
  for await (const { text } of engine.generate("hello", options)) text.trim();
  return engine.generate([{ role: "user", content: [{ type: "image", image: { path: "a.png" } }, { type: "text", text: "?" }] }], options);
}

// A generation goes wherever a promise does.
export function ask(engine: Engine): Promise<Result | undefined> {
  const answer: Promise<Result> = engine.generate("hello");
  return answer.catch(() => undefined).finally(() => undefined);
}

// What nobody will write to may be read-only, and what was not chosen may be undefined.
const conversation = [
  { role: "system", content: "Answer in one word." },
  { role: "user", content: [{ type: "image", image: { path: "a.png" } }, { type: "text", text: "?" }] },
] as const;
const cuts: readonly Cut[] = [{ before: 2, score: { rows: "last", heads: undefined }, keep: { ratio: 0.5 } }];
export async function constant(engine: Engine, planes: readonly Float32Array[], signal?: AbortSignal, seed?: number): Promise<void> {
  const chosen = { signal, seed, stop: ["."], stopTokenIds: [2], logitBias: { 7: -1 }, pruning: { cuts } } as const satisfies GenerateOptions;
  await engine.generate(conversation, chosen);
  for await (const { ok } of engine.batch([{ key: 1, messages: conversation, options: chosen }] as const, { signal } satisfies BatchOptions)) if (!ok) break;
  await engine.forward(conversation, { signal, pruning: { preset: "random", seed } });
  await engine.forward({ ids: [1, -200] as const, pixels: planes, features: undefined }, { pruning: undefined });
  await engine.encodeImage({ path: "a.png" }, { signal, autoOrient: undefined });
  engine.plan({ images: seed, pruning: { cuts } });
}
export const reopen = (folder: string, options: LoadOptions, signal?: AbortSignal): Promise<Engine> =>
  load(folder, { ...options, signal, threads: undefined, memory: { kvBytes: undefined } });

export const same: typeof load = staticLoad;
export const others = [doctor, errorCodes, HimapError, presets, renderHeatmap];
