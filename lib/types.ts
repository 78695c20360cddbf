/** The public types: what users write and what they get. Defaults live in `defaults.ts`, checks in `request/`. */

import type { HimapError } from "./errors.cjs";
import type { CutResult, Pruning } from "./pruning/types.js";
import type { EngineStats } from "./stats/types.js";

/**
 * A picture: encoded bytes (JPEG, PNG, WebP) in any of the usual forms (an ArrayBuffer is what `fetch` gives), a file by
 * path or `file:` URL, raw pixels ([height, width, channels], 8 bits), or the embedding of an earlier `encodeImage`. A bare
 * string is refused, so that a client's text never reads a local file.
 */
export type ImageInput =
  | { path: string }
  | URL
  | Uint8Array
  | ArrayBuffer
  | Blob
  | ReadableStream<Uint8Array>
  | RawImage
  | { embedding: ImageEmbedding };

export interface RawImage {
  /** [height, width, channels], row by row. */
  pixels: Uint8Array;
  width: number;
  height: number;
  channels: 3 | 4;
}

/** A picture as the decoder sees it: projected tokens. Valid for engines with the same `info.fingerprint`. */
export interface ImageEmbedding {
  /** [tokens, width] */
  readonly features: Float32Array;
  readonly tokens: number;
  readonly fingerprint: string;
  readonly image: ImagePlacement;
}

/** `<image>` and the like in a text are plain text: only an image part is a picture, and the template places it. */
export type Part = { type: "text"; text: string } | { type: "image"; image: ImageInput };

export interface Message {
  role: "system" | "user" | "assistant";
  /** Text, or parts; images stand before the texts in the prompt whatever their place here, as LLaVA was trained. */
  content: string | readonly Part[];
}

export type ImageAspectRatio = "pad" | "crop";
export type TemplateName = "vicuna_v1" | "llava_v1" | "hf";

export interface LoadProgress {
  phase: "read" | "warmup";
  /** Bytes. */
  loaded: number;
  total: number;
}

export interface LoadOptions {
  /**
   * Where to run. `auto` takes the best device there is (`doctor()` says why not a better one); a device that is named is
   * taken or refused with ERR_NO_BINARY, never replaced. Default `auto`.
   */
  device?: "auto" | "cpu" | "cuda" | undefined;
  /** Storage type of the KV cache. Default `f32` on a CPU; on a card the type that it computes in. */
  kvType?: "auto" | "f32" | "f16" | "bf16" | undefined;
  /** Threads that the CPU engine computes on, its own among them, 1 to 1024. Default: one per processor that the process may keep busy. */
  threads?: number | undefined;
  /** `map` uses the weights where they lie in the files; `copy` reads them into memory, for files that may be truncated while the engine runs. Default `map`. */
  weights?: "map" | "copy" | undefined;
  /** How a picture becomes the square that the model sees. Default: what the checkpoint's own files say. */
  imageAspectRatio?: ImageAspectRatio | undefined;
  /** Prompt template. Default `auto`: what the checkpoint's layout implies. */
  template?: "auto" | TemplateName | undefined;
  memory?: MemoryOptions | undefined;
  /** Sequences that run at once, 1 to 1024; fewer where the KV pool holds fewer. Default 128. */
  maxBatch?: number | undefined;
  /** Requests that may wait for the engine, up to a million; one more fails with ERR_QUEUE_FULL. Default 1024. */
  maxQueue?: number | undefined;
  /** Pruning of requests that name none. Default `none`. */
  pruning?: Pruning | undefined;
  /** Largest picture accepted, in pixels, before it is decoded. Default 64,000,000. */
  maxPixels?: number | undefined;
  /** Called as weights are read. Default: nobody is told. */
  onProgress?: ((progress: LoadProgress) => void) | undefined;
  /** Ends the loading with ERR_ABORTED, and leaves nothing behind. */
  signal?: AbortSignal | undefined;
  /** Gets what an operator may want to know, such as why a better device was passed over. Default: nobody is told. */
  logger?: ((level: "debug" | "info" | "warn" | "error", message: string) => void) | undefined;
}

