/** Opens a checkpoint folder as an engine. */

import { adoptError, loadNative } from "./binding/load.js";
import type { BackendName, NativeEngine, NativeModule } from "./binding/native.js";
import { CallSite } from "./call-site.js";
import { Faults } from "./check.js";
import { openCheckpoint, type Checkpoint } from "./checkpoint/index.js";
import { systemClock } from "./clock.js";
import { limits } from "./defaults.js";
import { chooseDevice } from "./device.js";
import { ModelEngine } from "./engine.js";
import { HimapError } from "./errors.cjs";
import { llava } from "./families/llava.js";
import { EmbeddingCache } from "./image/embedding-cache.js";
import { preparePicture } from "./image/picture.js";
import { rememberEmbeddings } from "./image/remember.js";
import type { Model } from "./model.js";
import { poolOf, type Pool } from "./pool.js";
import { checkPruning } from "./pruning/check.js";
import { checkLoad, type LoadRequest } from "./request/load.js";
import { plural } from "./text.js";
import { checkAgreement, loadTokenizer } from "./tokenizer/index.js";
import type { Engine, LoadOptions, ModelInfo } from "./types.js";
import { abortedError, watch } from "./watch.js";

/**
 * Opens a checkpoint folder, as it is published, for running.
 * @param folder path of the folder, or its `file:` URL; nothing is fetched
 * @throws HimapError
 * - ERR_INVALID_ARG: the folder or an option is not as documented; all faults of the options in one error.
 * - ERR_BAD_CHECKPOINT, ERR_TENSOR_MISSING, ERR_TENSOR_EXTRA, ERR_TENSOR_SHAPE, ERR_TOO_LARGE: the files contradict each other.
 * - ERR_UNSUPPORTED_MODEL, ERR_UNSUPPORTED_FILE: another model, or another file format.
 * - ERR_NO_BINARY: no native binary for this machine; ERR_OUT_OF_MEMORY: not enough memory.
 * - ERR_ABORTED: `options.signal` fired.
 */
export async function load(folder: string | URL, options?: LoadOptions): Promise<Engine> {
  const site = new CallSite(load);
  try {
    return await loadWith(loadNative, checkLoad(folder, options));
  } catch (cause) {
    throw site.mark(adoptError(cause));
  }
}

/** Opens a checked request on a native module. */
export async function loadWith(nativeOf: () => NativeModule, request: LoadRequest): Promise<Engine> {
  if (request.signal?.aborted) throw abortedError("load", request.signal.reason);
  const native = nativeOf();
  const checkpoint = await openCheckpoint(request.folder, { signal: request.signal });
  const faults = new Faults();
  checkPruning(request.pruning, "pruning", checkpoint.config.layers, faults);
  faults.raise("load");
  const tokenizer = await loadTokenizer(request.folder);
  if (request.signal?.aborted) throw abortedError("load", request.signal.reason);
  checkAgreement(tokenizer, { vocabulary: checkpoint.config.vocabulary, tokens: checkpoint.tokens }, llava.imageToken);
  const device = chooseDevice(request.device, native, request.logger);
  const pool = poolOf(request, checkpoint, native, device);
  request.logger("debug", `opening ${checkpoint.tensors.length} tensors of ${checkpoint.files.length} files`);
  const engine = await openNative(native, checkpoint, request, pool, device);
  request.logger("info", `${checkpoint.folder}: ${plural(engine.info.threads, "thread")}, ${engine.info.simd}, ${plural(pool.poolPages, "KV page")}`);
  const model = modelOf(request, checkpoint, tokenizer, native, engine, pool);
  return new ModelEngine(model, infoOf(model, device));
}

/**
 * Opens the native engine. Native code gives up where `report` returns false; an abort does not wait for it, and an
 * engine that still comes is closed.
 */
