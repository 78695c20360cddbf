/** Finds and loads the native binary, and turns what it throws into `HimapError`. Nothing else requires it. */

import { createRequire } from "node:module";
import path from "node:path";

import { HimapError, errorCodes, type ErrorCode } from "../errors.cjs";
import { packageRoot, packageVersion } from "../package.js";
import type { NativeEngine, NativeModule } from "./native.js";

const require = createRequire(import.meta.url);

let loaded: { native: NativeModule; path: string } | undefined;

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

function load(): { native: NativeModule; path: string } {
  if (loaded) return loaded;
  const target = `${process.platform}-${process.arch}`;
  const tried = [
    path.join(packageRoot, "build", "Release"),
    path.join(packageRoot, "prebuilds", target),
    path.dirname(process.execPath),
  ];
  let file: string | undefined;
  let native: NativeModule;
  try {
    // node-gyp-build carries no types.
    const gypBuild = require("node-gyp-build") as { resolve(folder: string): string };
    file = gypBuild.resolve(packageRoot);
    native = require(file) as NativeModule;
  } catch (cause) {
    throw noBinary(target, file, tried, cause);
  }
  if (native.version !== packageVersion) {
    throw new HimapError(
      "ERR_NO_BINARY",
      `${file}: expected version ${packageVersion} for the native binary but received ${native.version}`,
      {
        hint: "it was built from other sources: run `npm run build` in a checkout, or install the package again",
      },
    );
  }
  return (loaded = { native: adoptModule(native), path: file });
}

function noBinary(target: string, file: string | undefined, tried: readonly string[], cause: unknown): HimapError {
  const { code, message } = cause as NodeJS.ErrnoException;
  const where = file === undefined ? `looked in ${tried.join(", ")}` : `tried ${file}`;
  const build = "build it from source with `npx himap build` (needs CMake and a C++17 compiler)";
  let hint: string;
  if (code === "ERR_DLOPEN_DISABLED") {
    hint = "Node was started with --no-addons, or with the permission model (--permission) and without --allow-addons";
  } else if (file === undefined) {
    hint =
      target === "linux-x64"
        ? `install the package again, on a system with glibc, or ${build}`
        : `no binary is published for ${target}: ${build}`;
  } else if (/GLIBC|GLIBCXX|version `/.test(message)) {
    hint = `the system's C library is older than the binary's: ${build}`;
  } else {
    hint = `install the package again, or ${build}`;
  }
  return new HimapError(
    "ERR_NO_BINARY",
    `expected a native binary for ${target} but none could be loaded: ${where}: ${message}`,
    { hint, cause },
  );
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
