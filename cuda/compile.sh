#!/usr/bin/env bash
# Compiles the kernels to PTX and assembles it for the GPUs we ship for.
#   CUDA_TK=DIR cuda/compile.sh [--check]
# DIR holds bin/nvcc (README.md here says how to get it with pip). --check compares with the files in
# the tree instead of writing them. Prints registers, stack and spills of each kernel; a spill fails.
set -euo pipefail
cd "$(dirname "$0")"
here=$PWD
tk=${CUDA_TK:?set CUDA_TK to a folder with bin/nvcc, see cuda/README.md}
PATH=$tk/bin:$PATH
check=${1:-}
case $check in "" | --check) ;; *) echo "usage: CUDA_TK=DIR cuda/compile.sh [--check]" >&2; exit 2 ;; esac
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
bad=0

# settle NEW OLD: writes OLD, or says that it is stale.
settle() {
  if [ -z "$check" ]; then
    cp "$1" "$2"
  elif ! cmp -s "$1" "$2"; then
    echo "STALE: cuda/$2; run cuda/compile.sh" >&2
    bad=1
  fi
}

mkdir -p ptx
# All kernels of one precision are one module.
for kernel in *.cu; do echo "#include \"$kernel\""; done >"$work/unit.cu"
for precision in f64 f32 bf16; do
  (cd "$work" && nvcc -ptx -std=c++17 -O3 -arch=compute_80 "-DBEIT_${precision^^}" -I"$here" -o new.ptx unit.cu)
  # nvcc asks for its own version; nothing here needs more than 7.0, so older drivers can load it.
  # ptxas below refuses where that is not true. The names of what is static hold a hash of the folder.
  sed -E -e 's/^\.version .*/.version 7.0/' \
    -e 's/_INTERNAL_[0-9a-f]{8}_7_unit_cu_[0-9a-f]{8}/_INTERNAL_00000000_7_unit_cu_00000000/g' \
    "$work/new.ptx" >"$work/$precision.ptx"
  for arch in sm_80 sm_90a; do
    ptxas -v -arch="$arch" -o /dev/null "$work/$precision.ptx" 2>"$work/log" || { cat "$work/log" >&2; exit 1; }
    awk -v arch="$arch" '
      /Compiling entry function/ { gsub("\047", "", $0); for (i = 1; i <= NF; i++) if ($i == "function") name = $(i + 1) }
      /spill stores/ { stack = $1; spills = $5 + $9 }
      /Used/ { for (i = 1; i <= NF; i++) if ($i == "Used") registers = $(i + 1)
               printf "%-34s %-7s registers %3d  stack %4d  spilled bytes %d\n", name, arch, registers, stack, spills
               if (spills > 0) spilled = 1 }
      END { exit spilled }' "$work/log" || { echo "a kernel spills" >&2; bad=1; }
  done
  settle "$work/$precision.ptx" "ptx/$precision.ptx"
done
# What the files were made from; tests/cuda_sources.rs compares it with the sources, without nvcc.
sha256sum ./*.cu ./*.cuh compile.sh | sed 's|\./||' >"$work/SOURCES"
settle "$work/SOURCES" ptx/SOURCES
exit $bad
