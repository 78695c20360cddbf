/** The engine that users hold: each public call is checked, made a work, and handed to the runner. */

import { BatchStream } from "./batch/stream.js";
import { adoptError } from "./binding/load.js";
import { CallSite } from "./call-site.js";
import { batchDefaults, generateDefaults, limits } from "./defaults.js";
import { HimapError } from "./errors.cjs";
import { GenerationStream, type GenerationControls } from "./generation.js";
import { demandOf, type Model } from "./model.js";
import { countFlops } from "./pruning/flops.js";
import { checkBatch } from "./request/batch.js";
import { checkGenerate } from "./request/generate.js";
import { hasImageMark } from "./request/messages.js";
import { checkEncode, checkForward, checkIds, checkPlan, checkText } from "./request/study.js";
import { publicStage } from "./result.js";
import { Answer } from "./schedule/answer.js";
import type { Observer, RunnerState } from "./schedule/observer.js";
import { Runner } from "./schedule/runner.js";
import { ForwardStudy, ImageEncoding, type Settle } from "./schedule/study.js";
import type { Work } from "./schedule/work.js";
import { metricsText } from "./stats/prometheus.js";
import { Recorder } from "./stats/recorder.js";
import type {
  Batch, BatchOptions, EncodeOptions, Engine, EngineStats, ForwardInput, ForwardOptions, ForwardResult, GenerateOptions, Generation,
  ImageEmbedding, ImageInput, Job, Message, ModelInfo, PartialResult, Plan, PlanJob,
} from "./types.js";
import { abortedError, timeoutError, watch } from "./watch.js";

let lastId = 0;

export class ModelEngine implements Engine {
  readonly info: ModelInfo;
  readonly #model: Model;
  readonly #runner: Runner;
  readonly #recorder: Recorder;
  #disposing: Promise<void> | undefined;

