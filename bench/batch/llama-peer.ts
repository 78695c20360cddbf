/** node-llama-cpp with several sequences in one context, which it batches by itself, at its own defaults. Text alone. */

import path from "node:path";
import { pathToFileURL } from "node:url";

import { serve } from "../cpu/peer.js";
import { installedAt } from "../cpu/rivals.js";
import { processorSeconds } from "../cpu/text-run.js";
import { DecodeWindow, type Throughput } from "./run.js";

/** The part of its interface that is used; the package is installed by the bench, out of reach of the type checker. */
interface Sequence {
  evaluate(tokens: number[], options: { temperature: number; yieldEogToken: boolean }): AsyncGenerator<number>;
}
interface Context {
  getSequence(): Sequence;
  dispose(): Promise<void>;
}
interface Model {
  createContext(options: object): Promise<Context>;
}

export interface LlamaBatchJob {
  /** GGUF file. */
  model: string;
  threads: number;
  /** Token ids of each prompt, all under way at once. */
  prompts: number[][];
  /** Of each answer. */
  tokens: number;
}

export interface LlamaBatchRun extends Throughput {
  answers: number[][];
}

let opened: { model: string; loaded: Model } | undefined;

async function modelOf({ model, threads }: LlamaBatchJob): Promise<Model> {
  if (opened?.model !== model) {
    const entry = path.join(installedAt("node-llama-cpp"), "dist", "index.js");
    const { getLlama } = (await import(pathToFileURL(entry).href)) as { getLlama(options: object): Promise<{ loadModel(options: object): Promise<Model> }> };
    const llama = await getLlama({ gpu: false, build: "never", skipDownload: true, progressLogs: false, logLevel: "error", maxThreads: threads });
    opened = { model, loaded: await llama.loadModel({ modelPath: model, gpuLayers: 0 }) };
  }
  return opened.loaded;
}

const handlers = {
  async run(job: LlamaBatchJob): Promise<LlamaBatchRun> {
    const { threads, prompts, tokens } = job;
    const longest = Math.max(...prompts.map(({ length }) => length));
    const context = await (await modelOf(job)).createContext({
      contextSize: longest + tokens, sequences: prompts.length, batchSize: longest * prompts.length, threads,
    });
    const window = new DecodeWindow(prompts.length);
    let count = 0;
    const answer = async (prompt: number[]): Promise<number[]> => {
      const answered: number[] = [];
      for await (const token of context.getSequence().evaluate(prompt, { temperature: 0, yieldEogToken: true })) {
        answered.push(token);
        count += 1;
        if (answered.length === 1) window.begun(count);
        if (answered.length === tokens) break;
      }
      window.ended(count);
      return answered;
    };
    const [processor, started] = [processorSeconds(), performance.now()];
    const answers = await Promise.all(prompts.map(answer));
    const seconds = (performance.now() - started) / 1000;
    const used = processorSeconds() - processor;
    await context.dispose();
    const decodeTokensPerSecond = window.tokensPerSecond;
    return { seconds, processor: used, tokens: count, ...(decodeTokensPerSecond !== undefined && { decodeTokensPerSecond }), answers };
  },
};

export type LlamaBatchPeer = typeof handlers;
serve(handlers);
