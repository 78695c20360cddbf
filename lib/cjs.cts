// The entry for `require`: the same functions, forwarded to the ESM entry, and the very same error class and tables.

import type { doctor as Doctor, load as Load, renderHeatmap as RenderHeatmap } from "./index.js" with { "resolution-mode": "import" };

export { HimapError, errorCodes, type ErrorCode } from "./errors.cjs";
export type { HeatmapOptions, PrunedImages } from "./image/heatmap.js" with { "resolution-mode": "import" };
export { presets, type PresetEntry } from "./pruning/presets.cjs";
export type * from "./types.js" with { "resolution-mode": "import" };

export const load: typeof Load = async (...args) => (await import("./index.js")).load(...args);

export const doctor: typeof Doctor = async () => (await import("./index.js")).doctor();

export const renderHeatmap: typeof RenderHeatmap = async (...args) => (await import("./index.js")).renderHeatmap(...args);