export interface MemoryOptions {
  /**
   * Bytes of the KV pool, which all running sequences share. Default `auto`: half of the memory that the weights leave
   * free on a CPU, where only what is used is taken, nine tenths of it on a card; at least one prompt of the model's full
   * length (on a card that says what it has, a page for each layer), at most `maxBatch` such prompts.
   */
  kvBytes?: number | "auto" | undefined;
  /**
   * Most bytes of picture embeddings that are remembered, the least recently used forgotten first; 0 remembers none. The
   * same picture again then skips decoding, resizing and the vision tower, and its answer is the same to the bit. One takes
   * 4 bytes * image tokens * width, with LLaVA-1.5-7B 9.4 MB. Default 268,435,456 (256 MiB).
   */
  embeddingBytes?: number | undefined;
}

export interface GenerateOptions {
  /**
   * Answers to draw from one prefill of the prompt, 1 to 64 and at most the engine's `maxBatch`. Default 1. Each is drawn
   * with the seed and its own index, so at temperature 0 all are equal. Not with `cache: "redecide"`.
   */
  n?: number | undefined;
  /**
   * Requests of a higher priority start first, -100 to 100. Default 0. A level is worth ten seconds of waiting, so that
   * every request gets its turn.
   */
  priority?: number | undefined;
  /** Most tokens of the answer, its end token included; fewer where the model has fewer positions left. Default 512. */
  maxTokens?: number | undefined;
  /** The end-of-sequence token and stop ids are not produced before. Default 0. */
  minTokens?: number | undefined;
  /** 0 (default) is greedy; up to 100. */
  temperature?: number | undefined;
  /** Keep the smallest set of tokens whose probabilities reach this sum, from 0, the best token alone, to 1 (default), all. */
  topP?: number | undefined;
  /** Keep this many best tokens; 0 (default): no limit. Sampling looks at the best 64 candidates at most. */
  topK?: number | undefined;
  /** Drop tokens below this share of the best one's probability. Default 0. */
  minP?: number | undefined;
  /** Seed of the sampler, an integer of up to 53 bits. Default 0. The same request with the same seed gives the same tokens. */
  seed?: number | undefined;
  /** Divides the positive and multiplies the negative logits of tokens seen in prompt and answer, 0.01 to 100. Default 1. */
  repetitionPenalty?: number | undefined;
  /** Subtracted once from the logits of tokens already answered, -100 to 100. Default 0. */
  presencePenalty?: number | undefined;
  /** Subtracted per occurrence from the logits of tokens already answered, -100 to 100. Default 0. */
  frequencyPenalty?: number | undefined;
  /** Added to the logits of given ids, -10,000 to 10,000 each; -Infinity forbids one. At most 4,096 ids. Default: none. */
  logitBias?: Record<number, number> | undefined;
  /**
   * Texts that end the answer; they are not part of it, though their tokens are among `tokens`. At most 64, of 1 to 1,024
   * UTF-16 units. Default: none.
   */
  stop?: string | readonly string[] | undefined;
  /** Ids that end the answer, beside the model's own; at most 1,024. Default: none. */
  stopTokenIds?: readonly number[] | undefined;
  /** Return this many best alternatives with each token's log-probability, 0 to 64. Default: none. */
  logprobs?: number | undefined;
  /** What is cut from the picture's tokens, and where. Default: the engine's, `none` unless `load` was told otherwise. */
  pruning?: Pruning | undefined;
  /** How a picture becomes the square that the model sees. Default: the engine's. */
  imageAspectRatio?: ImageAspectRatio | undefined;
  /** Turn the picture as its EXIF orientation says. Default false, as the models were trained. */
  autoOrient?: boolean | undefined;
  /** Return the scores that each cut ranked. Default false. */
  scores?: boolean | undefined;
  /** Ends the request with ERR_ABORTED: `cause` is its reason, `partial` what was generated before. */
  signal?: AbortSignal | undefined;
  /** Milliseconds from the call after which the request fails with ERR_TIMEOUT. Default 3,600,000, one hour; in a batch one day. */
  timeoutMs?: number | undefined;
}

