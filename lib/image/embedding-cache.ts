/** What the vision tower made of pictures seen before: bounded in bytes, the least recently used forgotten first. */

/** A picture by what it is, not by where it came from; its size says where the model's grid lies on it. */
export interface KnownPicture {
  /** Equal for equal pictures only (lib/image/identity.ts). */
  identity: string;
  /** Of the source picture, in pixels. */
  width: number;
  height: number;
}

/** Never handed to a caller, who could change it. */
export interface RememberedPicture extends KnownPicture {
  /** Projected tokens, [image tokens, hidden]. */
  features: Float32Array;
}

export class EmbeddingCache {
  /** Most bytes of features that are kept. */
  readonly capacity: number;
  /** Pictures that were found here, and those that had to be encoded. */
  hits = 0;
  misses = 0;
  #bytes = 0;
  /** The least recently used first. */
  readonly #entries = new Map<string, RememberedPicture>();
  /** Prepared pixels, and whose they are, until a step has taken them. */
  readonly #prepared = new WeakMap<Float32Array, KnownPicture>();

  constructor(capacity: number) {
    this.capacity = capacity;
  }

  /** Bytes of the features that are kept. */
  get bytes(): number {
    return this.#bytes;
  }

  get size(): number {
    return this.#entries.size;
  }

  /** A picture that is remembered: it counts as used now, and as a hit. */
  use(identity: string): RememberedPicture | undefined {
    const entry = this.#entries.get(identity);
    if (!entry) return undefined;
    this.hits += 1;
    this.#entries.delete(identity);
    this.#entries.set(identity, entry);
    return entry;
  }

  /** @param features kept as they are: nobody may change them afterwards */
  remember(picture: KnownPicture, features: Float32Array): void {
    if (features.byteLength > this.capacity || this.#entries.has(picture.identity)) return;
    this.#entries.set(picture.identity, { ...picture, features });
    this.#bytes += features.byteLength;
    for (const [identity, oldest] of this.#entries) {
      if (this.#bytes <= this.capacity) return;
      this.#entries.delete(identity);
      this.#bytes -= oldest.features.byteLength;
    }
  }

  /** Says which picture prepared pixels are of. */
  expect(pixels: Float32Array, picture: KnownPicture): void {
    this.#prepared.set(pixels, picture);
  }

  /** The picture that prepared pixels are of, where it is known. */
  pictureOf(pixels: Float32Array | undefined): KnownPicture | undefined {
    return pixels && this.#prepared.get(pixels);
  }
}
