/**
 * Runs works on one native engine: prepares a few ahead, admits them in the order in which they are ready, and advances
 * all that run by one step at a time. Every work that is submitted ends exactly once, by its own `accept` or by `fail`.
 */

import type { NativeEngine, StepInput, StepOutput } from "../binding/native.js";
import { limits } from "../defaults.js";
import { HimapError } from "../errors.cjs";
import { PagePool } from "./pages.js";
import type { Work, WorkOutput, WorkStep } from "./work.js";

/** Works that advance together. */
const maxRunning = 1;

export class Runner {
  readonly pool: PagePool;
  readonly #engine: Pick<NativeEngine, "step" | "interrupt">;
  readonly #toError: (cause: unknown) => HimapError;
  readonly #waiting = new Set<Work>();
  readonly #preparing = new Map<Work, AbortController>();
  readonly #ready = new Set<Work>();
  /** Pages by work. A cancelled one stays until the step that may write to its pages has ended. */
  readonly #running = new Map<Work, Int32Array>();
  readonly #cancelled = new Set<Work>();
  #stepping = false;
  #loop: Promise<void> | undefined;
  #closed: (() => HimapError) | undefined;

  /** @param toError makes a HimapError of whatever was thrown */
  constructor(engine: Pick<NativeEngine, "step" | "interrupt">, pages: number, toError: (cause: unknown) => HimapError) {
    this.#engine = engine;
    this.pool = new PagePool(pages);
    this.#toError = toError;
  }

  submit(work: Work): void {
    if (this.#closed) return this.#fail(work, this.#closed());
    this.#waiting.add(work);
    this.#prepareSome();
  }

  /** Ends a work wherever it stands; nothing happens to one that has ended. */
  cancel(work: Work, error: HimapError): void {
    const controller = this.#preparing.get(work);
    if (this.#waiting.delete(work) || this.#preparing.delete(work) || this.#ready.delete(work)) {
      controller?.abort(error);
      this.#fail(work, error);
      this.#prepareSome();
    } else if (this.#running.has(work) && !this.#cancelled.has(work)) {
      this.#cancelled.add(work);
      this.#fail(work, error);
      // The step under way is worth ending only when nobody waits for it any more.
      if (this.#stepping && [...this.#running.keys()].every((other) => this.#cancelled.has(other))) this.#engine.interrupt();
    }
  }

  /** Ends every work, and every later one, with an error of `makeError`; resolves when the last step has ended. */
  async close(makeError: () => HimapError): Promise<void> {
    this.#closed ??= makeError;
    const works = [...this.#waiting, ...this.#preparing.keys(), ...this.#ready, ...this.#running.keys()];
    for (const work of works) this.cancel(work, makeError());
    await this.#loop;
  }

  #prepareSome(): void {
    for (const work of this.#waiting) {
      if (this.#preparing.size + this.#ready.size >= limits.preparedAhead) return;
      this.#waiting.delete(work);
      void this.#prepare(work);
    }
  }

  async #prepare(work: Work): Promise<void> {
    const controller = new AbortController();
    this.#preparing.set(work, controller);
    let failure: HimapError | undefined;
    try {
      await work.prepare(controller.signal);
    } catch (cause) {
      failure = this.#toError(cause);
    }
    // Otherwise it has been cancelled meanwhile.
    if (!this.#preparing.delete(work)) return;
    if (failure) {
      this.#fail(work, failure);
      this.#prepareSome();
      return;
    }
    this.#ready.add(work);
    this.#loop ??= this.#run();
  }

  async #run(): Promise<void> {
    // A turn later, so that `#loop` is set before the loop can end and clear it.
    await Promise.resolve();
    try {
      for (this.#admit(); this.#running.size > 0; this.#admit()) await this.#step();
    } catch (cause) {
      // A defect of ours: nothing may be left waiting for a loop that has ended.
      void this.close(() => this.#toError(cause));
    }
    this.#loop = undefined;
  }

  #admit(): void {
    for (const work of this.#ready) {
      if (this.#running.size >= maxRunning) return;
      const pages = this.pool.take(work.pageCount);
      if (!pages) {
        // Pages will come free when a running work ends; with none running, they never will.
        if (this.#running.size > 0) return;
        this.#ready.delete(work);
        const message = `[runner] expected at most ${this.pool.size} pages for a work but received ${work.pageCount}`;
        this.#fail(work, new HimapError("ERR_INTERNAL", message));
        continue;
      }
      this.#ready.delete(work);
      this.#running.set(work, pages);
      this.#guard(work, () => work.start(pages));
    }
    this.#prepareSome();
  }

  /** One step of all that run. */
  async #step(): Promise<void> {
    const parts = new Map<Work, WorkStep>();
    for (const work of [...this.#running.keys()]) {
      if (!this.#cancelled.has(work)) this.#guard(work, () => parts.set(work, work.next()));
      else this.#release(work);
    }
    if (parts.size === 0) return;
    let outputs: WorkOutput[];
    this.#stepping = true;
    try {
      outputs = split(await this.#engine.step(join([...parts.values()])), [...parts.values()]);
    } catch (cause) {
      for (const work of parts.keys()) {
        if (!this.#cancelled.has(work)) this.#fail(work, this.#toError(cause));
        this.#release(work);
      }
      return;
    } finally {
      this.#stepping = false;
    }
    [...parts.keys()].forEach((work, i) => {
      if (this.#cancelled.has(work)) return this.#release(work);
      this.#guard(work, () => {
        if (work.accept(outputs[i]!)) this.#release(work);
      });
    });
  }

  /** What a work throws ends that work and no other. */
  #guard(work: Work, action: () => void): void {
    try {
      action();
    } catch (cause) {
      if (!this.#cancelled.has(work)) this.#fail(work, this.#toError(cause));
      this.#release(work);
    }
  }

  #fail(work: Work, error: HimapError): void {
    try {
      work.fail(error);
    } catch {
      // It is over either way, and the others must not suffer for it.
    }
  }

  #release(work: Work): void {
    this.#cancelled.delete(work);
    const pages = this.#running.get(work);
    if (pages && this.#running.delete(work)) this.pool.give(pages);
  }
}

/** All parts as one step, the images of each behind those of the one before. */
function join(parts: WorkStep[]): StepInput {
  const input: StepInput = { images: [], sequences: [] };
  for (const { images, sequence } of parts) {
    const first = input.images.length;
    input.images.push(...images);
    if (!sequence) continue;
    const spans = sequence.spans.map((value, i) => (i % 3 === 2 ? value + first : value));
    input.sequences.push({ ...sequence, spans });
  }
  return input;
}

function split(output: StepOutput, parts: WorkStep[]): WorkOutput[] {
  let image = 0;
  let sequence = 0;
  return parts.map((part) => ({
    images: output.images.slice(image, (image += part.images.length)),
    ...(part.sequence && { sequence: output.sequences[sequence++]! }),
    timings: output.timings,
  }));
}
