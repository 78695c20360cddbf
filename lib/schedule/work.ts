/** What the runner runs: an answer, a study, or the encoding of a picture, each seen as steps. */

import type { StepImage, StepOutput, StepResult, StepSequence, StepToken } from "../binding/native.js";
import type { HimapError } from "../errors.cjs";
import type { PartialResult } from "../types.js";
import type { WorkFacts } from "./observer.js";
import type { Lease } from "./pages.js";

/** What a work takes of the engine while it runs. */
export interface WorkDemand {
  /** Pages of the KV pool. */
  pages: number;
  /** Sequences that it runs at once. */
  sequences: number;
  /** Rows of its largest prefill. */
  rows: number;
  /** Images of its first step that pass the vision tower. */
  images: number;
  /** It prefills in every step, not in its first alone. */
  standing: boolean;
}

/** A work's part of one step. `spans` of its sequences count its own images, from 0. */
export interface WorkStep {
  images: StepImage[];
  sequences: StepSequence[];
  /** As `StepInput.copies`. */
  copies?: Int32Array;
}

/** A work's part of what came back. */
export interface WorkOutput {
  images: StepOutput["images"];
  sequences: StepResult[];
  timings: StepOutput["timings"];
}

export interface Work extends WorkFacts {
  /** Higher goes first. */
  readonly priority: number;
  /** Says what it will take; throws a HimapError where it can never run. Called once, before it waits. */
  measure(): WorkDemand;
  /** Gets ready what takes time: pictures decoded. A rejection is the work's end. After `signal` its outcome is ignored. */
  prepare(signal: AbortSignal): Promise<void>;
  /** It runs from now on, with these pages. */
  start(lease: Lease): void;
  /** What it wants of the next step. */
  next(): WorkStep;
  /**
   * Takes what a pass of the step under way gave its sequence of this index; true where that sequence has no use for
   * further passes of this step.
   */
  take(sequence: number, token: StepToken): boolean;
  /** The step has ended. True when it was the last one: `finish` follows, when the engine is at work again. */
  accept(output: WorkOutput): boolean;
  /** Hands the result on. */
  finish(): void;
  /** It ends without a result. Called at most once, and never after `finish`. */
  fail(error: HimapError): void;
  /** What there is of the result; `undefined` where there is nothing yet. */
  partial?(): PartialResult | undefined;
}