export interface Usage {
  /** Tokens of the prompt, image tokens included. */
  promptTokens: number;
  imageTokens: number;
  /** Image tokens that each stage holds; stages are the runs of layers between cuts. */
  imageTokensPerStage: number[];
  /** Tokens produced, all samples together. */
  completionTokens: number;
  /** Prefills that were run: one, or with `cache: "redecide"` one for each token. */
  prefills: number;
}

/** A rectangle on the source picture, in its pixels. */
export interface Rect {
  x: number;
  y: number;
  width: number;
  height: number;
}

export interface ImagePlacement {
  /** Size of the source picture. */
  width: number;
  height: number;
  /** Patches that the model sees. */
  grid: [rows: number, columns: number];
  /** Where the grid lies on the source; with `pad` it is larger than the picture, with `crop` a part of it. */
  placed: Rect;
}

/** With `cache: "redecide"` the sums over all prefills, one per token, each a token longer; images are encoded once. */
export interface Flops {
  /** HiMAP's formula (equation 10): multiply-accumulates of image tokens alone, 4nd^2 + 2n^2d + 2ndm per layer. */
  paper: number;
  paperUnpruned: number;
  /** Whole prefill: two operations per multiply-accumulate, gated FFN, causal attention over all tokens, LM head on one row, vision tower and projector. */
  prefill: number;
  prefillUnpruned: number;
}

/**
 * A token of the answer. `logprob` is a natural logarithm, of the whole vocabulary's distribution after penalties, bias and
 * `minTokens`, before temperature, top-k, top-p and min-p.
 */
export interface TokenLogprob {
  id: number;
  /** The token's own text; a byte that is no character by itself is `<0xNN>`. */
  text: string;
  logprob: number;
  /** As many of the best as `logprobs` asked for, best first; the token itself only where it is one of them. */
  top: { id: number; text: string; logprob: number }[];
}

/** `stop`: the end-of-sequence token, one of `stopTokenIds`, or a `stop` string. `length`: `maxTokens`, or no position left. */
export type FinishReason = "stop" | "length";

/** One of the `n` answers of a request. */
export interface SampleResult {
  /** Without the text of the token or the stop string that ended it. */
  text: string;
  /** Every token produced, the one that ended the answer included. */
  tokens: Uint32Array;
  finishReason: FinishReason;
  /** With `logprobs`: one for each of `tokens`. */
  logprobs?: TokenLogprob[];
}

/**
 * A whole answer. JSON has no typed arrays: to write one, turn them into lists with
 * `JSON.stringify(result, (_, part) => (ArrayBuffer.isView(part) ? Array.from(part) : part))`.
 */
export interface Result {
  /** The answer, or the first of `n`, without the text of the token or the stop string that ended it. */
  text: string;
  /** Every token produced, the one that ended the answer included. */
  tokens: Uint32Array;
  finishReason: FinishReason;
  usage: Usage;
  /**
   * Milliseconds: waiting, decoding pictures, vision tower and projector, (first) prefill, all tokens after the first.
   * Vision and prefill are those of the step that the request shared with others.
   */
  timings: Record<"queue" | "decode" | "vision" | "prefill" | "generate", number>;
  /** What each cut of the policy kept, in the order of layers; none without pruning or without a picture. */
  cuts: CutResult[];
  /** What prefill took, and what it would have taken unpruned. */
  flops: Flops;
  /** KV bytes that the request's pages took. */
  kvBytes: number;
  /** Of each picture, in the order of the messages: its size, and where the model's patches lie on it. */
  images: ImagePlacement[];
  /** With `logprobs`: one for each of `tokens`. */
  logprobs?: TokenLogprob[];
  /** With `n` above 1: all answers, the first included. */
  samples?: SampleResult[];
}

/** A result on its way, `partial` of an error: without the reasons of those answers that have not ended. */
export type PartialResult = Omit<Result, "finishReason" | "samples"> & {
  samples?: (Omit<SampleResult, "finishReason"> & { finishReason?: FinishReason })[];
};

/** A piece of the answer. */
export interface Delta {
  /** Which of the request's `n` answers it belongs to, from 0. */
  sample: number;
  /** Whole characters. All pieces of an answer joined are its `text`; the last one may be empty. */
  text: string;
  /** Tokens that this piece completes. */
  tokens: number[];
}

