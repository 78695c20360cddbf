/** Everything that the package exports. Nothing native is loaded before it is needed. */

export { doctor } from "./doctor.js";
export { HimapError, errorCodes, type ErrorCode } from "./errors.cjs";
export { renderHeatmap, type HeatmapOptions, type PrunedImages } from "./image/heatmap.js";
export { load } from "./load.js";
export { presets, type PresetEntry } from "./pruning/presets.cjs";
export type * from "./types.js";
