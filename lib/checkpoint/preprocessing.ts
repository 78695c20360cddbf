/**
 * preprocessor_config.json -> how a picture becomes the tower's input. The engine resizes bicubically to a square and
 * normalises per channel; a processor that does anything else is refused, since the model would see other pixels.
 */

import { Fields } from "./fields.js";
import { describe, type JsonObject } from "./json.js";
import type { Checkpoint } from "./types.js";

/** CLIP's own figures, which every LLaVA 1.5 has. */
const clip = { mean: [0.48145466, 0.4578275, 0.40821073], std: [0.26862954, 0.26130258, 0.27577711] } as const;
/** What native/image/resize.h takes. */
const deviations = { min: 1e-6, max: 1e6 } as const;
const bicubic = 3;
const processors = /^(?:CLIP|Llava)(?:ImageProcessor(?:Fast|Pil)?|FeatureExtractor)$/;

/** A side that is written as a number, or as an object with some of these keys, all of which must be `side`. */
function checkSide(fields: Fields, key: string, keys: readonly string[], side: number): void {
  const value = fields.value(key);
  if (value === undefined) return;
  const sides = value instanceof Map ? [...value].filter(([, entry]) => entry !== null) : [[key, value] as const];
  if (value instanceof Map && sides.some(([name]) => !keys.includes(name))) {
    fields.fail(
      "ERR_UNSUPPORTED_MODEL", `an object with ${keys.join(" and ")}`, key,
      [...value.keys()].map((name) => describe(name)).join(", "),
    );
  }
  for (const [, entry] of sides) {
    if (entry !== side) fields.fail("ERR_UNSUPPORTED_MODEL", `${side}, the tower's image_size,`, key, describe(entry));
  }
}

/**
 * @param processor The processor's object; undefined where the folder has none, which means CLIP's defaults.
 * @param file Where it stands.
 * @param side The tower's input, pixels.
 */
export function readPreprocessing(processor: JsonObject | undefined, file: string, side: number): Checkpoint["preprocessing"] {
  const fields = new Fields(processor ?? new Map(), file);
  let kind: string | undefined;
  for (const key of ["image_processor_type", "feature_extractor_type"]) {
    const value = fields.value(key);
    if (value === undefined) continue;
    if (typeof value !== "string" || !processors.test(value)) {
      return fields.fail("ERR_UNSUPPORTED_MODEL", "CLIP's or LLaVA's image processor", key);
    }
    kind ??= value;
  }
  const pad = fields.boolean("do_pad", false);
  if (pad && !kind?.startsWith("Llava")) fields.fail("ERR_UNSUPPORTED_MODEL", "LLaVA's image processor", "do_pad");
  for (const key of ["do_resize", "do_rescale", "do_normalize"]) fields.require(key, true);
  // A padded picture is square already, so that cropping it changes nothing.
  if (!pad) fields.require("do_center_crop", true);
  checkSide(fields, "size", ["shortest_edge"], side);
  checkSide(fields, "crop_size", ["height", "width"], side);
  if (fields.integer("resample", { min: 0, max: 5, default: bicubic }) !== bicubic) {
    fields.fail("ERR_UNSUPPORTED_MODEL", `${bicubic}, bicubic,`, "resample");
  }
  const factor = fields.number("rescale_factor", { min: 0, max: 1, default: 1 / 255 });
  if (Math.abs(factor * 255 - 1) > 1e-6) fields.fail("ERR_UNSUPPORTED_MODEL", "1 / 255", "rescale_factor");
  return {
    imageAspectRatio: pad ? "pad" : "crop",
    mean: fields.numbers("image_mean", 3, { min: 0, max: 1 }, clip.mean) as [number, number, number],
    std: fields.numbers("image_std", 3, deviations, clip.std) as [number, number, number],
  };
}
