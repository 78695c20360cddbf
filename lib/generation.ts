/** The answer under way that users hold. Only its maker can feed it. */

import { HimapError } from "./errors.cjs";
import type { Delta, Generation, Result } from "./types.js";

/** The maker's end of a generation. After `finish` or `fail` further calls do nothing. */
export interface GenerationControls {
  generation: Generation;
  push(delta: Delta): void;
  finish(result: Result): void;
  fail(error: HimapError): void;
}

type Settled = { result: Result } | { error: HimapError };

interface Waiter {
  resolve(step: IteratorResult<Delta, undefined>): void;
  reject(error: HimapError): void;
}

export class GenerationStream implements Generation {
  readonly id: string;
  readonly #onAbort: (reason: unknown) => void;
  readonly #result: Promise<Result>;
  #resolve!: (result: Result) => void;
  #reject!: (error: HimapError) => void;
  #settled: Settled | undefined;
  /** Pieces not yet read. A slow reader lets them pile up, at most one per token; the engine never waits for it. */
  readonly #pieces: Delta[] = [];
  readonly #waiters: Waiter[] = [];
  #reading = false;
  /** The reader left, or has been told of the failure. */
  #readerDone = false;

  private constructor(id: string, onAbort: (reason: unknown) => void) {
    this.id = id;
    this.#onAbort = onAbort;
    this.#result = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    // Handled here, so that a generation that nobody awaits raises no unhandled rejection; who awaits still sees it.
    this.#result.catch(() => {});
  }

  /**
   * @param onAbort called when the user ends the generation; has to answer with `fail`, unless it is settled
   */
  static create(id: string, onAbort: (reason: unknown) => void): GenerationControls {
    const generation = new GenerationStream(id, onAbort);
    return {
      generation,
      push: (delta) => generation.#push(delta),
      finish: (result) => generation.#settle({ result }),
      fail: (error) => generation.#settle({ error }),
    };
  }

  then<A = Result, B = never>(
    onResult?: ((result: Result) => A | PromiseLike<A>) | null,
    onError?: ((error: unknown) => B | PromiseLike<B>) | null,
  ): Promise<A | B> {
    return this.#result.then(onResult, onError);
  }

  catch<B = never>(onError?: ((error: unknown) => B | PromiseLike<B>) | null): Promise<Result | B> {
    return this.then(undefined, onError);
  }

  finally(onEnd?: (() => void) | null): Promise<Result> {
    return this.#result.finally(onEnd);
  }

  get [Symbol.toStringTag](): string {
    return "Generation";
  }

  abort(reason?: unknown): void {
    if (!this.#settled) this.#onAbort(reason);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.abort();
    await this.#result.catch(() => {});
  }

  /** The pieces, once: a second reader would see only part of them, so it gets ERR_INVALID_ARG. */
  [Symbol.asyncIterator](): AsyncIterator<Delta, undefined> {
    if (this.#reading) {
      throw new HimapError("ERR_INVALID_ARG", "generation: expected one reader for its pieces but received a second", {
        hint: "read it once by for await or textStream(); await it as often as you like",
      });
    }
    this.#reading = true;
    return {
      next: () => this.#next(),
      return: async () => {
        this.#leave();
        return { done: true, value: undefined };
      },
    };
  }

  textStream(): ReadableStream<string> {
    const reader = this[Symbol.asyncIterator]();
    return new ReadableStream<string>({
      pull: async (controller) => {
        let piece = await reader.next();
        while (!piece.done && piece.value.sample !== 0) piece = await reader.next();
        if (piece.done) controller.close();
        else controller.enqueue(piece.value.text);
      },
      cancel: async () => {
        await reader.return!();
      },
    });
  }

  #next(): Promise<IteratorResult<Delta, undefined>> {
    if (this.#readerDone) return Promise.resolve({ done: true, value: undefined });
    const piece = this.#pieces.shift();
    if (piece) return Promise.resolve({ done: false, value: piece });
    return new Promise((resolve, reject) => {
      this.#waiters.push({ resolve, reject });
      if (this.#settled) this.#endReaders();
    });
  }

  #leave(): void {
    this.#readerDone = true;
    this.#pieces.length = 0;
    this.abort();
    this.#endReaders();
  }

  #push(delta: Delta): void {
    if (this.#settled || this.#readerDone) return;
    const waiter = this.#waiters.shift();
    if (waiter) waiter.resolve({ done: false, value: delta });
    else this.#pieces.push(delta);
  }

  #settle(settled: Settled): void {
    if (this.#settled) return;
    this.#settled = settled;
    if ("result" in settled) this.#resolve(settled.result);
    else this.#reject(settled.error);
    this.#endReaders();
  }

  /** Tells whoever waits for a piece that none will come: the first of the failure, the others of the end. */
  #endReaders(): void {
    for (const waiter of this.#waiters.splice(0)) {
      if (this.#settled && "error" in this.#settled && !this.#readerDone) waiter.reject(this.#settled.error);
      else waiter.resolve({ done: true, value: undefined });
      this.#readerDone = true;
    }
  }
}
