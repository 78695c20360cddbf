/** Every default and every limit that a caller can meet, in one place. */

/** Of `load`. */
export const loadDefaults = {
  device: "auto",
  kvType: "auto",
  weights: "map",
  template: "auto",
  pruning: "none",
  /** Pixels of a picture before it is decoded. */
  maxPixels: 64_000_000,
  /** Bytes of picture embeddings that are remembered. */
  embeddingBytes: 2 ** 28,
  maxBatch: 128,
  maxQueue: 1024,
} as const;

/** Of `generate`. */
export const generateDefaults = {
  n: 1,
  priority: 0,
  maxTokens: 512,
  minTokens: 0,
  temperature: 0,
  topP: 1,
  topK: 0,
  minP: 0,
  seed: 0,
  repetitionPenalty: 1,
  presencePenalty: 0,
  frequencyPenalty: 0,
  autoOrient: false,
  scores: false,
  timeoutMs: 3_600_000,
} as const;

/**
 * Of `batch`, for jobs that name none: a day. Deadlines count from submission, and a batch submits more jobs than run at
 * once, so what one of them waits for the others is no fault of it.
 */
export const batchDefaults = { timeoutMs: 86_400_000 } as const;

/** Of `himap batch`: crashes of the process with an item alone in flight after which it is not tried again. */
export const maxCrashes = 2;

/** Of `plan`. */
export const planDefaults = { images: 1, promptTokens: 64, maxTokens: 512, n: 1 } as const;

/**
 * The KV pool's share of the memory that the weights leave. On a CPU the system gives memory as it is touched, and other
 * programs want some too; a card is the engine's own.
 */
export const kvShare = { cpu: 0.5, cuda: 0.9 } as const;

/** Of the presets that draw at random. */
export const pruningSeed = 0;

export const limits = {
  /** Candidates that a step returns per row: what sampling and log-probabilities can see. */
  candidates: 64,
  /** Messages of one conversation. */
  messages: 4096,
  /** UTF-16 units of text in one request; beyond it, encoding alone would hold up the event loop. */
  characters: 1_000_000,
  images: 256,
  /** Bytes of one encoded picture, and pixels of its longer side. */
  encodedImageBytes: 256_000_000,
  imageSide: 65_536,
  /** Milliseconds between two chunks of a picture's stream. */
  streamStallMs: 30_000,
  /** Stop strings of one request, and the UTF-16 units of each. */
  stops: 64,
  stopCharacters: 1024,
  stopTokenIds: 1024,
  logitBias: 4096,
  cuts: 64,
  temperature: 100,
  penalty: 100,
  threads: 1024,
  batch: 1024,
  queue: 1_000_000,
  samples: 64,
  priority: 100,
  /** Milliseconds of waiting that a level of priority is worth. */
  ageingMs: 10_000,
  /** Jobs of one batch that are taken and not yet read. */
  inFlight: 65_536,
  /** Pages of the KV pool that native code counts. */
  kvPages: 2 ** 30,
  /** Bytes of one line of a job file, and of a results file. */
  jobLineBytes: 8_000_000,
  resultLineBytes: 64_000_000,
  /** UTF-16 units of an item's id. */
  idCharacters: 1024,
  /** Pictures that may be read, or lie decoded, while their requests wait for the engine; and as many requests without any. */
  preparedAhead: 32,
  /** Prefill rows of one step, and images that pass the vision tower in it; the step's first prompt may have more of either. */
  prefillRows: 2048,
  stepImages: 8,
  /** Requests that may go past one for which there is no room yet. */
  overtakes: 16,
  /** Milliseconds that a step runs before it is ended early to let requests join or leave. */
  burstMs: 8,
} as const;
