/** What a run from a picture to the first token is, the same for every engine. */

import type { Preset } from "../../lib/types.js";

export interface VisionJob {
  /** Path of an image file. */
  picture: string;
  /** Token ids on both sides of the picture. */
  before: number[];
  after: number[];
  preset: Preset;
}

export interface VisionRun {
  /** Seconds: file to pixels, tower and projector, prefill of the decoder, and all of it with what lies between. */
  picture: number;
  vision: number;
  prefill: number;
  total: number;
  processor: number;
  token: number;
  /** Image tokens that each cut kept. */
  kept: number[];
  logits: string;
}