async function openNative(
  native: NativeModule, checkpoint: Checkpoint, request: LoadRequest, { kvType, poolPages }: Pool, backend: BackendName,
): Promise<NativeEngine> {
  const { signal, onProgress, threads, weights } = request;
  let thrown: { cause: unknown } | undefined;
  const report = (loaded: number, total: number): boolean => {
    try {
      if (!thrown && !signal?.aborted) onProgress?.({ phase: "read", loaded, total });
    } catch (cause) {
      thrown = { cause };
    }
    return !thrown && !signal?.aborted;
  };
  const opening = native.open(checkpoint.manifest, { backend, threads, weights, kvType, kvPages: poolPages }, report);
  let unwatch: (() => void) | undefined;
  const aborted = new Promise<never>((_, reject) => {
    unwatch = watch(signal, undefined, { abort: (reason) => reject(abortedError("load", reason)), timeout: () => {} });
  });
  try {
    return await Promise.race([opening, aborted]);
  } catch (cause) {
    // Of an engine that never opened there is nothing to close, and `cause` says why.
    opening.then((engine) => engine.close()).catch(() => {});
    if (thrown) throw new HimapError("ERR_INVALID_ARG", "load: expected onProgress to return but it threw", thrown);
    throw cause;
  } finally {
    unwatch?.();
  }
}

function modelOf(
  request: LoadRequest, checkpoint: Checkpoint, tokenizer: Model["tokenizer"], native: NativeModule, engine: NativeEngine, pool: Pool,
): Model {
  const { config, preprocessing } = checkpoint;
  const { imageSize, patchSize } = config.vision;
  const embeddings = request.embeddingBytes > 0 ? new EmbeddingCache(request.embeddingBytes) : undefined;
  return {
    checkpoint,
    tokenizer,
    template: request.template === "auto" ? checkpoint.template : request.template,
    native,
    engine: embeddings ? rememberEmbeddings(engine, embeddings) : engine,
    ...pool,
    maxBatch: request.maxBatch,
    maxQueue: request.maxQueue,
    clock: systemClock,
    logger: request.logger,
    longestPiece: Array.from({ length: tokenizer.size }, (_, id) => tokenizer.piece(id).length).reduce((a, b) => Math.max(a, b), 1),
    facts: {
      layers: config.layers,
      hidden: config.hidden,
      vocabulary: config.vocabulary,
      eos: checkpoint.tokens.eos,
      imageTokens: config.imageTokens,
      imageSize,
      fingerprint: checkpoint.fingerprint,
      pruning: request.pruning,
      imageAspectRatio: request.imageAspectRatio ?? preprocessing.imageAspectRatio,
      mostSamples: Math.min(limits.samples, request.maxBatch),
    },
    embeddings,
    preparePicture: (image, { imageAspectRatio, autoOrient, signal }) =>
      preparePicture(
        image,
        {
          geometry: imageAspectRatio,
          side: imageSize,
          patch: patchSize,
          mean: preprocessing.mean,
          std: preprocessing.std,
          maxPixels: request.maxPixels,
          autoOrient,
          signal,
        },
        checkpoint.fingerprint,
        native,
        embeddings,
      ),
  };
}

function infoOf({ checkpoint, engine, kvType, facts, template }: Model, device: BackendName): ModelInfo {
  const { config } = checkpoint;
  const { vision } = config;
  return {
    folder: checkpoint.folder,
    family: checkpoint.family,
    fingerprint: checkpoint.fingerprint,
    layers: config.layers,
    hidden: config.hidden,
    heads: config.heads,
    kvHeads: config.kvHeads,
    headDim: config.headDim,
    ffn: config.ffn,
    vocabulary: config.vocabulary,
    maxPositions: config.maxPositions,
    vision: {
      layers: vision.layers,
      hidden: vision.hidden,
      heads: vision.heads,
      ffn: vision.ffn,
      imageSize: vision.imageSize,
      patchSize: vision.patchSize,
    },
    imageTokens: config.imageTokens,
    parameters: checkpoint.parameters,
    weightTypes: [...new Set(checkpoint.tensors.map(({ type }) => type))],
    device,
    simd: engine.info.simd,
    threads: engine.info.threads,
    kvType,
    imageAspectRatio: facts.imageAspectRatio,
    template,
    memory: { mappedBytes: engine.info.mappedBytes, weightBytes: engine.info.weightBytes, kvBytes: engine.info.kvBytes },
  };
}
