/**
 * Builds the native tests and the fuzz targets under AddressSanitizer and UndefinedBehaviorSanitizer
 * (test/native/sanitize.cmake), each compiler in a folder of its own, and runs the tests:
 *   npm run test:sanitize
 */

import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { availableParallelism } from "node:os";
import path from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

export const root = fileURLToPath(new URL("..", import.meta.url));
export const entries = ["manifest", "step", "preprocess"] as const;
const programs = ["test_core", "test_image", "test_cpu", "test_replay", "test_fault", "test_fail_nth"];

function run(command: string, args: string[]): void {
  const { status, error, stdout, stderr } = spawnSync(command, args, { cwd: root, encoding: "utf8", maxBuffer: 1 << 28 });
  if (error) throw error;
  if (status !== 0) throw new Error(`${command} ${args.join(" ")} ended with ${status}\n${stdout}${stderr}`);
}

/**
 * Builds `targets` with the sanitizers and says where they lie.
 * @param compiler `c++`'s name; the fuzz targets are libFuzzer's where it is clang
 * @throws what CMake or the compiler printed
 */
export function buildSanitized(targets: readonly string[], compiler?: string): string {
  const folder = path.join("build", compiler === undefined ? "sanitize" : "fuzz");
  const chosen = compiler === undefined ? [] : [`-DCMAKE_CXX_COMPILER=${compiler}`];
  if (!existsSync(path.join(root, folder, "CMakeCache.txt"))) {
    run("cmake", ["-S", ".", "-B", folder, "-DHIMAP_TESTS=ON", "-DHIMAP_FUZZ=ON", "-DHIMAP_CUDA=OFF", ...chosen]);
  }
  run("cmake", ["--build", folder, "--parallel", String(availableParallelism()), "--target", ...targets]);
  return path.join(root, folder);
}

/** Where a fuzz target's own inputs are kept. */
export const corpusOf = (entry: string): string => path.join(root, "test", "fuzz", "native", "corpus", entry);

function main(): void {
  const folder = buildSanitized([...programs, ...entries.map((entry) => `fuzz_${entry}`), "himap_node"]);
  let failed = false;
  const report = (name: string, command: string, args: string[], options: { cwd: string; env?: NodeJS.ProcessEnv } = { cwd: folder }): void => {
    const started = performance.now();
    const { status, stdout, stderr } = spawnSync(command, args, { ...options, encoding: "utf8", maxBuffer: 1 << 28 });
    const counts = /^(?:NOTE: .*|\d+ passed, \d+ failed, \d+ skipped)$/m.exec(stdout)?.[0] ?? "";
    console.log(`${status === 0 ? "ok  " : "FAIL"} ${name}  ${counts}  ${((performance.now() - started) / 1000).toFixed(1)} s`);
    if (status !== 0) console.log(stdout + stderr);
    failed ||= status !== 0;
  };
  for (const program of programs) {
    const env = { ...process.env, LSAN_OPTIONS: `suppressions=${path.join(root, "test/native/lost-device.supp")}:print_suppressions=0` };
    report(program, path.join(folder, "tests", program), [], { cwd: folder, env: program === "test_fault" ? env : process.env });
  }
  for (const entry of entries) report(`fuzz_${entry}`, path.join(folder, `fuzz_${entry}`), [corpusOf(entry), "100000"]);

  // Node itself is not built with the sanitizers: their runtime is loaded before it, and the leaks at its end are its own.
  const runtimes = ["libasan.so", "libstdc++.so"].map((name) => spawnSync("c++", [`-print-file-name=${name}`], { encoding: "utf8" }).stdout.trim());
  report("addon, random calls", process.execPath, ["--import", "tsx", "test/robustness/boundary.ts", "--calls", "20000"], {
    cwd: root, env: { ...process.env, LD_PRELOAD: runtimes.join(":"), ASAN_OPTIONS: "detect_leaks=0", HIMAP_PREBUILD: folder },
  });
  process.exitCode = failed ? 1 : 0;
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) main();
