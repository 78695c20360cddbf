/** What the runner runs: an answer, a study, or the encoding of a picture, each seen as steps. */

import type { StepImage, StepOutput, StepResult, StepSequence } from "../binding/native.js";
import type { HimapError } from "../errors.cjs";

/** A work's part of one step. `spans` of its sequence count its own images, from 0. */
export interface WorkStep {
  images: StepImage[];
  sequence?: StepSequence;
}

/** A work's part of what came back. */
export interface WorkOutput {
  images: StepOutput["images"];
  sequence?: StepResult;
  timings: StepOutput["timings"];
}

export interface Work {
  /** Pages of the KV pool that it holds while it runs; known once `prepare` has ended. */
  readonly pageCount: number;
  /**
   * Gets ready what needs no engine: pictures decoded, the prompt encoded. A rejection is the work's end. After `signal`
   * its outcome is ignored.
   */
  prepare(signal: AbortSignal): Promise<void>;
  /** It runs from now on, with these pages, [pageCount]. */
  start(pages: Int32Array): void;
  /** What it wants of the next step. */
  next(): WorkStep;
  /** Takes what came back; true when that was the last step and the result has been handed on. */
  accept(output: WorkOutput): boolean;
  /** It ends without a result. Called at most once, and never after `accept` returned true. */
  fail(error: HimapError): void;
}
