/** The rival for text, node-llama-cpp with llama.cpp's CPU backend, at its own defaults. */

import { readFileSync } from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";

import { serve } from "./peer.js";
import { installedAt } from "./rivals.js";
import { processorSeconds, type TextJob, type TextOpen, type TextRun } from "./text-run.js";

/** The part of its interface that is used; the package is installed by the bench, out of reach of the type checker. */
interface Sequence {
  clearHistory(): Promise<void>;
  evaluate(tokens: number[], options: { temperature: number; yieldEogToken: boolean }): AsyncGenerator<number>;
}
interface Context {
  getSequence(): Sequence;
  dispose(): Promise<void>;
  readonly currentThreads: number;
}
interface Llama {
  loadModel(options: object): Promise<{ createContext(options: object): Promise<Context> }>;
  dispose(): Promise<void>;
}

/** Which of its libraries, one per generation of processors, it chose. */
function loadedKernels(): string {
  return /libggml-cpu-(\w+)\.so/.exec(readFileSync("/proc/self/maps", "utf8"))?.[1] ?? "unknown";
}

let llama: Llama;
let sequence: Sequence;

const handlers = {
  async open({ model, threads, positions, prompt }: TextOpen & { prompt: number }) {
    const entry = path.join(installedAt("node-llama-cpp"), "dist", "index.js");
    const { getLlama } = (await import(pathToFileURL(entry).href)) as { getLlama(options: object): Promise<Llama> };
    llama = await getLlama({ gpu: false, build: "never", skipDownload: true, progressLogs: false, logLevel: "error", maxThreads: threads });
    const loaded = await llama.loadModel({ modelPath: model, gpuLayers: 0 });
    const context = await loaded.createContext({ contextSize: positions, batchSize: prompt, sequences: 1, threads });
    sequence = context.getSequence();
    return { threads: context.currentThreads, kernels: loadedKernels() };
  },

  async text({ prompt, steps }: TextJob): Promise<TextRun> {
    await sequence.clearHistory();
    const processor = processorSeconds();
    const started = performance.now();
    const tokens: number[] = [];
    let prefilled = started;
    let prefillProcessor = 0;
    for await (const token of sequence.evaluate(prompt, { temperature: 0, yieldEogToken: true })) {
      tokens.push(token);
      if (tokens.length === 1) {
        prefilled = performance.now();
        prefillProcessor = processorSeconds() - processor;
      }
      if (tokens.length > steps) break;
    }
    const ended = performance.now();
    return {
      prefill: (prefilled - started) / 1000,
      decode: (ended - prefilled) / 1000,
      processor: processorSeconds() - processor,
      prefillProcessor,
      tokens,
    };
  },

  async close(_: null) {
    await llama.dispose();
  },
};

export type LlamaPeer = typeof handlers;
serve(handlers);
