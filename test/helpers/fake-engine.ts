/** An engine that only knows what a batch asks of it, and `batch`: the text says what becomes of a request. */

import { BatchStream, type BatchEngine } from "../../lib/batch/stream.js";
import { HimapError, type ErrorCode } from "../../lib/errors.cjs";
import { GenerationStream } from "../../lib/generation.js";
import { checkBatch } from "../../lib/request/batch.js";
import type { Batch, BatchOptions, Engine, GenerateOptions, Generation, Job, Message, Result } from "../../lib/types.js";
import { abortedError } from "../../lib/watch.js";

/** `wait N`: answers after N milliseconds. `fail CODE`: fails at once. `hang`, `crash`: never ends by itself. Anything else is answered. */
export class FakeGenerator implements BatchEngine, Pick<Engine, "batch"> {
  running = 0;
  /** Most requests that ran at once. */
  peak = 0;
  started = 0;
  /** Requests at once before ERR_QUEUE_FULL. */
  room = Infinity;
  refused = 0;
  disposed = false;
  readonly texts: string[] = [];

  hasRoom(): boolean {
    return this.running < this.room;
  }

  batch<K>(jobs: Iterable<Job<K>> | AsyncIterable<Job<K>>, options?: BatchOptions): Batch<K> {
    return new BatchStream(this, checkBatch<K>(jobs, options, 4));
  }

  generate(messages: string | Message[], options: GenerateOptions = {}): Generation {
    const text = textOf(messages);
    let timer: NodeJS.Timeout | undefined;
    let over = false;
    const end = (act: () => void): void => {
      if (over) return;
      over = true;
      clearTimeout(timer);
      this.running -= 1;
      act();
    };
    const fail = (error: HimapError): void => end(() => controls.fail(error));
    const controls = GenerationStream.create("fake", (reason) => fail(abortedError("generate", reason)));
    this.running += 1;
    if (this.disposed) fail(new HimapError("ERR_DISPOSED", "generate: the engine was disposed of"));
    else if (options.signal?.aborted) fail(abortedError("generate", options.signal.reason));
    else if (this.running > this.room) {
      this.refused += 1;
      fail(new HimapError("ERR_QUEUE_FULL", "generate: the queue is full"));
    } else {
      this.started += 1;
      this.texts.push(text);
      this.peak = Math.max(this.peak, this.running);
      const [word, argument] = text.split(" ");
      if (word === "fail") fail(new HimapError(argument as ErrorCode, `generate: ${text}`));
      else if (word !== "hang" && word !== "crash") timer = setTimeout(() => end(() => controls.finish(answerTo(text))), word === "wait" ? Number(argument) : 0);
    }
    return controls.generation;
  }
}

function textOf(messages: string | Message[]): string {
  if (typeof messages === "string") return messages;
  const { content } = messages.at(-1)!;
  return typeof content === "string" ? content : content.map((part) => (part.type === "text" ? part.text : "")).join("");
}

/** The answer is the question backwards. */
export function answerTo(text: string): Result {
  return {
    text: [...text].reverse().join(""),
    tokens: Uint32Array.from({ length: 3 }, (_, i) => i),
    finishReason: "stop",
    usage: { promptTokens: 150, imageTokens: 144, imageTokensPerStage: [144, 72, 18], completionTokens: 3, prefills: 1 },
    timings: { queue: 0, decode: 0, vision: 1, prefill: 1, generate: 1 },
    cuts: [],
    flops: { paper: 1, paperUnpruned: 2, prefill: 1, prefillUnpruned: 2 },
    kvBytes: 1,
    images: [],
  };
}
