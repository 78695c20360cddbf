/** Opens the tokenizer of a checkpoint folder. */

import { readdir } from "node:fs/promises";

import { fault } from "../checkpoint/fault.js";
import { readBoundedFile } from "../checkpoint/files.js";
import { parseTokenizerJson } from "./tokenizer-json.js";
import { parseTokenizerModel } from "./tokenizer-model.js";
import { VocabularyTokenizer } from "./tokenizer.js";
import type { Tokenizer } from "./types.js";

export { checkAgreement } from "./agreement.js";
export { parseTokenizerJson } from "./tokenizer-json.js";
export { parseTokenizerModel } from "./tokenizer-model.js";
export { VocabularyTokenizer } from "./tokenizer.js";
export type { DetokenizerStream, Tokenizer } from "./types.js";

/** The forms that are read, the better one first: tokenizer.json also names the added tokens. Published ones have 0.5 to 4 MB. */
const forms = [
  { name: "tokenizer.json", limit: 64_000_000, parse: parseTokenizerJson },
  { name: "tokenizer.model", limit: 8_000_000, parse: parseTokenizerModel },
] as const;
/** Vocabularies of other kinds of models, so that the error can say what was found. */
const otherForms = ["qwen.tiktoken", "vocab.json", "vocab.txt"] as const;

/** The file that `loadTokenizer` parses, and how; undefined where there is none. */
export async function readVocabulary(folder: string): Promise<{ name: string; bytes: Uint8Array; parse: typeof parseTokenizerJson } | undefined> {
  for (const { name, limit, parse } of forms) {
    const bytes = await readBoundedFile(folder, name, limit);
    if (bytes !== undefined) return { name, bytes, parse };
  }
  return undefined;
}

/**
 * Reads `tokenizer.json`, or `tokenizer.model` where there is none.
 * @throws HimapError ERR_BAD_CHECKPOINT: no such file, damaged or at odds with itself; ERR_UNSUPPORTED_MODEL: no LLaMA-like BPE;
 *   ERR_UNSUPPORTED_FILE: another kind of vocabulary; ERR_TOO_LARGE: above a limit of size.
 */
export async function loadTokenizer(folder: string): Promise<Tokenizer> {
  const vocabulary = await readVocabulary(folder);
  if (vocabulary !== undefined) {
    const { name, bytes, parse } = vocabulary;
    return new VocabularyTokenizer(parse(bytes, name));
  }
  const expected = "tokenizer.json or tokenizer.model";
  const present = await readdir(folder).catch((): string[] => []);
  const other = otherForms.find((name) => present.includes(name));
  if (other !== undefined) fault("ERR_UNSUPPORTED_FILE", folder, expected, "the tokenizer", other);
  return fault("ERR_BAD_CHECKPOINT", folder, expected, "the tokenizer", "neither file");
}
