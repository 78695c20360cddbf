# Part of scripts/cuda.sh: every test program on the card, then each under compute-sanitizer.
program_seconds=90    # for each test program: a kernel that waits for what never comes would wait for ever
sanitizer_seconds=150 # for all programs together

check() {
  started=$(date +%s)
  status=0
  # The wrappers first: without them no other result means anything.
  programs="$(ls "$build"/card-tests/test_wrappers*) $(ls "$build"/card-tests/test_* | grep -v /test_wrappers)"
  for program in $programs; do
    echo "== $program"
    ended=0
    limited "$program_seconds" "$tests_until" "$program" || ended=$?
    case $ended in
      0) continue ;;
      124 | 137) cut_short "$program" ;;
    esac
    status=1
  done
  if command -v compute-sanitizer > /dev/null 2>&1; then
    know_sanitizer
    sanitizer_until=$(($(date +%s) + sanitizer_seconds))
    [ "$sanitizer_until" -lt "$tests_until" ] || sanitizer_until=$tests_until
    # shellcheck disable=SC2086 # a word for each program
    set -- $programs
    while [ $# -gt 0 ]; do
      echo "== compute-sanitizer $1"
      sanitize "$1" $# || status=1
      shift
    done
  else
    echo "compute-sanitizer was not found: not run"
  fi
  echo "tested in $(($(date +%s) - started)) s"
  return $status
}

# Racecheck and synccheck before 2026.3 may raise false alarms on mbarriers, on what completes on them and on barriers of
# warpgroups (release notes of 2025.2, 2025.4, 2026.1 and 2026.3). The kernels that have these are called sm90_SOMETHING: an
# older tool checks them in a run of their own, whose findings are shown and do not count.
know_sanitizer() {
  version=$(compute-sanitizer --version 2>&1 | sed -n 's/.*ersion \([0-9]\{4\}\.[0-9]*\).*/\1/p' | head -n 1)
  checks="memcheck racecheck synccheck"
  apart=
  if [ -z "$version" ] || [ $((${version%.*} * 100 + ${version#*.})) -lt 202603 ]; then
    checks="$checks racecheck-sm90 synccheck-sm90"
    filter=--kernel-regex # its name up to 2023.2
    ! compute-sanitizer --help 2>&1 | grep -q -e --kernel-name-exclude || filter=--kernel-name
    apart="$filter-exclude kns=sm90_"
  fi
}

options_of() {
  case $1 in
    memcheck) echo "--tool memcheck --report-api-errors no" ;; # launches that the tests mean to be refused
    *-sm90) echo "--tool ${1%-sm90} $filter kns=sm90_" ;;
    *) echo "--tool $1 $apart" ;;
  esac
}

# One program under each tool, all at once: nothing is timed. $2: programs that are still to come, this one included.
sanitize() {
  share=$(((sanitizer_until - $(date +%s)) / $2))
  if [ $share -le 0 ]; then
    cut_short "compute-sanitizer $1"
    return 0
  fi
  for check in $checks; do
    (
      # shellcheck disable=SC2046 # some words
      timeout -k 5 "$share" compute-sanitizer $(options_of "$check") --error-exitcode 1 --print-limit 5 "$1" \
        > "$build/$check.log" 2>&1 && echo 0 > "$build/$check.status" || echo $? > "$build/$check.status"
    ) &
  done
  wait
  clean=0
  for check in $checks; do
    case "$check $(cat "$build/$check.status")" in
      *" 0") echo "compute-sanitizer $check: clean" ;;
      *" 124" | *" 137") cut_short "compute-sanitizer $check $1, after $share s" ;;
      *-sm90*)
        echo "compute-sanitizer $check: findings that do not count, as this version (${version:-unknown}) may raise false alarms there:"
        tail -40 "$build/$check.log"
        ;;
      *) echo "compute-sanitizer $check: faults"; tail -40 "$build/$check.log"; clean=1 ;;
    esac
  done
  return $clean
}
