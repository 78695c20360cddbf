#!/bin/sh
# Builds, checks and measures the CUDA side with a compiler, CMake and nvcc; no Node.
#
#   scripts/cuda.sh compile          every kernel for every target, and what ptxas said of it: registers, shared memory and
#                                    predicted occupancy; needs no card
#   scripts/cuda.sh test             compile, then on the card: wrapper conformance first, then every kernel's cases, then the
#                                    same under compute-sanitizer where that exists
#   scripts/cuda.sh bench [--short]  compile, then on the card: ceilings, the engine end to end, every kernel, cuBLASLt and
#                                    Hugging Face transformers beside them where they are installed
#   scripts/cuda.sh all [--short]    compile, test, bench: made to end within nine and a half minutes (docs/performance.md has the sum)
#
# On a card it ends after HIMAP_CUDA_SECONDS (570), counted from its start, whatever hangs: then tests and sanitizer stop when the
# bench still has 58 % of them, and what was cut short is listed at the end.
#
# HIMAP_CUDA_BUILD names the build folder (build/cuda), HIMAP_CUDA_ARCHITECTURES the targets (CMake's words for them; unset,
# `compile` takes all that ship and the others what the card runs of them), HIMAP_BENCH_RESULTS the folder of the results
# (bench/results), HIMAP_CUBLASLT a libcublasLt.so, HIMAP_PYTHON the Python that has torch (python3). What follows `bench` or
# `all` goes to the bench (bench/cuda/options.cc).
set -eu
cd "$(dirname "$0")/.."
command=${1:-}
[ $# -eq 0 ] || shift
build=${HIMAP_CUDA_BUILD:-build/cuda}
results=${HIMAP_BENCH_RESULTS:-bench/results}
python=${HIMAP_PYTHON:-python3}
targets=${HIMAP_CUDA_ARCHITECTURES:-}
limit=${HIMAP_CUDA_SECONDS:-570}
deadline=$(($(date +%s) + limit))
tests_until=$deadline
unfinished=
. scripts/cuda/check.sh
. scripts/cuda/measure.sh

# Runs a command for at most $1 s, and not past the time $2. 124: it did not end, or had no time to begin.
limited() {
  seconds=$(($2 - $(date +%s)))
  [ $seconds -lt "$1" ] || seconds=$1
  shift 2
  [ "$seconds" -gt 0 ] || return 124
  timeout -k 5 "$seconds" "$@"
}

# Tells of what did not come to its end for want of time, now and at the end.
cut_short() {
  echo "$1: cut short"
  unfinished="$unfinished
  $1"
}

finish() {
  [ -z "$unfinished" ] || echo "cut short, to end after $limit s:$unfinished"
  exit "$1"
}

need() {
  command -v "$1" > /dev/null 2>&1 || { echo "himap: $1 was not found; $2" >&2; exit 3; }
}

# What a card's own tests and times need: one of the targets that ship instead of all.
need_card() {
  need nvidia-smi "a card and NVIDIA's driver are needed here; \`scripts/cuda.sh compile\` needs neither"
  nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
  [ -n "$targets" ] || case $(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -n 1) in
    8.*) targets=80-real ;;
    9.0) targets=90a-real ;;
  esac
}

compile() {
  need cmake "install CMake 3.18 or newer"
  need c++filt "install binutils"
  need nvcc "install the CUDA toolkit, 12.0 or newer, and put nvcc on the PATH"
  started=$(date +%s)
  linted=0
  mkdir -p "$build"
  option=-UHIMAP_CUDA_ARCHITECTURES # what ships, whatever was built here before
  [ -z "$targets" ] || option=-DHIMAP_CUDA_ARCHITECTURES=$targets
  generator= # CMake's own, or Ninja where only that is there
  if ! command -v make > /dev/null 2>&1 && command -v ninja > /dev/null 2>&1; then generator=-GNinja; fi
  # shellcheck disable=SC2086 # of no generator there is no argument
  cmake $generator -S . -B "$build" -DHIMAP_ADDON=OFF -DHIMAP_TESTS=ON -DHIMAP_CUDA=ON "$option" > "$build.log" 2>&1 ||
    { cat "$build.log" >&2; exit 1; }
  cmake --build "$build" --parallel "$(getconf _NPROCESSORS_ONLN)" --target "$@" himap_kernel_shapes >> "$build.log" 2>&1 ||
    { cat "$build.log" >&2; exit 1; }
  echo "compiled in $(($(date +%s) - started)) s"
  {
    "$build/kernels/simt/himap_kernel_shapes"
    find "$build" -name '*.ptxas' -path '*himap_kernels_on_card*' -exec cat {} +
  } | c++filt | awk -f scripts/ptxas-lint.awk || linted=1
}

# What ptxas found fails the command, at its end: on a card the rest is worth knowing all the same.
case $command in
  compile)
    compile himap_card
    exit $linted
    ;;
  test)
    need_card
    compile himap_card_tests
    ended_with=$linted
    check || ended_with=1
    finish $ended_with
    ;;
  bench)
    need_card
    compile card_bench
    ended_with=$linted
    measure "$@" || ended_with=1
    finish $ended_with
    ;;
  all)
    tests_until=$((deadline - limit * 58 / 100))
    need_card
    compile himap_card_tests card_bench
    ended_with=$linted
    check || ended_with=1
    measure "$@" || ended_with=1
    finish $ended_with
    ;;
  *)
    sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac
