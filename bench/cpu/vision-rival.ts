/** The same picture through the engine that does it in Node today. It takes minutes, so once is enough. */

import type { LlamaNodePeer, VisionRivalRun } from "./llama-node-peer.js";
import { LoadWatch, readOnce, type Others } from "./machine.js";
import { visionFile, type BenchModel } from "./models.js";
import { Peer } from "./peer.js";
import { installRival } from "./rivals.js";
import { picture, textTokens } from "./vision.js";

export interface VisionRivalFigures extends VisionRivalRun, Others {
  rival: string;
  type: string;
  threads: number;
}

export async function benchVisionRival(model: BenchModel, threads: number): Promise<VisionRivalFigures> {
  const rival = installRival("@fugood/llama.node");
  const [decoder, vision] = [model.decoder, await visionFile(model)];
  await readOnce([decoder, vision]);
  const peer = new Peer<LlamaNodePeer>("./llama-node-peer.ts");
  try {
    // The invented vocabulary merges nothing, so that a letter is a token; a mark begins each text, and one token the prompt.
    const [before, after] = ["a".repeat(textTokens.before - 2), "b".repeat(textTokens.after - 1)];
    const watch = new LoadWatch();
    const run = await peer.ask("picture", { decoder, vision, threads, positions: 1024, picture, before, after });
    return { rival, type: model.type, threads, ...run, ...watch.others(run.processor) };
  } finally {
    await peer.close();
  }
}
