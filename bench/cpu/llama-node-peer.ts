/** The rival for pictures, @fugood/llama.node: llama.cpp's multimodal library in Node, on the CPU. */

import { createRequire } from "node:module";

import { serve } from "./peer.js";
import { installedAt } from "./rivals.js";
import { processorSeconds } from "./text-run.js";

/** The part of its interface that is used; the package is installed by the bench, out of reach of the type checker. */
interface Context {
  initMultimodal(options: { path: string; use_gpu: boolean }): boolean;
  completion(options: object): Promise<{ tokens_evaluated: number; timings: { prompt_ms: number } }>;
}
interface Package {
  loadModel(options: object): Promise<Context>;
}

export interface VisionRivalJob {
  decoder: string;
  vision: string;
  threads: number;
  positions: number;
  picture: string;
  /** Text on both sides of the picture. */
  before: string;
  after: string;
}

export interface VisionRivalRun {
  /** Seconds from the call to the first token, and what the engine itself calls its prompt's time. */
  total: number;
  prompt: number;
  promptTokens: number;
  processor: number;
}

const handlers = {
  async picture({ decoder, vision, threads, positions, picture, before, after }: VisionRivalJob): Promise<VisionRivalRun> {
    const { loadModel } = createRequire(import.meta.url)(installedAt("@fugood/llama.node")) as Package;
    const context = await loadModel({
      model: decoder, n_ctx: positions, n_batch: positions, n_ubatch: positions, n_threads: threads, n_gpu_layers: 0, n_parallel: 1,
    });
    if (!context.initMultimodal({ path: vision, use_gpu: false })) throw new Error(`expected ${vision} to open but it was refused`);
    const processor = processorSeconds();
    const started = performance.now();
    const { tokens_evaluated, timings } = await context.completion({
      prompt: `${before}<__media__>${after}`, media_paths: [picture], n_predict: 1, temperature: 0,
    });
    const total = (performance.now() - started) / 1000;
    return { total, prompt: timings.prompt_ms / 1000, promptTokens: tokens_evaluated, processor: processorSeconds() - processor };
  },
};

export type LlamaNodePeer = typeof handlers;
serve(handlers);
