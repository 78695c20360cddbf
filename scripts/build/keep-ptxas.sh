#!/bin/sh
# Runs a compiler's command line as CMake gives it and keeps what it says on stderr in OBJECT.ptxas.
object=
previous=
for argument in "$@"; do
  [ "$previous" = -o ] && object=$argument
  previous=$argument
done
"$@" 2> "$object.ptxas"
status=$?
# Registers and spills are for the lint; everything else is for whoever builds.
grep -v '^ptxas info\|^    [0-9]* bytes stack frame' "$object.ptxas" >&2
exit $status
