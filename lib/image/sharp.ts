/** sharp, loaded with the first picture: it is native code of its own, and text, `doctor` and types do without it. */

import type sharp from "sharp";

import { HimapError } from "../errors.cjs";

// Kept, for each import() passes through whatever a service has hooked into loading modules (tracing, TypeScript): once a picture.
let loaded: typeof sharp | undefined;

/** @throws HimapError ERR_NO_BINARY where sharp has no binary for this machine */
export async function loadSharp(): Promise<typeof sharp> {
  try {
    return (loaded ??= (await import("sharp")).default);
  } catch (cause) {
    throw new HimapError("ERR_NO_BINARY", "expected the package sharp, which decodes pictures, to load but it failed", {
      cause,
      hint: "install the package again on this machine, optional dependencies included",
    });
  }
}
