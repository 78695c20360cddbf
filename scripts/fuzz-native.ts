/**
 * libFuzzer on one native entry point that reads foreign data, with AddressSanitizer and UndefinedBehaviorSanitizer:
 *   npm run fuzz:native -- manifest|step|preprocess [--inputs 10000000] [--seconds 0]
 * What reaches new code is kept in build/fuzz/corpus/ENTRY and is where the next run begins; an input that ends the run is
 * kept in build/fuzz/ENTRY-crash-*.
 */

import { spawn, spawnSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import path from "node:path";
import { parseArgs } from "node:util";

import { buildSanitized, corpusOf, entries } from "./sanitize.js";

/** Longest input that is tried, in bytes. */
const longest = { manifest: 16_384, step: 2_048, preprocess: 1_024 };

function findClang(): string {
  const names = ["clang++", ...[22, 21, 20, 19, 18, 17, 16].map((version) => `clang++-${version}`)];
  const found = names.find((name) => spawnSync(name, ["--version"], { stdio: "ignore" }).status === 0);
  if (found !== undefined) return found;
  throw new Error("clang with libFuzzer was not found; install it (Debian 12: apt-get install clang-19 libclang-rt-19-dev)");
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { inputs: { type: "string", default: "10000000" }, seconds: { type: "string", default: "0" } },
});
const entry = entries.find((name) => name === positionals[0]);
if (entry === undefined) {
  console.error(`expected one of ${entries.join(", ")} but received ${positionals[0] ?? "nothing"}`);
  process.exit(2);
}
const folder = buildSanitized([`fuzz_${entry}`], findClang());
const found = path.join(folder, "corpus", entry);
mkdirSync(found, { recursive: true });
const child = spawn(path.join(folder, `fuzz_${entry}`), [
  found, corpusOf(entry),
  `-runs=${values.inputs}`, `-max_total_time=${values.seconds}`, `-max_len=${longest[entry]}`, "-timeout=25", "-rss_limit_mb=2048",
  "-print_final_stats=1", "-reload=0", "-detect_leaks=0", `-artifact_prefix=${folder}/${entry}-`,
], {
  stdio: ["ignore", "inherit", "inherit"],
  // What only explains a finding is worth its time when the finding is run again; leaks are looked for at the end.
  env: { ...process.env, ASAN_OPTIONS: "malloc_context_size=0:quarantine_size_mb=8:detect_stack_use_after_return=0:detect_leaks=1" },
});
child.on("exit", (code) => (process.exitCode = code ?? 1));
