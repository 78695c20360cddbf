// The entry for `require`: the same functions, forwarded to the ESM entry, and the very same error class and tables.

import type { doctor as Doctor, load as Load } from "./index.js";

export { HimapError, errorCodes, type ErrorCode } from "./errors.cjs";
export { presets, type PresetEntry } from "./pruning/presets.cjs";
export type * from "./types.js";

export const load: typeof Load = async (...args) => (await import("./index.js")).load(...args);

export const doctor: typeof Doctor = async () => (await import("./index.js")).doctor();
