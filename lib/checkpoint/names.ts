/**
 * Tensor names: four generations of one library and LLaVA's own code, one canonical form (that of transformers 5.6 without
 * `model.`).
 */

/** Applied in this order, each at most once. */
const rules: [form: RegExp, canonical: string][] = [
  [/^model\.(?=language_model\.|vision_tower\.|multi_modal_projector\.)/, ""],
  [/^language_model\.lm_head\./, "lm_head."],
  [/^language_model\.model\./, "language_model."],
  [/^vision_tower\.(?=vision_tower\.)/, ""],
  [/^vision_tower\.vision_model\./, "vision_tower."],
  // What still begins so is the original layout's.
  [/^model\.mm_projector\.0\./, "multi_modal_projector.linear_1."],
  [/^model\.mm_projector\.2\./, "multi_modal_projector.linear_2."],
  [/^model\./, "language_model."],
];

/** What the original layout puts before the names of its vision tower, where it saves one. */
export const originalTower = "model.vision_tower.vision_tower.";

/** Buffers that some versions saved and that the model computes by itself. */
const buffers = /\.(?:rotary_emb\.inv_freq|embeddings\.position_ids)$/;

/** The one name of a tensor, whatever generation wrote it; undefined for a buffer that is to be ignored. */
export function canonicalName(stored: string): string | undefined {
  if (buffers.test(stored)) return undefined;
  return rules.reduce((name, [form, canonical]) => name.replace(form, canonical), stored);
}
