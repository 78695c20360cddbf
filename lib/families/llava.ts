/** What LLaVA 1.5 is, as data: what its published layouts imply where their files do not say. */

import type { Layout } from "../checkpoint/config.js";
import type { TemplateName } from "../types.js";

export interface Family {
  name: "llava";
  /**
   * Template by layout. Conversions to the Hugging Face layout carry its chat template; the original checkpoints were
   * trained and are evaluated with Vicuna's.
   */
  templates: Record<Layout, TemplateName>;
  /** How the vocabulary writes an image's place; original checkpoints have no such token. */
  imageToken: string;
}

export const llava: Family = {
  name: "llava",
  templates: { huggingface: "hf", original: "vicuna_v1" },
  imageToken: "<image>",
};
