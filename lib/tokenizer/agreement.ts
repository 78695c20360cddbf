/** Whether a tokenizer belongs to the model beside it: two files of one folder that can contradict each other. */

import { fault } from "../checkpoint/fault.js";
import type { Tokenizer } from "./types.js";

export interface ModelTokens {
  /** Rows of the embedding: more than the tokenizer's ids where it is padded, never fewer. */
  vocabulary: number;
  tokens: { bos: number; eos: number; image?: number };
}

/**
 * @param imageToken The image token's text; a tokenizer of the original layout does not have it.
 * @throws HimapError ERR_BAD_CHECKPOINT
 */
export function checkAgreement(tokenizer: Tokenizer, { vocabulary, tokens }: ModelTokens, imageToken: string): void {
  const where = "tokenizer";
  if (tokenizer.size > vocabulary) {
    fault("ERR_BAD_CHECKPOINT", where, `at most the model's ${vocabulary} ids`, "the vocabulary", String(tokenizer.size));
  }
  const pairs = [
    ["BOS", tokens.bos, tokenizer.bos],
    ["EOS", tokens.eos, tokenizer.eos],
    [imageToken, tokens.image, tokenizer.specialId(imageToken)],
  ] as const;
  for (const [name, ofModel, ofTokenizer] of pairs) {
    if (ofModel === undefined || ofTokenizer === undefined || ofTokenizer === ofModel) continue;
    fault("ERR_BAD_CHECKPOINT", where, `${ofModel}, as the model's config has it`, `the id of ${name}`, String(ofTokenizer));
  }
}