/**
 * An answer under way: a promise of the `Result`, and an iterable of its pieces as they come; both work on the same object.
 * Leaving the loop early aborts quietly. A generation that nobody awaits raises no unhandled rejection.
 */
export interface Generation extends AsyncIterable<Delta>, Promise<Result>, AsyncDisposable {
  readonly id: string;
  /** Ends the generation; awaiting it then rejects with ERR_ABORTED (`cause` the reason, `partial` the result so far). */
  abort(reason?: unknown): void;
  /** The text alone, of the first of `n` answers. */
  textStream(): ReadableStream<string>;
}

/** One request of `Engine.batch`, under a key of yours that its outcome carries. */
export interface Job<K> {
  key: K;
  messages: string | readonly Message[];
  options?: GenerateOptions | undefined;
}

/** How a job ended. */
export type Outcome<K> = { key: K; ok: true; value: Result } | { key: K; ok: false; error: HimapError };

/** A job that names no `timeoutMs` has 86,400,000, one day: it counts from submission, and most jobs in flight wait for others. */
export interface BatchOptions {
  /** Outcomes in the order of the jobs, instead of as they finish; a slow one then holds up those behind it. Default false. */
  ordered?: boolean | undefined;
  /**
   * Jobs taken from the input whose outcomes have not been read yet, at most, 1 to 65,536. Default: the engine's `maxBatch`,
   * and as many as it prepares ahead.
   */
  maxInFlight?: number | undefined;
  /** Ends the jobs under way, each with ERR_ABORTED, and then the batch. */
  signal?: AbortSignal | undefined;
}

/** Of a batch so far. */
export interface BatchStats {
  /** Jobs that ended well, and those that failed. */
  done: number;
  failed: number;
  /** Jobs under way, and outcomes that wait to be read. */
  inFlight: number;
  unread: number;
  /** Of the jobs done: tokens of prompts (image tokens included) and of answers. */
  promptTokens: number;
  completionTokens: number;
  /** Of the jobs done: image tokens before the first cut, and those left behind the last one. */
  imageTokens: number;
  keptImageTokens: number;
  /** Since the first outcome was asked for, until the last one had been read. */
  elapsedMs: number;
  requestsPerSecond: number;
  completionTokensPerSecond: number;
}

/**
 * Outcomes of many jobs, to be iterated once. Nothing runs before the first is asked for. A job that fails is an outcome
 * and ends nothing else; what rejects is the end of the whole: a signal (ERR_ABORTED), an input that cannot be read
 * (ERR_INVALID_ARG), or an engine that is gone (ERR_DISPOSED, ERR_DEVICE_LOST), each after the outcomes of what was under
 * way. Leaving the loop early aborts what runs and closes the input.
 */
export interface Batch<K> extends AsyncIterable<Outcome<K>> {
  readonly stats: BatchStats;
}

export interface ForwardInput {
  /** Token ids; -200 stands where an image goes, once per image. */
  ids: ArrayLike<number>;
  /** Normalised pixels per image, [3, side, side]. */
  pixels?: readonly Float32Array[] | undefined;
  /** Projected tokens per image, [image tokens, hidden], instead of pixels. */
  features?: readonly Float32Array[] | undefined;
}

export interface ForwardOptions {
  /** Logits of every row alive at the end, or of the last. Default `last`. */
  logits?: "all" | "last" | undefined;
  /** Return the residual stream. */
  hidden?: boolean | undefined;
  /** Return column sums and block sums of every layer, and the scores of each cut. */
  scores?: boolean | undefined;
  /** Return what the vision tower and the projector made of the images. */
  images?: boolean | undefined;
  /** Default: the engine's, as with `generate`. */
  pruning?: Pruning | undefined;
  /** Default: the engine's. Of no account for `pixels` and `features`. */
  imageAspectRatio?: ImageAspectRatio | undefined;
  signal?: AbortSignal | undefined;
}

/** As in `GenerateOptions`. */
export type EncodeOptions = Pick<GenerateOptions, "imageAspectRatio" | "autoOrient" | "signal">;

