/** What a run of a decoder on a text prompt is, the same for every engine. */

export interface TextOpen {
  /** Checkpoint folder or GGUF file. */
  model: string;
  threads: number;
  /** Positions to make room for. */
  positions: number;
}

export interface TextJob {
  /** Token ids of the prompt. */
  prompt: number[];
  /** Tokens to decode behind the first one. */
  steps: number;
}

export interface TextRun {
  /** Seconds to the first token, and for all steps behind it. */
  prefill: number;
  decode: number;
  /** Processor seconds of the whole process over both, and over the first. */
  processor: number;
  prefillProcessor: number;
  /** Greedy tokens, [steps + 1]. */
  tokens: number[];
  /** Hash of the last step's best 64 logits and log-sum-exp, where the engine shows them. */
  logits?: string;
}

/** Processor seconds that this process has used. */
export function processorSeconds(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
}
