/** Everything that the package exports. Nothing native is loaded before it is needed. */

export { doctor } from "./doctor.js";
export { HimapError, errorCodes, type ErrorCode } from "./errors.cjs";
export { load } from "./load.js";
export { presets, type PresetEntry } from "./pruning/presets.cjs";
export type * from "./types.js";
