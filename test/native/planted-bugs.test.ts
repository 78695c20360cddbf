// Bugs planted in the kernels, each of which their tests must find on the host's SIMT machine. A bug that goes unnoticed
// is a hole in the tests or in the machine.
//
// A bug is one replacement in a copy of the kernels; the copy is compiled with one test program, and that must fail in
// one of the ways in which the matrix (scripts/test-shim.mjs) runs it.

import { spawnSync, type SpawnSyncReturns } from "node:child_process";
import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { test } from "uvu";
import * as assert from "uvu/assert";

const root = fileURLToPath(new URL("../..", import.meta.url));
const work = path.join(root, "build", "planted");
const compiler = process.env.CXX ?? "c++";

interface Bug {
  readonly name: string;
  /** Below kernels/. */
  readonly file: string;
  readonly find: string;
  readonly replace: string;
  /** test/native/test_AREA.cc, and the word that picks its cases. */
  readonly area: string;
  readonly cases: string;
  /** Launchers that the cases need, below kernels/. */
  readonly launchers: readonly string[];
  /** Further ones, which do not include the file. */
  readonly untouched?: readonly string[];
  /** How it shows: by wrong results, or only to one of the sanitizers. */
  readonly build?: "address" | "thread";
}

const sm90Launchers = ["linear/launch_sm90_linear_bf16.cu", "linear/launch_sm90_linear_f16.cu"];
const linear = {
  file: "linear/linear.cuh", area: "linear", cases: "decode from one row", launchers: ["linear/launch_linear.cu"], untouched: sm90Launchers,
};
const output = { ...linear, file: "linear/linear_output.cuh", launchers: ["linear/launch_linear.cu", ...sm90Launchers], untouched: [] };
const sm90 = {
  file: "linear/sm90_linear.cuh", area: "linear", cases: "every tile of wgmma", launchers: sm90Launchers, untouched: ["linear/launch_linear.cu"],
};
const prefill = {
  file: "attention_prefill/attention_prefill.cuh", area: "attention", launchers: [
    "attention_prefill/launch_attention_prefill.cu", "attention_decode/launch_attention_decode.cu",
  ],
};
const decode = { ...prefill, file: "attention_decode/attention_decode.cuh", cases: "decode" };
const select = { file: "select/select.cuh", area: "choice", cases: "select", launchers: ["select/launch_select.cu", "candidates/launch_candidates.cu", "gather/launch_gather.cu"] };

