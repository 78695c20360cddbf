export { HimapError, errorCodes, type ErrorCode } from "./errors.cjs";
export type * from "./types.js";
