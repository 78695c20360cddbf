# Reads what `nvcc -Xptxas=-v` said of each kernel, its names demangled, and fails where one spills registers, keeps a stack,
# was serialised, or would not fit a multiprocessor. One line per kernel and target: registers, target, shared memory and the
# blocks and warps that fit a multiprocessor, by the lines `shape THREADS BYTES NAME` (himap_kernel_shapes) that have gone
# before; then the name. Run by scripts/cuda.sh on every OBJECT.ptxas.
function least(a, b) { return a < b ? a : b }

# Blocks on a multiprocessor: registers are given to warps in units of 256, from four files of 16384; shared memory has 1 KiB
# more for each block.
function blocks_of(registers, threads, bytes, target,    warps, by_registers, room) {
  warps = threads / 32
  by_registers = int(4 * int(16384 / (int((registers * 32 + 255) / 256) * 256)) / warps)
  room = (target ~ /^sm_9/ ? 228 : 164) * 1024
  return least(least(by_registers, int(room / (bytes + 1024))), least(int(64 / warps), 32))
}

/^shape / {
  part = $0
  sub(/^shape [0-9]+ [0-9]+ /, "", part)
  threads[part] = $2
  bytes[part] = $3
  next
}
/Compiling entry function/ {
  split($0, quoted, "'")
  name = quoted[2]
  sub(/^void /, "", name)
  sub(/\(.*/, "", name)
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
  registers = substr($0, RSTART + 5, RLENGTH - 5)
  shape = ""
  for (part in threads) if (index(name, part)) shape = part
  if (shape == "") {
    printf "%s for %s: expected himap_kernel_shapes to know it\n", name, target
    faults++
  } else if (name ~ /sm90_linear/ && target != "sm_90a") {
    printf "%4d registers  %-7s %36s %s\n", registers, target, "empty: sm_90a only", name
  } else {
    fit = blocks_of(registers, threads[shape], bytes[shape], target)
    printf "%4d registers  %-7s %6.1f KiB  %2d blocks  %2d of 64 warps %s\n", registers, target, bytes[shape] / 1024, fit, fit * threads[shape] / 32, name
    if (fit < 1) {
      printf "%s for %s: not one block fits a multiprocessor\n", name, target
      faults++
    }
  }
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