/** Voters of `ForwardResult.colsum`, in order. */
export type Voters = readonly ["instruction", "image", "last", "all"];

export interface ForwardResult {
  /** The prompt, [rows]; -1 at image rows. */
  ids: Int32Array;
  /** [rows, vocabulary] of the rows alive at the end, or of the last one. */
  logits: Float32Array;
  /** Original positions of the rows alive at the end, [rows]. */
  positions: Int32Array;
  cuts: CutResult[];
  /** Entering each layer and leaving the last: [layers + 1] of [rows alive there, hidden]. */
  hidden?: Float32Array[];
  /** Per layer: attention that each image token alive there receives, [4 voters, heads, image tokens]. */
  colsum?: Float32Array[];
  /** Per layer: attention mass, [heads, 3 receivers, 3 sources], prefix, image and text (after the last image). */
  blocks?: Float32Array[];
  /** Tower output without the class row, [image tokens, vision width], per image. */
  vision?: Float32Array[];
  /** Projected tokens, [image tokens, hidden], per image. */
  features?: Float32Array[];
}

/** A run of layers between two cuts, all of which hold the same tokens. */
export interface Stage {
  /** 0-based. */
  firstLayer: number;
  /** The layer behind the last. */
  endLayer: number;
  /** Tokens that each layer holds after prefill, and the image tokens among them. */
  tokens: number;
  imageTokens: number;
  /** Of all its layers, in whole pages, with room for the tokens of the answer. */
  kvBytes: number;
}

export interface PlanJob {
  /** Default 1. */
  images?: number | undefined;
  /** Text tokens of the prompt. Default 64. */
  promptTokens?: number | undefined;
  /** Default 512. */
  maxTokens?: number | undefined;
  /** Answers to the one prompt. Default 1. */
  n?: number | undefined;
  /** Default: the engine's. */
  pruning?: Pruning | undefined;
}

export interface Plan {
  /** Of one answer. */
  stages: Stage[];
  /** Of all answers: what they share counts once. */
  kvBytes: number;
  flops: Flops;
  /** Whether the engine's KV pool and the model's positions can hold it. */
  fits: boolean;
}

/** What an engine runs, and on what. */
export interface ModelInfo {
  /** Absolute path. */
  folder: string;
  /** `llava`. */
  family: string;
  /**
   * Identity of the configuration files, the vocabulary, the weights (names, shapes and 4 KiB of each tensor) and the package's
   * version: what an embedding or a resumed job must match.
   */
  fingerprint: string;
  /** The decoder: layers, width of a token, heads of queries and of keys and values, width of a head, width of the FFN. */
  layers: number;
  hidden: number;
  heads: number;
  kvHeads: number;
  headDim: number;
  ffn: number;
  /** Ids that there are, from 0 on. */
  vocabulary: number;
  /** Most tokens of prompt and answer together, image tokens included. */
  maxPositions: number;
  /** The vision tower; side of the square that it sees and of a patch in pixels. */
  vision: { layers: number; hidden: number; heads: number; ffn: number; imageSize: number; patchSize: number };
  /** Tokens of one image. */
  imageTokens: number;
  /** Weights that the engine uses, a shared tensor counted once. */
  parameters: number;
  /** Types in which the files hold them, such as `F16`. */
  weightTypes: string[];
  /** `cpu` or `cuda`. */
  device: string;
  /** Vector path of a CPU (`portable`, `avx2`, `avx512`), or name of the card. */
  simd: string;
  /** Threads that compute. */
  threads: number;
  /** Storage type of the KV cache: `f32`, `f16` or `bf16`. */
  kvType: string;
  /** What requests get that name none. */
  imageAspectRatio: ImageAspectRatio;
  template: TemplateName;
  /** Bytes: weights used where they lie in the files, memory taken for weights and tables beside them, and the KV pool. */
  memory: { mappedBytes: number; weightBytes: number; kvBytes: number };
}

