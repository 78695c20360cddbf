/**
 * The native module, typed in one place; `native/addon/` is its other half. Every number is checked again there.
 * Shapes are row-major; "tokens" are ids, "rows" positions of a batch, "pages" units of the KV pool.
 */

export type NativePhase = "prefill" | "decode";
export type NativeVoters = "instruction" | "image" | "last" | "all";

/** One cut, counts already resolved (`lib/pruning/compile.ts`). Exactly one of `voters` and `keptRanks` is given. */
export interface NativeCut {
  /** Layer before which image tokens are dropped, 0-based. */
  before: number;
  /** Image tokens that survive. */
  keep: number;
  /** Rows whose attention in layer `before - 1` is summed. */
  voters?: NativeVoters;
  /** How heads are joined: the mean over heads, or the largest head's sum. */
  heads?: "mean" | "max";
  /** Factor on each column's score, [image tokens of the sequence]. */
  weights?: Float32Array;
  /** Given survivors: ascending ranks among the image tokens alive before the cut, [keep]. */
  keptRanks?: Uint32Array;
}

export interface NativeStage {
  /** First layer and the layer after the last. */
  first: number;
  end: number;
  /** Tokens that the stage holds after prefill, and the image tokens among them. */
  tokens: number;
  imageTokens: number;
  /** Tokens that the stage's pages must hold at the end: `tokens` + new tokens. */
  capacity: number;
  /** Pages per layer: ceil(capacity / pageTokens). */
  blocks: number;
}

/** What `plan` needs to know of a model: no weights, so that a folder can be costed without being opened. */
export interface PlanJob {
  layers: number;
  /** Prompt tokens, image tokens included. */
  length: number;
  imageTokens: number;
  /** Tokens that may be generated. */
  newTokens: number;
  cuts: { before: number; keep: number }[];
}

export interface PreprocessJob {
  /** RGB or RGBA bytes, [height, width, channels]; copied before the call returns. */
  pixels: Uint8Array;
  width: number;
  height: number;
  channels: 3 | 4;
  geometry: "pad" | "crop";
  /** Side of the square that the model sees, in pixels. */
  side: number;
  /** Per-channel mean and standard deviation of the normalisation, [3]. */
  mean: readonly number[];
  std: readonly number[];
}

export interface Preprocessed {
  /** Normalised input, [3, side, side]. */
  pixels: Float32Array;
  /** The same before normalisation: RGB, [side, side, 3]. */
  bytes: Uint8Array;
}

export interface StepImage {
  /** Normalised input, [3, side, side]; or `features`. */
  pixels?: Float32Array;
  /** Projected image tokens, [imageTokens, hidden]: the tower is skipped. */
  features?: Float32Array;
  /** Return `features`. */
  returnFeatures?: boolean;
  /** Return the tower's patch tokens before the projector. */
  returnVision?: boolean;
}

export interface StepSampling {
  /** 0: the best candidate. */
  temperature: number;
  /** 0: no limit. */
  topK: number;
  topP: number;
  minP: number;
  /** Philox key: 64-bit seed as two words, and the index of the sample among `n`. */
  seed: readonly [low: number, high: number];
  sample: number;
}

export interface StepSequence {
  phase: NativePhase;
  /** New tokens, [rows]; -1 where a row comes from an image. Decode: one row. */
  ids: Int32Array;
  /** RoPE position of each row, [rows]. */
  positions: Int32Array;
  /** Image spans, [n * 3]: first row, rows, index into `StepInput.images`. Prefill only. */
  spans: Int32Array;
  /** Ascending by `before`. Prefill only. */
  cuts: NativeCut[];
  /** Per stage of `plan`: tokens already cached, and page ids [layers of the stage * blocks]. */
  stages: { cached: number; blocks: number; pages: Int32Array }[];
  /** Sparse changes to the logits before candidates are taken: x < 0 ? x * multiply : x / multiply, then + add. */
  adjust?: { tokens: Int32Array; add: Float32Array; multiply: Float32Array };
  /** Tokens that may be produced, bit t of word t / 32, [ceil(vocabulary / 32)]. */
  allowed?: Uint32Array;
  /** Ids that end the sequence's burst. */
  stop: Int32Array;
  /**
   * Most forward passes of this step (a prompt's prefill is one); the native sampler chooses the tokens in between. A
   * sequence leaves the step by itself, after a stop id or its last pass, while the others go on.
   */
  burst: number;
  /**
   * Which candidates come back: of every pass, or only those whose token is left to the caller to choose. Default "all";
   * "last" spares the event loop two typed arrays a token.
   */
  candidates?: "all" | "last";
  sampling: StepSampling;
  /** What a study wants back. Prefill only. */
  study?: { logits?: "all" | "last"; hidden?: boolean; scores?: boolean };
  /** Return the scores that each cut ranked. */
  returnScores?: boolean;
}

export interface StepInput {
  images: StepImage[];
  sequences: StepSequence[];
  /** Pages to copy before any layer runs, [n * 2]: from, to. No page may be written twice, or read and written. */
  copies?: Int32Array;
}

/** The best tokens of one row after adjustment: at most 64, by descending logit, ties by ascending id. */
export interface Candidates {
  ids: Int32Array;
  logits: Float32Array;
  /** log(sum(exp(logit))) over the whole adjusted vocabulary; NaN where a logit was no number. */
  logSumExp: number;
}

/** What one forward pass gave one sequence. */
export interface StepToken {
  /** Index into `StepInput.sequences`. */
  sequence: number;
  /**
   * The token that the native sampler chose: the sequence goes on, unless it is a stop id. Absent where the caller is to
   * choose it: the sequence's last pass of this step (its burst is over, `yield` came, or a logit was no number).
   */
  token?: number;
  /** What it was, or is to be, chosen from. With `candidates: "last"` only where `token` is absent. */
  candidates?: Candidates;
}

