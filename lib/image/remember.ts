/** An engine that encodes no picture twice while it is remembered. */

import type { NativeEngine, StepImage, StepInput, StepOutput } from "../binding/native.js";
import type { EmbeddingCache, KnownPicture } from "./embedding-cache.js";

/**
 * The engine, its steps seen by the cache: pictures encoded since they were prepared are replaced by their features, the
 * same picture twice in a step is encoded once, and what is encoded is remembered.
 */
export function rememberEmbeddings(engine: NativeEngine, cache: EmbeddingCache): NativeEngine {
  return {
    info: engine.info,
    step: async (input, onTokens) => {
      if (input.images.length === 0) return engine.step(input, onTokens);
      const step = new RememberedStep(input, cache);
      return step.take(await engine.step(step.input, onTokens));
    },
    yield: () => engine.yield(),
    interrupt: () => engine.interrupt(),
    close: () => engine.close(),
  };
}

class RememberedStep {
  /** What the engine is to run. */
  readonly input: StepInput;
  readonly #cache: EmbeddingCache;
  readonly #asked: StepImage[];
  /** Where each image asked for stands among those that are run, [images asked]. */
  readonly #places: number[];
  /** Pictures that the step encodes, by their place. */
  readonly #encoded = new Map<number, KnownPicture>();

  constructor(input: StepInput, cache: EmbeddingCache) {
    this.#cache = cache;
    this.#asked = input.images;
    const images: StepImage[] = [];
    const placeOf = new Map<string, number>();
    this.#places = input.images.map((image) => {
      // The tower's own output is not remembered: who asks for it has the tower run.
      const picture = image.returnVision ? undefined : cache.pictureOf(image.pixels);
      if (!picture) return images.push(image) - 1;
      const known = cache.use(picture.identity);
      if (known) {
        return images.push({ features: known.features, ...(image.returnFeatures && { returnFeatures: true }) }) - 1;
      }
      const earlier = placeOf.get(picture.identity);
      if (earlier !== undefined) {
        cache.hits++;
        return earlier;
      }
      cache.misses++;
      const place = images.push({ ...image, returnFeatures: true }) - 1;
      placeOf.set(picture.identity, place);
      this.#encoded.set(place, picture);
      return place;
    });
    const sequences = input.sequences.map((sequence) => ({
      ...sequence,
      spans: sequence.spans.map((value, i) => (i % 3 === 2 ? this.#places[value]! : value)),
    }));
    this.input = { ...input, images, sequences };
  }

  /** Remembers what was encoded, and hands out what was asked for: copies, which their owners may change. */
  take(output: StepOutput): StepOutput {
    for (const [place, picture] of this.#encoded) this.#cache.remember(picture, output.images[place]!.features!);
    const images = this.#asked.map((image, i): StepOutput["images"][number] => {
      const place = this.#places[i]!;
      const { features, vision } = output.images[place]!;
      const own = this.#encoded.has(place) ? features?.slice() : features;
      return { ...(image.returnFeatures && own && { features: own }), ...(vision && { vision }) };
    });
    return { ...output, images };
  }
}
