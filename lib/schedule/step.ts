/** Many works' parts as one step, and its outcome as theirs. */

import type { StepInput, StepOutput } from "../binding/native.js";
import type { WorkOutput, WorkStep } from "./work.js";

interface Part<T> {
  owner: T;
  own: WorkStep;
  /** Of the joined step, the part's own: first, and the one after the last. */
  images: [number, number];
  sequences: [number, number];
}

/** A step in the making, by who takes part. */
export class JoinedStep<T> {
  readonly #input: StepInput = { images: [], sequences: [] };
  readonly #copies: number[] = [];
  readonly #parts: Part<T>[] = [];
  /** Forward passes that it has made so far, all sequences together. */
  passes = 0;
  /** By sequence of the joined step. */
  readonly #owners: { owner: T; index: number }[] = [];

  get size(): number {
    return this.#parts.length;
  }

  get owners(): T[] {
    return this.#parts.map(({ owner }) => owner);
  }

  /** @param longestBurst passes that its sequences may make, however many they ask for */
  add(owner: T, own: WorkStep, longestBurst: number): void {
    const { images, sequences, copies } = own;
    const input = this.#input;
    const firstImage = input.images.length;
    const firstSequence = input.sequences.length;
    input.images.push(...images);
    sequences.forEach((sequence, index) => {
      const spans = firstImage === 0 ? sequence.spans : sequence.spans.map((value, i) => (i % 3 === 2 ? value + firstImage : value));
      input.sequences.push({ ...sequence, spans, burst: Math.min(sequence.burst, longestBurst) });
      this.#owners.push({ owner, index });
    });
    if (copies) this.#copies.push(...copies);
    this.#parts.push({
      owner,
      own,
      images: [firstImage, input.images.length],
      sequences: [firstSequence, input.sequences.length],
    });
  }

  get input(): StepInput {
    return this.#copies.length === 0 ? this.#input : { ...this.#input, copies: Int32Array.from(this.#copies) };
  }

  /** Whose a sequence of the joined step is, and which of the owner's. */
  ownerOf(sequence: number): { owner: T; index: number } {
    return this.#owners[sequence]!;
  }

  /** Each part as a step of its own, of one pass. */
  apart(): JoinedStep<T>[] {
    return this.#parts.map(({ owner, own }) => {
      const step = new JoinedStep<T>();
      step.add(owner, own, 1);
      return step;
    });
  }

  split(output: StepOutput): { owner: T; output: WorkOutput }[] {
    return this.#parts.map(({ owner, images, sequences }) => ({
      owner,
      output: { images: output.images.slice(...images), sequences: output.sequences.slice(...sequences), timings: output.timings },
    }));
  }
}