const bugs: readonly Bug[] = [
  { ...linear, name: "linear: the ring's barrier is gone", find: "sync_threads();  // the slot is full", replace: "// the slot is full" },
  { ...linear, name: "linear: nobody waits for the copies", find: "copy_async_wait<Tile::kStages - 2>();", replace: "" },
  { ...linear, name: "linear: the wait is one group short", find: "copy_async_wait<Tile::kStages - 2>();", replace: "copy_async_wait<Tile::kStages - 1>();" },
  { ...linear, name: "linear: a slot is filled while it is read", find: "linear_fetch<Tile>(shared, p, free_slot, next", replace: "linear_fetch<Tile>(shared, p, slot, next" },
  { ...output, name: "linear: rows beyond the last are written", find: "return n0 + n < kN && row + 8 * (n0 + n) + e < p.rows;", replace: "return n0 + n < kN;" },
  { ...linear, name: "linear: the first split's sums are lost", find: "for (int32_t of = 0; of < p.splits; ++of)", replace: "for (int32_t of = 1; of < p.splits; ++of)" },
  { ...linear, name: "linear: x is read beyond its last row", find: "row0 + row < p.out.rows ? p.in - column : 0", replace: "p.in - column", build: "address" },
  { ...linear, name: "linear: a split says that it is done before all its threads are", find: "sync_threads();\n    if (thread_id() == 0) {\n      last", replace: "if (thread_id() == 0) {\n      last", build: "thread" },
  { ...sm90, name: "wgmma: a slot is given back one step early", find: "if (step > 0) give_back(before);\n    before = place.slot;\n    place.advance();\n  }\n  wgmma_wait<0>(sums);\n  give_back(before);", replace: "give_back(place.slot);\n    before = place.slot;\n    place.advance();\n  }\n  wgmma_wait<0>(sums);" },
  { ...sm90, name: "wgmma: the last product is not waited for", find: "  wgmma_wait<0>(sums);\n", replace: "" },
  { ...sm90, name: "wgmma: nobody waits for the copies", find: "mbarrier_wait(shared.full[place.slot], place.parity);", replace: "" },
  { ...sm90, name: "wgmma: the fetcher does not wait for an empty slot", find: "mbarrier_wait(shared.empty[place.slot], place.parity ^ 1);", replace: "" },
  { ...sm90, name: "wgmma: the fetcher starts in the wrong phase", find: "mbarrier_wait(shared.empty[place.slot], place.parity ^ 1);", replace: "mbarrier_wait(shared.empty[place.slot], place.parity);" },
  { ...sm90, name: "wgmma: the readers start in the wrong phase", find: "mbarrier_wait(shared.full[place.slot], place.parity);", replace: "mbarrier_wait(shared.full[place.slot], place.parity ^ 1);" },
  { ...sm90, name: "wgmma: too few bytes are announced", find: "shared.full[place.slot], Tile::kSlotBytes)", replace: "shared.full[place.slot], Tile::kWeightBytes)" },
  { ...sm90, name: "wgmma: an empty slot counts one warpgroup's warps", find: "Tile::kWarpgroups * 4);", replace: "4);" },
  { ...sm90, name: "wgmma: an empty slot waits for one warp of each warpgroup", find: "Tile::kWarpgroups * 4);", replace: "Tile::kWarpgroups);" },
  { ...sm90, name: "wgmma: the first split's sums are lost", find: "for (int32_t split = 0; split < p.splits; ++split) {", replace: "for (int32_t split = 1; split < p.splits; ++split) {" },
  { ...sm90, name: "wgmma: a split says that it is done before all its threads are", cases: "decode from one row", find: "  sync_warpgroup<0>();\n  if (thread == 0) {", replace: "  if (thread == 0) {", build: "thread" },
  { ...prefill, name: "attention: a row sees the one after it", cases: "", find: "a.causal ? row : length - 1, a.causal ? row + 8 :", replace: "a.causal ? row + 1 : length - 1, a.causal ? row + 9 :" },
  { ...prefill, name: "attention: a slot is filled before all have left it", cases: "", find: "sync_threads();  // all have left the slots that are filled next", replace: "" },
  { ...prefill, name: "attention: a slot is filled before all have their queries", cases: "", find: "sync_threads();  // all have their queries", replace: "" },
  { ...prefill, name: "attention: the sums' keys are read before they are there", cases: "column sums", find: "copy_async_wait<Tile::kSlots - 2>();", replace: "copy_async_wait<Tile::kSlots - 1>();" },
  { ...prefill, name: "attention: column sums stop one column short", cases: "", find: "(seen < end_column ? seen : end_column) - first_column : 0", replace: "(seen < end_column ? seen : end_column) - first_column - 1 : 0" },
  { ...decode, name: "decode attention: keys are read before they are there", find: "copy_async_wait<Tile::kStages - 1>();", replace: "copy_async_wait<Tile::kStages>();" },
  { ...decode, name: "decode attention: a stage is filled while it is read", find: "fetch(step + Tile::kStages - 1);", replace: "fetch(step + Tile::kStages);" },
  { ...decode, name: "decode attention: the new row is read from the pages", find: "? newest - first : kDecodeSplit;", replace: "? newest - first + 1 : kDecodeSplit;" },
  { ...decode, name: "decode attention: the new row goes where another lies", find: "store_chunk(place(cached, 1), v);", replace: "store_chunk(place(cached - 1, 1), v);" },
  { ...decode, name: "decode attention: states are merged before they are there", cases: "decode over", find: "  sync_threads();\n  float high = shared.high[0];", replace: "  float high = shared.high[0];" },
  { ...select, name: "select: one token too many at the cut", cases: "", find: "kept[i] = rank < s.keep;", replace: "kept[i] = rank <= s.keep;" },
  { ...select, name: "select: ties go to the higher index", cases: "", find: "scores[j] == own && j < i", replace: "scores[j] == own && j > i" },
];

