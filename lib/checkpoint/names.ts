/** Tensor names: four generations of one library, one canonical form (that of transformers 5.6 without `model.`). */

/** Applied in this order, each at most once. */
const rules: [form: RegExp, canonical: string][] = [
  [/^model\.(?=language_model\.|vision_tower\.|multi_modal_projector\.)/, ""],
  [/^language_model\.lm_head\./, "lm_head."],
  [/^language_model\.model\./, "language_model."],
  [/^vision_tower\.vision_model\./, "vision_tower."],
];

/** Buffers that some versions saved and that the model computes by itself. */
const buffers = /\.(?:rotary_emb\.inv_freq|embeddings\.position_ids)$/;

/** The one name of a tensor, whatever generation wrote it; undefined for a buffer that is to be ignored. */
export function canonicalName(stored: string): string | undefined {
  if (buffers.test(stored)) return undefined;
  return rules.reduce((name, [form, canonical]) => name.replace(form, canonical), stored);
}