  /** @param observer is told of everything too, after the statistics */
  constructor(model: Model, info: ModelInfo, observer?: Observer) {
    this.info = info;
    this.#model = model;
    this.#recorder = new Recorder(
      {
        fingerprint: model.facts.fingerprint,
        pageBytes: model.pageBytes,
        embeddings: model.embeddings,
        state: () => this.#runner.state,
        now: () => model.clock.now(),
      },
      observer,
    );
    this.#runner = new Runner(model.engine, {
      pages: model.poolPages, maxBatch: model.maxBatch, maxQueue: model.maxQueue, clock: model.clock, toError: adoptError, observer: this.#recorder,
    });
  }

  /** What waits and what runs at this moment. */
  get state(): RunnerState {
    return this.#runner.state;
  }

  get disposed(): boolean {
    return this.#disposing !== undefined;
  }

  generate(messages: string | readonly Message[], options?: GenerateOptions): Generation {
    return this.#answer(messages, options, new CallSite(this.generate));
  }

  /** @param timeoutMs where the options name none; left out, that of `generate` */
  #answer(messages: string | readonly Message[], options: GenerateOptions | undefined, site: CallSite, timeoutMs?: number): Generation {
    let answer: Answer | undefined;
    let unwatch: (() => void) | undefined;
    const onAbort = (reason: unknown): void => end((partial) => abortedError("generate", reason, partial));
    const id = nextId("generation");
    const controls = GenerationStream.create(id, onAbort);
    const settled: Pick<GenerationControls, "push" | "finish" | "fail"> = {
      push: controls.push,
      finish(result) {
        unwatch?.();
        controls.finish(result);
      },
      fail(error) {
        unwatch?.();
        controls.fail(site.mark(error));
      },
    };
    const end = (makeError: (partial: PartialResult | undefined) => HimapError): void => {
      if (answer) this.#runner.cancel(answer, makeError(answer.partial()));
    };
    try {
      this.#checkAlive("generate");
      const request = checkGenerate(messages, options, this.#model.facts, timeoutMs);
      this.#warnOfMarks("generate", request.messages);
      if (request.signal?.aborted) throw abortedError("generate", request.signal.reason);
      answer = new Answer(id, this.#model, request, settled);
      unwatch = watch(request.signal, request.timeoutMs, {
        abort: onAbort,
        timeout: (timeoutMs) => end((partial) => timeoutError("generate", timeoutMs, partial)),
      }, this.#model.clock);
      this.#runner.submit(answer);
    } catch (cause) {
      settled.fail(adoptError(cause));
    }
    return controls.generation;
  }

  batch<K>(jobs: Iterable<Job<K>> | AsyncIterable<Job<K>>, options?: BatchOptions): Batch<K> {
    this.#checkAlive("batch");
    const request = checkBatch<K>(jobs, options, this.#model.maxBatch + limits.preparedAhead);
    // What fails is the caller's batch: its line is the one to name.
    const site = new CallSite(this.batch);
    return new BatchStream({
      generate: (messages, given) => this.#answer(messages, given, site, batchDefaults.timeoutMs),
      hasRoom: () => this.#runner.hasRoom,
    }, request);
  }

  async forward(input: string | readonly Message[] | ForwardInput, options?: ForwardOptions): Promise<ForwardResult> {
    this.#checkAlive("forward");
    const request = checkForward(input, options, this.#model.facts);
    if ("messages" in request.prompt) this.#warnOfMarks("forward", request.prompt.messages);
    return this.#once("forward", request.signal, (settle) => new ForwardStudy(nextId("forward"), this.#model, request, settle));
  }

  async encodeImage(image: ImageInput, options?: EncodeOptions): Promise<ImageEmbedding> {
    this.#checkAlive("encodeImage");
    const request = checkEncode(image, options, this.#model.facts);
    return this.#once("encodeImage", request.signal, (settle) => new ImageEncoding(nextId("encoding"), this.#model, request, settle));
  }

  tokenize(text: string): Uint32Array {
    this.#checkAlive("tokenize");
    return Uint32Array.from(this.#model.tokenizer.encode(checkText(text)));
  }

  detokenize(ids: ArrayLike<number>): string {
    this.#checkAlive("detokenize");
    return this.#model.tokenizer.decode(checkIds(ids, this.#model.facts.vocabulary));
  }

  plan(job?: PlanJob): Plan {
    this.#checkAlive("plan");
    const { images, promptTokens, maxTokens, n, cuts, cache } = checkPlan(job, this.#model.facts);
    const { checkpoint, pageBytes, poolPages, facts } = this.#model;
    const imageTokens = images * facts.imageTokens;
    const length = promptTokens + imageTokens;
    const demand = demandOf(this.#model, { length, imageTokens, newTokens: maxTokens, samples: n, cuts });
    return {
      stages: demand.stages.map((stage) => publicStage(stage, pageBytes)),
      kvBytes: demand.pages * pageBytes,
      flops: countFlops(checkpoint.config, {
        textTokens: promptTokens, imageTokens, encodedImages: images, cuts, prefills: cache === "redecide" ? maxTokens : 1,
      }),
      fits: demand.pages <= poolPages && length + maxTokens <= checkpoint.config.maxPositions,
    };
  }

  drain(): Promise<void> {
    return this.#runner.drain(drainingError);
  }

  stats(): EngineStats {
    return this.#recorder.stats();
  }

  metrics(): string {
    return metricsText(this.stats(), { step: this.#recorder.stepSeconds, firstToken: this.#recorder.firstTokenSeconds });
  }

  dispose(): Promise<void> {
    this.#disposing ??= (async () => {
      const disposed = disposedError("engine");
      await this.#runner.close(() => disposedError("engine"), (work) => abortedError(work.kind, disposed, work.partial?.()));
      await this.#model.engine.close();
    })();
    return this.#disposing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose();
  }

  /** Runs a work of one step as a promise. */
  #once<T>(what: string, signal: AbortSignal | undefined, make: (settle: Settle<T>) => Work): Promise<T> {
    if (signal?.aborted) throw abortedError(what, signal.reason);
    return new Promise((resolve, reject) => {
      const work = make({
        resolve(value) {
          unwatch();
          resolve(value);
        },
        reject(error) {
          unwatch();
          reject(error);
        },
      });
      const unwatch = watch(signal, generateDefaults.timeoutMs, {
        abort: (reason) => this.#runner.cancel(work, abortedError(what, reason)),
        timeout: (timeoutMs) => this.#runner.cancel(work, timeoutError(what, timeoutMs)),
      }, this.#model.clock);
      this.#runner.submit(work);
    });
  }

  #warnOfMarks(what: string, messages: readonly Message[]): void {
    if (!hasImageMark(messages)) return;
    this.#model.logger("warn", `${what}: "<image>" in a text is read as plain text; a picture is a part { type: "image", image }`);
  }

  #checkAlive(what: string): void {
    if (this.disposed) throw disposedError(what);
  }
}

function nextId(what: string): string {
  return `${what}-${++lastId}`;
}

function disposedError(what: string): HimapError {
  return new HimapError("ERR_DISPOSED", `${what}: the engine was disposed of`);
}

function drainingError(): HimapError {
  return new HimapError("ERR_DISPOSED", "engine: no more requests are taken, since drain() was called");
}
