# Reads what `nvcc -Xptxas=-v` said of each kernel and fails where one spills registers, keeps a stack, or was serialised.
# One line per kernel and target: registers, target, name. Run by scripts/cuda.sh on every OBJECT.ptxas.
/Compiling entry function/ {
  split($0, quoted, "'")
  name = quoted[2]
  target = quoted[4]
}
/bytes stack frame/ {
  if ($1 + 0 > 0 || $5 + 0 > 0 || $9 + 0 > 0) {
    printf "%s for %s: %d bytes of stack, %d spilled, %d read back\n", name, target, $1, $5, $9
    faults++
  }
}
/ptxas.*: Used [0-9]+ registers/ {
  match($0, /Used [0-9]+/)
  printf "%4d registers  %-7s %s\n", substr($0, RSTART + 5, RLENGTH - 5), target, name
  kernels++
}
# setmaxnreg ignored, wgmma serialised.
/C75(08|10|11|14)/ {
  print
  faults++
}
END {
  printf "%d kernels compiled, %d faults\n", kernels, faults
  exit (faults > 0 || kernels == 0) ? 1 : 0
}