const sanitizers = { address: ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"], thread: ["-fsanitize=thread"] };
const defines = { address: ["-DHIMAP_SIMT_ASAN"], thread: ["-DHIMAP_SIMT_TSAN"] };
const common = ["-std=c++17", "-g1", "-w"];

function compile(args: readonly string[]): void {
  const result = spawnSync(compiler, [...args], { cwd: root, encoding: "utf8" });
  assert.is(result.status, 0, result.stderr);
}

/** Objects of the machine for one kind of build; built once. */
const machines = new Map<string, string[]>();
function machine(build: Bug["build"]): string[] {
  const key = build ?? "plain";
  let objects = machines.get(key);
  if (!objects) {
    objects = ["async", "context", "launch", "machine", "twins"].map((name) => {
      const object = path.join(work, `${key}-${name}.o`);
      compile([...common, "-O2", "-I.", ...(build ? defines[build] : []), "-c", `kernels/simt/${name}.cc`, "-o", object]);
      return object;
    });
    machines.set(key, objects);
  }
  return objects;
}

const flagsOf = (build: Bug["build"]): readonly string[] => (build ? ["-O1", ...sanitizers[build]] : ["-O0"]);

/** Objects of launchers as they are; built once for each kind of build. */
const launcherObjects = new Map<string, string>();
function launcher(name: string, build: Bug["build"]): string {
  const key = `${build ?? "plain"}-${path.basename(name)}`;
  let object = launcherObjects.get(key);
  if (!object) {
    object = path.join(work, `${key}.o`);
    compile([...common, ...flagsOf(build), "-I.", "-xc++", "-c", path.join("kernels", name), "-o", object]);
    launcherObjects.set(key, object);
  }
  return object;
}

/** Compiles the bug's test, quickly rather than well, against `kernels`' copy in `folder` and runs it in every way until one finds something. */
function found(bug: Bug, folder: string): SpawnSyncReturns<string> | undefined {
  const program = path.join(folder, "program");
  compile([...common, ...flagsOf(bug.build), `-I${folder}`, "-I.", "-o", program, "-xc++",
    path.join("test", "native", `test_${bug.area}.cc`), ...bug.launchers.map((name) => path.join(folder, "kernels", name)),
    "-xnone", ...(bug.untouched ?? []).map((name) => launcher(name, bug.build)), ...machine(bug.build), "-lpthread"]);
  for (const copies of ["late", "early"]) {
    for (const products of bug.untouched ? ["early", "late"] : ["early"]) {
      for (const order of bug.build ? ["random"] : ["forward", "random", "reverse"]) {
        const env = {
          ...process.env, HIMAP_SIMT_ORDER: order, HIMAP_SIMT_COPIES: copies, HIMAP_SIMT_PRODUCTS: products, HIMAP_SIMT_THREADS: "4",
        };
        const result = spawnSync(program, [bug.cases], { env, encoding: "utf8", timeout: 120_000 });
        if (result.status !== 0) return result;
      }
    }
  }
  return undefined;
}

rmSync(work, { recursive: true, force: true });
mkdirSync(work, { recursive: true });
for (const [index, bug] of bugs.entries()) {
  test(bug.name, () => {
    const folder = path.join(work, String(index));
    cpSync(path.join(root, "kernels"), path.join(folder, "kernels"), { recursive: true });
    const file = path.join(folder, "kernels", bug.file);
    const source = readFileSync(file, "utf8");
    assert.is(source.split(bug.find).length, 2, `${bug.file} must hold exactly once: ${bug.find}`);
    writeFileSync(file, source.replace(bug.find, bug.replace));
    const result = found(bug, folder);
    assert.ok(result, "no run of the tests found the bug");
    const output = `${result!.stdout}${result!.stderr}`;
    // The runtime finds the lines of some objects, and of all of them the functions.
    if (bug.build === "thread") assert.match(output, /WARNING: ThreadSanitizer: data race[\s\S]*(kernels\/linear\/linear\.cuh|sm90_linear_merge)/);
    if (bug.build === "address") assert.match(output, /ERROR: AddressSanitizer/);
    rmSync(folder, { recursive: true });
  });
}

test.run();