export interface StepResult {
  /** Tokens chosen natively: at most `burst - 1`, fewer when a stop id, `yield` or a logit that is no number came. */
  tokens: Int32Array;
  /**
   * One per forward pass, or of the last alone (`StepSequence.candidates`); the last one's token is yet to be chosen,
   * unless a stop id ended the burst.
   */
  candidates: Candidates[];
  /** Per cut: survivors as indices among the sequence's image tokens, ascending; scores of those alive before it. */
  cuts: { kept: Uint32Array; scores?: Float32Array }[];
  /** [rows, vocabulary]; rows = those alive at the end ("all") or 1 ("last"). */
  logits?: Float32Array;
  /** Positions of the rows alive at the end, [rows]. With `study`. */
  positions?: Int32Array;
  /** Residual stream entering each layer and leaving the last, [layers + 1] of [rows alive there, hidden]. */
  hidden?: Float32Array[];
  /** Attention that image tokens receive: per layer [4 voters, heads, image tokens alive], in the order of `NativeVoters`. */
  colsum?: Float32Array[];
  /** Attention mass per layer: [heads, 3 receivers, 3 sources], both in the order prefix, image, text. */
  blocks?: Float32Array[];
}

export interface StepOutput {
  images: { features?: Float32Array; vision?: Float32Array }[];
  sequences: StepResult[];
  /**
   * Milliseconds spent on vision (tower and projector), prefill and decode; `idle`: those that the engine's thread spent
   * between the end of the step before and the start of this one, 0 for the first.
   */
  timings: { vision: number; prefill: number; decode: number; idle: number };
}

/** A device's library, `libhimap-<name>.so`. */
export type BackendName = "cpu" | "cuda";

export interface NativeEngineOptions {
  /** Backend library to open. */
  backend: BackendName;
  /** Threads that compute, the engine's own among them; 0: one per processor that the process may keep busy. */
  threads: number;
  weights: "map" | "copy";
  /** Storage type of the KV pool. */
  kvType: "f32" | "f16" | "bf16";
  /** Size of the KV pool in pages. */
  kvPages: number;
}

export interface NativeEngineInfo {
  threads: number;
  /** Vector path of a CPU (`portable`, `avx2`, `avx512`), name of a card. */
  simd: string;
  /** Bytes of weights used where they lie in the files. */
  mappedBytes: number;
  /** Bytes of memory allocated for weights (copies, converted vectors) and tables. */
  weightBytes: number;
  kvBytes: number;
}

export interface NativeEngine {
  readonly info: NativeEngineInfo;
  /**
   * Runs all sequences one step further, on the engine's own thread: prompts first, then passes of one row per sequence
   * until the last burst is over. Steps run in the order of the calls.
   *
   * `onTokens` gets what the passes gave, in their order, while the step goes on, and all of it before the promise
   * settles. The engine never waits for it: passes that end while JavaScript is busy come together in one call. After the
   * last token of a sequence its pages are not touched by this step any more. What it throws, the promise rejects with
   * once the step has ended, and it is not called again.
   */
  step(input: StepInput, onTokens?: (tokens: StepToken[]) => void): Promise<StepOutput>;
  /**
   * Ends the oldest step that has not ended at its next token: every sequence that still runs makes the pass that is under
   * way (at least one), and its token is left to the caller. Steps behind it run whole; without one, nothing happens.
   */
  yield(): void;
  /** Makes the step that runs, and those that wait, end early with ERR_ABORTED. */
  interrupt(): void;
  /** Ends the thread and frees everything once the running step has ended. Idempotent. */
  close(): Promise<void>;
}

export interface BackendReport {
  name: BackendName;
  usable: boolean;
  /** Why it is not usable. */
  reason?: string;
  path: string;
  /** As `NativeEngineInfo.simd`. */
  detail?: string;
}

/** Memory of a device, in bytes. */
export interface DeviceMemory {
  /** What could be had now. */
  free: number;
  total: number;
}

export interface NativeModule {
  readonly version: string;
  /** The codes of native/core/status.h. */
  readonly errorCodes: string[];
  /** Tokens per KV page (kernels/kv_layout.h). */
  readonly pageTokens: number;
  /** Bytes of one page: K and V of `pageTokens` tokens in one layer. */
  pageBytes(kvHeads: number, headDim: number, kvType: "f32" | "f16" | "bf16"): number;
  /** The stage table of a prompt: pure arithmetic (native/prune/plan.h). */
  plan(job: PlanJob): NativeStage[];
  /**
   * Anonymous memory beside weights and KV, in bytes: converted vectors and tables of the model, and the workspace of a
   * step of `rows` prefill rows and `images` images.
   */
  memoryOf(manifest: string, rows: number, images: number): { vectors: number; workspace: number };
  backends(): BackendReport[];
  /**
   * The memory of a backend's device: a card's own, or what the system and its control group leave this process.
   * `undefined` where it is not known. Asking a card wakes it, which takes a moment.
   */
  deviceMemory(backend: BackendName): DeviceMemory | undefined;
  /** Takes an open file for this process alone; false where another has it. Closing it, or the process's end, gives it back. */
  lockFile(file: { descriptor: number }): boolean;
  /** Resize, pad or crop and normalise on the module's own threads. */
  preprocess(job: PreprocessJob): Promise<Preprocessed>;
  /**
   * Opens a model. `manifest` is the text of lib/checkpoint/manifest.ts. `onProgress` gets bytes read and in all; when
   * it returns false, opening is given up with ERR_ABORTED.
   */
  open(manifest: string, options: NativeEngineOptions, onProgress?: (loaded: number, total: number) => boolean | void): Promise<NativeEngine>;
}