export interface Engine extends AsyncDisposable {
  readonly info: ModelInfo;
  readonly disposed: boolean;
  /**
   * Answers a conversation; a bare string is one user message without a picture. Never throws: the generation rejects, or
   * throws where it is iterated.
   * @throws HimapError, by way of the generation: ERR_INVALID_ARG; ERR_CONTEXT_OVERFLOW for a prompt beyond the model's
   *   positions; ERR_BAD_IMAGE, ERR_UNSUPPORTED_FILE, ERR_TOO_LARGE; ERR_QUEUE_FULL; ERR_TIMEOUT and ERR_ABORTED, with `partial`;
   *   ERR_OUT_OF_MEMORY; ERR_DEVICE_LOST; ERR_DISPOSED
   */
  generate(messages: string | readonly Message[], options?: GenerateOptions): Generation;
  /**
   * Outcomes of many conversations, to be iterated: nothing runs before, and awaiting it runs nothing. Jobs are taken as
   * outcomes are read (back-pressure).
   * @throws HimapError ERR_INVALID_ARG, ERR_DISPOSED
   */
  batch<K>(jobs: Iterable<Job<K>> | AsyncIterable<Job<K>>, options?: BatchOptions): Batch<K>;
  /**
   * One prefill, for study and tests. Like `encodeImage`, it fails with ERR_TIMEOUT after an hour.
   * @throws HimapError As `generate`, without `partial`.
   */
  forward(input: string | readonly Message[] | ForwardInput, options?: ForwardOptions): Promise<ForwardResult>;
  /**
   * A picture as the decoder sees it, to be asked about many times: `{ type: "image", image: { embedding } }`.
   * @throws HimapError As `forward`.
   */
  encodeImage(image: ImageInput, options?: EncodeOptions): Promise<ImageEmbedding>;
  /**
   * Ids of a text, without BOS. Text never becomes a special token.
   * @throws HimapError ERR_INVALID_ARG, also beyond a million UTF-16 units; ERR_DISPOSED
   */
  tokenize(text: string): Uint32Array;
  /**
   * The text of ids.
   * @throws HimapError ERR_INVALID_ARG for what is no id of the vocabulary, ERR_DISPOSED
   */
  detokenize(ids: ArrayLike<number>): string;
  /**
   * What a request would cost: nothing is run.
   * @throws HimapError ERR_INVALID_ARG, ERR_DISPOSED
   */
  plan(job?: PlanJob): Plan;
  /** What stands where at this moment, and what has been done so far. Can be asked at any time, after `dispose` too. */
  stats(): EngineStats;
  /** The same, and histograms of times, as Prometheus scrapes it: `text/plain; version=0.0.4; charset=utf-8`. */
  metrics(): string;
  /** Takes no more requests (they fail with ERR_DISPOSED) and resolves when those accepted have ended. Call `dispose` then. */
  drain(): Promise<void>;
  /** Ends everything with ERR_ABORTED (`cause` an ERR_DISPOSED), waits for the step under way, frees everything. Idempotent. */
  dispose(): Promise<void>;
}

/** What `doctor` finds. Sizes are in bytes. */
export interface DoctorReport {
  /** Of this package. */
  version: string;
  /** As npm names it, e.g. `linux-x64`. */
  platform: string;
  /** Version of Node. */
  node: string;
  /** Operating system, and version of glibc where that is the C library. */
  system: { kernel: string; glibc?: string };
  /** The native binary in use and why this one, or why there is none. */
  binary: { path?: string; why?: string; error?: string };
  /** sharp, which decodes pictures, with its libvips; or why it does not load. */
  images: { sharp?: string; libvips?: string; error?: string };
  /** Each backend: its library, whether it can be used, if not why (and what to do), if so on what (vector path, card). */
  devices: { name: string; usable: boolean; path: string; reason?: string; hint?: string; detail?: string }[];
  /** NVIDIA's driver and the cards that it has; cards on the bus, driver or not. As the kernel tells. */
  nvidia: { driver?: string; cards: string[]; onBus: number };
  /** What `device: "auto"` takes. */
  device?: string;
  /** `limit`: what this process may use, where that is less (a container). */
  memory: { total: number; free: number; limit?: number };
  /** Processors that this process may use, and what they are. */
  processors: number;
  processor: string;
}

export type { HimapError };
export type * from "./pruning/types.js";
export type { EngineStats, TraceMessages, TraceRequest } from "./stats/types.js";
