// The one error class and the one list of codes, in CommonJS so that both entries of the package share them and
// `instanceof` holds across `import` and `require`. native/core/status.h has the same list; a test compares them.

import type { PartialResult } from "./types.js" with { "resolution-mode": "import" };

/** Every code that a `HimapError` can carry, and whether the same call may succeed later. */
export const errorCodes = {
  /** An argument is outside what is documented. */
  ERR_INVALID_ARG: false,
  /** A file of the checkpoint is damaged or contradicts another. */
  ERR_BAD_CHECKPOINT: false,
  /** The checkpoint lacks a tensor that its config asks for. */
  ERR_TENSOR_MISSING: false,
  /** The checkpoint holds a tensor that its config does not know. */
  ERR_TENSOR_EXTRA: false,
  /** A tensor has another shape or type than its config asks for. */
  ERR_TENSOR_SHAPE: false,
  /** A valid checkpoint of a model that this package does not run. */
  ERR_UNSUPPORTED_MODEL: false,
  /** A file in a format that is not read. */
  ERR_UNSUPPORTED_FILE: false,
  /** An image that cannot be decoded. */
  ERR_BAD_IMAGE: false,
  /** An input above a limit of size. */
  ERR_TOO_LARGE: false,
  /** The prompt and the tokens asked for do not fit the model's positions. */
  ERR_CONTEXT_OVERFLOW: false,
  /** Memory for weights, KV or workspace could not be had, or what the system needs to read a picture's file. */
  ERR_OUT_OF_MEMORY: true,
  /** More requests wait than the queue may hold. */
  ERR_QUEUE_FULL: true,
  /** The request's deadline passed. */
  ERR_TIMEOUT: true,
  /** The request was aborted; `cause` is the signal's reason. */
  ERR_ABORTED: false,
  /** The engine was disposed of. */
  ERR_DISPOSED: false,
  /** The device stopped answering; only a new process can use it again. */
  ERR_DEVICE_LOST: false,
  /** No native binary could be loaded on this machine. */
  ERR_NO_BINARY: false,
  /** A defect of this package: please report it. */
  ERR_INTERNAL: false,
} as const;

export type ErrorCode = keyof typeof errorCodes;

export interface HimapErrorOptions {
  /** What the caller can do about it. */
  hint?: string | undefined;
  /** What brought it about: another error, or an AbortSignal's reason. */
  cause?: unknown;
  /** Every fault found, when several were found together. */
  faults?: readonly string[] | undefined;
  /** What was generated before the request ended. */
  partial?: PartialResult | undefined;
}

/**
 * Every failure of this package. `message` says where, what must hold and what came; `code` is stable and is what
 * programs should look at.
 */
export class HimapError extends Error {
  readonly code: ErrorCode;
  /** Whether the same call may succeed later without a change. */
  readonly retryable: boolean;
  /** What the caller can do about it. */
  declare readonly hint?: string;
  /** Every fault found, when several were found together; of a call's arguments the first hundred. */
  declare readonly faults?: readonly string[];
  /** With ERR_ABORTED and ERR_TIMEOUT of `generate`: what was generated before the end, if anything was. */
  declare readonly partial?: PartialResult;

  constructor(code: ErrorCode, message: string, options: HimapErrorOptions = {}) {
    super(message, "cause" in options ? { cause: options.cause } : undefined);
    this.code = code;
    this.retryable = errorCodes[code];
    if (options.hint !== undefined) this.hint = options.hint;
    if (options.faults !== undefined) this.faults = options.faults;
    if (options.partial !== undefined) this.partial = options.partial;
  }

  /** For logs and clients: without the stack, and without `cause` and `partial`, which may hold anything. */
  toJSON(): Pick<HimapError, "name" | "code" | "message" | "retryable" | "hint" | "faults"> {
    const { name, code, message, retryable, hint, faults } = this;
    return { name, code, message, retryable, ...(hint !== undefined && { hint }), ...(faults !== undefined && { faults }) };
  }
}

// On the prototype, as the built-in errors have it: own properties would be printed with every error.
Object.defineProperty(HimapError.prototype, "name", { value: "HimapError", writable: true, configurable: true });
