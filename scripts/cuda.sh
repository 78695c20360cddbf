#!/bin/sh
# Builds, checks and measures the CUDA side with a compiler, CMake and nvcc; no Node.
#
#   scripts/cuda.sh compile          every kernel for every target, and what ptxas said of it: registers, shared memory and
#                                    predicted occupancy; needs no card
#   scripts/cuda.sh test             compile, then on the card: wrapper conformance first, then every kernel's cases, then the
#                                    same under compute-sanitizer where that exists
#   scripts/cuda.sh bench [--short]  compile, then on the card: ceilings, the engine end to end, every kernel, cuBLASLt and
#                                    Hugging Face transformers beside them where they are installed
#   scripts/cuda.sh all [--short]    compile, test, bench: made to end within nine minutes (docs/performance.md has the sum)
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
program_seconds=90    # for each test program: a kernel that waits for what never comes would wait for ever
sanitizer_seconds=150 # for all programs together
bench_seconds=330     # for the bench with its rival
rival_seconds=150     # for transformers; what it has printed by then counts

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

# What is right and yet reported: a launch that the tests mean to be refused, and copies in bulk whose bytes are read after an
# mbarrier, which racecheck does not follow in a loop.
allowances() {
  case "$1 $2" in
    memcheck*) echo "--report-api-errors no" ;;
    racecheck*/test_wrappers_sm90*) echo "--kernel-regex-exclude kns=ring_kernel" ;;
  esac
}

# One program under each tool, the three at once: nothing is timed. $2: programs that are still to come.
sanitize() {
  left=$(((sanitizer_seconds - ($(date +%s) - sanitizing)) / ($2 + 1)))
  if [ $left -le 0 ]; then
    echo "compute-sanitizer: not run, as its $sanitizer_seconds s were up"
    return 0
  fi
  for tool in memcheck racecheck synccheck; do
    (
      # shellcheck disable=SC2046 # some words or none
      timeout -k 5 "$left" compute-sanitizer --tool "$tool" $(allowances "$tool" "$1") --error-exitcode 1 --print-limit 5 "$1" \
        > "$build/$tool.log" 2>&1 && echo 0 > "$build/$tool.status" || echo $? > "$build/$tool.status"
    ) &
  done
  wait
  clean=0
  for tool in memcheck racecheck synccheck; do
    case $(cat "$build/$tool.status") in
      0) echo "compute-sanitizer $tool: clean" ;;
      124 | 137) echo "compute-sanitizer $tool: not finished after $left s" ;;
      *) echo "compute-sanitizer $tool: faults"; tail -40 "$build/$tool.log"; clean=1 ;;
    esac
  done
  return $clean
}

check() {
  started=$(date +%s)
  status=0
  # The wrappers first: without them no other result means anything.
  programs="$(ls "$build"/card-tests/test_wrappers*) $(ls "$build"/card-tests/test_* | grep -v /test_wrappers)"
  for program in $programs; do
    echo "== $program"
    ended=0
    timeout -k 5 "$program_seconds" "$program" || ended=$?
    case $ended in
      0) continue ;;
      124 | 137) echo "$program: not finished after $program_seconds s" ;;
    esac
    status=1
  done
  if command -v compute-sanitizer > /dev/null 2>&1; then
    sanitizing=$(date +%s)
    # shellcheck disable=SC2086 # a word for each program
    set -- $programs
    while [ $# -gt 0 ]; do
      echo "== compute-sanitizer $1"
      sanitize "$1" $(($# - 1)) || status=1
      shift
    done
  else
    echo "compute-sanitizer was not found: not run"
  fi
  echo "tested in $(($(date +%s) - started)) s"
  return $status
}

# cuBLASLt beside the toolkit, or in Python's wheels of it.
find_cublaslt() {
  for folder in "$(dirname "$(command -v nvcc)")"/../lib64 "$(dirname "$(command -v nvcc)")"/../targets/*/lib \
    $("$python" -c 'import sys; print(*(path + "/nvidia/*/lib" for path in sys.path if path))' 2> /dev/null); do
    for library in "$folder"/libcublasLt.so.1[23]; do
      if [ -e "$library" ]; then
        echo "$library"
        return
      fi
    done
  done
}

measure() {
  started=$(date +%s)
  HIMAP_CUBLASLT=${HIMAP_CUBLASLT:-$(find_cublaslt)}
  HIMAP_BENCH_COMMIT=$(git rev-parse --short HEAD 2> /dev/null || echo unknown)
  export HIMAP_CUBLASLT HIMAP_BENCH_COMMIT
  rival=
  case " $* " in *" --short "*) short=--short ;; *) short= ;; esac
  "$python" -c 'import torch, transformers' > /dev/null 2>&1 &&
    rival="timeout -k 5 $((rival_seconds + 20)) $python bench/cuda/rivals/hf_llava.py --seconds $rival_seconds $short 2> $build/rival.log"
  mkdir -p "$results"
  card=$(nvidia-smi --query-gpu=name --format=csv,noheader | head -n 1 | tr 'A-Z' 'a-z' | tr -cs 'a-z0-9\n' '-')
  file=$results/cuda-$card-$(date -u +%Y%m%dT%H%M%SZ).json
  ended=0
  timeout -k 5 "$bench_seconds" "$build/himap_bench_cuda" --json "$file" --rival "$rival" "$@" || ended=1
  echo
  echo "measured in $(($(date +%s) - started)) s; results in $file"
  return $ended
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
    exit $ended_with
    ;;
  bench)
    need_card
    compile card_bench
    ended_with=$linted
    measure "$@" || ended_with=1
    exit $ended_with
    ;;
  all)
    need_card
    compile himap_card_tests card_bench
    ended_with=$linted
    check || ended_with=1
    measure "$@" || ended_with=1
    exit $ended_with
    ;;
  *)
    sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac
