#!/bin/sh
# Builds and checks the CUDA side with a compiler, CMake and nvcc; no Node.
#
#   scripts/cuda.sh compile   every kernel for every target, and what ptxas said of it; needs no card
#   scripts/cuda.sh test      compile, then on the card: wrapper conformance first, then every kernel's cases, then the
#                             same under compute-sanitizer where that exists
#
# HIMAP_CUDA_BUILD names the build folder (build/cuda), HIMAP_CUDA_ARCHITECTURES the targets (CMake's words for them).
set -eu
cd "$(dirname "$0")/.."
command=${1:-}
build=${HIMAP_CUDA_BUILD:-build/cuda}

need() {
  command -v "$1" > /dev/null 2>&1 || { echo "himap: $1 was not found; $2" >&2; exit 3; }
}

compile() {
  need cmake "install CMake 3.18 or newer"
  need nvcc "install the CUDA toolkit, 12.0 or newer, and put nvcc on the PATH"
  started=$(date +%s)
  cmake -S . -B "$build" -DHIMAP_ADDON=OFF -DHIMAP_TESTS=ON -DHIMAP_CUDA=ON \
    ${HIMAP_CUDA_ARCHITECTURES:+"-DHIMAP_CUDA_ARCHITECTURES=$HIMAP_CUDA_ARCHITECTURES"} > "$build.log" 2>&1 ||
    { cat "$build.log" >&2; exit 1; }
  cmake --build "$build" --parallel "$(getconf _NPROCESSORS_ONLN)" --target "$@" >> "$build.log" 2>&1 ||
    { cat "$build.log" >&2; exit 1; }
  echo "compiled in $(($(date +%s) - started)) s"
  find "$build" -name '*.ptxas' -path '*himap_kernels_on_card*' -exec cat {} + | awk -f scripts/ptxas-lint.awk
}

case $command in
  compile)
    mkdir -p "$build"
    compile himap_card
    ;;
  test)
    mkdir -p "$build"
    compile himap_card_tests
    need nvidia-smi "a card and NVIDIA's driver are needed to run the tests; \`scripts/cuda.sh compile\` needs neither"
    nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
    status=0
    # The wrappers first: without them no other result means anything.
    for program in "$build"/card-tests/test_wrappers $(ls "$build"/card-tests/test_* | grep -v /test_wrappers); do
      echo "== $program"
      "$program" || status=1
      if command -v compute-sanitizer > /dev/null 2>&1; then
        for tool in memcheck racecheck synccheck; do
          compute-sanitizer --tool "$tool" --error-exitcode 1 --print-limit 5 "$program" > "$build/$tool.log" 2>&1 ||
            { echo "== compute-sanitizer $tool"; tail -40 "$build/$tool.log"; status=1; }
        done
      else
        echo "compute-sanitizer was not found: not run"
      fi
    done
    exit $status
    ;;
  *)
    sed -n '2,9s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac
