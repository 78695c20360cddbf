/** Loads the native binary, and turns what it throws into `HimapError`. Nothing else requires it. */

import { createRequire } from "node:module";
import path from "node:path";

import { HimapError, errorCodes, type ErrorCode } from "../errors.cjs";
import { packageVersion } from "../package.js";
import { findBinary, target, type BinaryFile } from "./find.js";
import { given } from "./given.cjs";
import type { NativeEngine, NativeModule } from "./native.js";
import { noBinary } from "./no-binary.js";

let loaded: (BinaryFile & { native: NativeModule }) | undefined;

/**
 * The native module, loaded once; what it throws, or rejects with, is a `HimapError`.
 * @throws ERR_NO_BINARY with every place that was looked at, and what to do about it.
 */
export function loadNative(): NativeModule {
  return load().native;
}

/** The absolute path of the binary in use. Throws as `loadNative`. */
export function nativePath(): string {
  return load().path;
}

/** Why this binary was chosen. Throws as `loadNative`. */
export function nativeWhy(): string {
  return load().why;
}

function load(): BinaryFile & { native: NativeModule } {
  if (loaded) return loaded;
  let file: BinaryFile | undefined;
  let native: NativeModule;
  try {
    const statically = given[target];
    if (statically) {
      native = statically() as NativeModule;
      // A bundler may have put it anywhere; its backends lie beside it.
      file = { path: path.dirname(native.backends()[0]!.path), why: `the entry himap/${target} names it` };
    } else {
      file = findBinary();
      native = createRequire(import.meta.url)(file.path) as NativeModule;
    }
  } catch (cause) {
    throw noBinary(file?.path ?? (cause as { path?: string }).path, cause);
  }
  if (native.version !== packageVersion) {
    throw new HimapError(
      "ERR_NO_BINARY",
      `${file.path}: expected version ${packageVersion} for the native binary but received ${native.version}`,
      { hint: "it was built from other sources: run `npm run build` in a checkout, or install the package again" },
    );
  }
  return (loaded = { native: adoptModule(native), ...file });
}

/** What native code threw, as a `HimapError`: its own codes are kept, anything else is a defect of ours. */
export function adoptError(error: unknown): HimapError {
  if (error instanceof HimapError) return error;
  const { code, message } = (error ?? {}) as { code?: unknown; message?: unknown };
  if (typeof code === "string" && Object.hasOwn(errorCodes, code)) return new HimapError(code as ErrorCode, String(message));
  return new HimapError("ERR_INTERNAL", `native code failed: ${String(message ?? error)}`, { cause: error });
}

function adopting<A extends unknown[], R>(call: (...args: A) => R): (...args: A) => R {
  return (...args) => {
    try {
      return call(...args);
    } catch (error) {
      throw adoptError(error);
    }
  };
}

function adoptingAsync<A extends unknown[], R>(call: (...args: A) => Promise<R>): (...args: A) => Promise<R> {
  return async (...args) => {
    try {
      return await call(...args);
    } catch (error) {
      throw adoptError(error);
    }
  };
}

function adoptModule(native: NativeModule): NativeModule {
  const open = adoptingAsync(native.open);
  return {
    ...native,
    pageBytes: adopting(native.pageBytes),
    plan: adopting(native.plan),
    memoryOf: adopting(native.memoryOf),
    backends: adopting(native.backends),
    deviceMemory: adopting(native.deviceMemory),
    lockFile: adopting(native.lockFile),
    preprocess: adoptingAsync(native.preprocess),
    open: async (...args) => adoptEngine(await open(...args)),
  };
}

function adoptEngine(engine: NativeEngine): NativeEngine {
  return {
    info: engine.info,
    step: adoptingAsync((input, onTokens) => engine.step(input, onTokens)),
    yield: adopting(() => engine.yield()),
    interrupt: adopting(() => engine.interrupt()),
    close: adoptingAsync(() => engine.close()),
  };
}
