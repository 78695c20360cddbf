// scripts/cuda.sh on a machine with a card, of which every tool is a stand-in but the bench: that is the SIMT machine's.

import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { test } from "uvu";
import * as assert from "uvu/assert";

const root = fileURLToPath(new URL("../..", import.meta.url));
const programs = path.join(root, "build", "native-tests");

interface Machine {
  args: string[];
  /** Test programs beside the wrappers', by name: what they do. */
  tests?: Record<string, string>;
  /** The sanitizer's version, and how it calls its filter. */
  sanitizer: string;
  filter?: string;
  seconds?: number;
}

/** Runs the script on such a machine. The sanitizer finds a race in test_broken, and one in Hopper's kernels of test_wrappers. */
function cudaSh(machine: Machine) {
  const folder = mkdtempSync(path.join(tmpdir(), "himap-card-"));
  try {
    const script = (name: string, text: string): void => {
      mkdirSync(path.dirname(path.join(folder, name)), { recursive: true });
      writeFileSync(path.join(folder, name), `#!/bin/sh\n${text}\n`, { mode: 0o755 });
    };
    script("bin/cmake", 'echo "$@" >> "$0.calls"');
    script("bin/nvcc", "");
    script("bin/nvidia-smi", 'case "$1" in *compute_cap*) echo 9.0 ;; *=name) echo "NVIDIA H100 80GB HBM3" ;; *) echo "NVIDIA H100 80GB HBM3, 580, 81559 MiB" ;; esac');
    script("bin/compute-sanitizer", `case "$*" in
      --version) echo "NVIDIA (R) Compute Sanitizer"; echo "Version ${machine.sanitizer}.1.0 (build 1)"; exit ;;
      --help) echo "  ${machine.filter ?? "--kernel-name"}-exclude arg"; exit ;;
    esac
    echo "$@" >> "$0.calls"
    case "$2 $*" in
      "racecheck "*-exclude*test_broken) echo "a race"; exit 1 ;;
      "racecheck "*-exclude*) ;;
      "racecheck "*test_wrappers) echo "an alarm"; exit 1 ;;
      "synccheck "*) exit 124 ;;
    esac`);
    script("bin/python", `case "$2" in
      *print*) echo ${folder}/site/nvidia/*/lib ;;
      *) [ "$1" = -c ] || printf 'result\\tfirst_token\\t1\\t12\\t%s\\t5\\n' "$*" ;;
    esac`);
    mkdirSync(path.join(folder, "site/nvidia/cu13/lib"), { recursive: true });
    symlinkSync(path.join(programs, "cublaslt_twin.so"), path.join(folder, "site/nvidia/cu13/lib/libcublasLt.so.13"));
    script("build/card-tests/test_wrappers", "echo ran wrappers");
    for (const [name, text] of Object.entries(machine.tests ?? {})) script(`build/card-tests/${name}`, text);
    script("build/kernels/simt/himap_kernel_shapes", "echo shape 128 1024 f");
    script("build/himap_bench_cuda", `exec '${programs}/bench_cuda_on_host' --tiny --backend shim --library '${programs}' "$@"`);
    mkdirSync(path.join(folder, "build/himap_kernels_on_card"));
    writeFileSync(path.join(folder, "build/himap_kernels_on_card/one.ptxas"),
      "ptxas info : Compiling entry function 'f' for 'sm_90a'\nptxas info : Used 32 registers\n");
    const { status, stdout, stderr } = spawnSync(path.join(root, "scripts", "cuda.sh"), machine.args, {
      encoding: "utf8",
      env: {
        ...process.env, PATH: `${folder}/bin:${process.env["PATH"]}`, HIMAP_CUDA_BUILD: `${folder}/build`, HIMAP_BENCH_RESULTS: `${folder}/results`,
        HIMAP_PYTHON: `${folder}/bin/python`, HIMAP_CUBLASLT: "", HIMAP_CUDA_ARCHITECTURES: "",
        HIMAP_CUDA_SECONDS: String(machine.seconds ?? 570),
      },
    });
    const read = (name: string): string => (existsSync(path.join(folder, name)) ? readFileSync(path.join(folder, name), "utf8") : "");
    const files = existsSync(path.join(folder, "results")) ? readdirSync(path.join(folder, "results")) : [];
    const results = files.map((file) => [file, JSON.parse(read(`results/${file}`))] as const);
    return { status, stdout, stderr, results, cmake: read("bin/cmake.calls"), sanitized: read("bin/compute-sanitizer.calls") };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

test("all: one build, tests, sanitizer, bench", () => {
  const { status, stdout, stderr, results, cmake, sanitized } = cudaSh({
    args: ["all", "--short", "--only", "ceilings,rival"], tests: { test_broken: "echo ran broken" }, sanitizer: "2025.3",
  });
  assert.is(status, 1, `${stdout}${stderr}`); // a race was found, and the bench ran all the same
  assert.ok(stdout.indexOf("ran wrappers") < stdout.indexOf("ran broken"), "the wrappers come first");
  assert.match(stdout, /compute-sanitizer memcheck: clean\ncompute-sanitizer racecheck: clean\ncompute-sanitizer synccheck \S*test_wrappers, after \d+ s: cut short/);
  assert.match(stdout, /compute-sanitizer racecheck-sm90: findings that do not count, as this version \(2025\.3\) may raise false alarms there:\nan alarm/);
  assert.match(stdout, /compute-sanitizer racecheck: faults\na race/);
  assert.match(stdout, /^cut short, to end after 570 s:\n {2}compute-sanitizer synccheck /m);
  assert.match(sanitized, /^--tool racecheck --kernel-name-exclude kns=sm90_ .*test_broken$/m);
  assert.match(sanitized, /^--tool racecheck --kernel-name kns=sm90_ .*test_broken$/m);
  assert.match(cmake, /-DHIMAP_CUDA_ARCHITECTURES=90a-real/);
  assert.match(cmake, /--target himap_card_tests card_bench/);
  assert.is(results.length, 1);
  const [file, tables] = results[0]!;
  assert.match(file, /^cuda-nvidia-h100-80gb-hbm3-\d{8}T\d{6}Z\.json$/);
  assert.match(tables.ceilings.notes[0], /libcublasLt\.so\.13, version 0/);
  assert.match(tables.rival.rows[0].mode, /hf_llava\.py --seconds 150 --short$/);
});

test("test: an old sanitizer's alarms about mbarriers do not count, a new one's do", () => {
  const old = cudaSh({ args: ["test"], sanitizer: "2023.2", filter: "--kernel-regex" });
  assert.is(old.status, 0, `${old.stdout}${old.stderr}`);
  assert.match(old.stdout, /findings that do not count/);
  assert.match(old.sanitized, /^--tool racecheck --kernel-regex-exclude kns=sm90_ /m);
  const recent = cudaSh({ args: ["test"], sanitizer: "2026.3" });
  assert.is(recent.status, 1, `${recent.stdout}${recent.stderr}`);
  assert.match(recent.stdout, /compute-sanitizer racecheck: faults\nan alarm/);
  assert.not.match(recent.sanitized, /kns=/);
});

test("all: a test that hangs leaves the bench its share of the time", () => {
  const { status, stdout, stderr, results } = cudaSh({
    args: ["all", "--only", "ceilings,rival"], tests: { test_hangs: "sleep 300" }, sanitizer: "2026.3", seconds: 20,
  });
  assert.is(status, 1, `${stdout}${stderr}`);
  assert.match(stdout, /^cut short, to end after 20 s:\n {2}\S*test_hangs\n {2}compute-sanitizer \S*test_wrappers\n {2}compute-sanitizer \S*test_hangs\n/m);
  assert.match(stdout, /^### Ceilings of the card/m);
  assert.match(results[0]![1].rival.notes[0], /status 124: its time was up/);
});

test.run();
