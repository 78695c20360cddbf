# Part of scripts/cuda.sh: the bench, with its rivals where they are installed.
rival_seconds=150 # for transformers; what it has printed by then counts

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

# The command that runs transformers. It is the bench's last, so how long it may take is known only when it begins; 25 s are kept
# for its end and the bench's. It imports torch within that time: here both are only looked for.
rival_command() {
  "$python" -c 'from importlib.util import find_spec as find; exit(not (find("torch") and find("transformers")))' > /dev/null 2>&1 ||
    return 0
  echo "seconds=\$(($deadline - 25 - \$(date +%s))); [ \$seconds -gt 0 ] || exit 124;" \
    "[ \$seconds -lt $rival_seconds ] || seconds=$rival_seconds;" \
    "timeout -k 5 \$((seconds + 15)) $python bench/cuda/rivals/hf_llava.py --seconds \$seconds $1 2> $build/rival.log"
}

measure() {
  started=$(date +%s)
  HIMAP_CUBLASLT=${HIMAP_CUBLASLT:-$(find_cublaslt)}
  HIMAP_BENCH_COMMIT=$(git rev-parse --short HEAD 2> /dev/null || echo unknown)
  export HIMAP_CUBLASLT HIMAP_BENCH_COMMIT
  case " $* " in *" --short "*) short=--short ;; *) short= ;; esac
  mkdir -p "$results"
  card=$(nvidia-smi --query-gpu=name --format=csv,noheader | head -n 1 | tr 'A-Z' 'a-z' | tr -cs 'a-z0-9\n' '-')
  file=$results/cuda-$card-$(date -u +%Y%m%dT%H%M%SZ).json
  ended=0
  limited "$limit" "$deadline" "$build/himap_bench_cuda" --json "$file" --rival "$(rival_command "$short")" "$@" || ended=$?
  case $ended in 124 | 137) cut_short "the bench" ;; esac
  echo
  echo "measured in $(($(date +%s) - started)) s; results in $file"
  return $ended
}
