#!/usr/bin/env bash
# What only a GPU can show, with the beit binary and python3 (torch for `peer`); no Rust.
#   cuda/device-check.sh correctness|speed|peer [OUT]
# BEIT is the binary (target/release/beit). Each section writes OUT/SECTION.txt and OUT/SECTION.json,
# ends within eight minutes, can be repeated alone, and prints a short table last. With DRY=1 the sizes
# are the smallest: for a trial on the emulator, whose times mean nothing.
set -euo pipefail
cd "$(dirname "$0")/.."
section=${1:-}
out=${2:-.}
beit=${BEIT:-target/release/beit}
dry=${DRY:-}
case $section in correctness | speed | peer) ;; *) sed -n '2,7s/^# //p' "$0" >&2; exit 2 ;; esac
mkdir -p "$out"
log=$out/$section.txt
json=$out/$section.json
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
{
  date -u +%FT%TZ
  git rev-parse HEAD 2>/dev/null || true
  nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>/dev/null || echo "no nvidia-smi"
} >"$log"
rows=()
failed=0

# row NAME COMMAND...: runs it, output to the log, and notes how it went.
row() {
  local name=$1 start=$SECONDS state=ok
  shift
  echo "== $*" >>"$log"
  timeout 470 "$@" >>"$log" 2>&1 || { state="FAILED ($?)"; failed=1; }
  rows+=("$(printf '%-44s %-12s %4ds' "$name" "$state" $((SECONDS - start)))")
}
skip() { rows+=("$(printf '%-44s skipped: %s' "$1" "$2")"); }

correctness() {
  row "gradients in f64 against differences" "$beit" gradcheck ${dry:+layer_norm} --device cuda
  row "f64, f32, bf16 against CPU f64" "$beit" gradcheck ${dry:+layer_norm} --device cuda --parity --json "$json"
  for i in 1 2; do
    row "tokenizer, run $i" "$beit" train-tokenizer --device cuda --data synthetic:16 --batch 2 \
      --epochs 1 --out "$work/t$i"
  done
  row "two runs, the same bytes" cmp "$work/t1/model.safetensors" "$work/t2/model.safetensors"
  local step=("$beit" bench step --device cuda --preset tiny --batch 2 --steps 1 --tokenizer)
  for tool in memcheck racecheck; do
    if command -v compute-sanitizer >/dev/null; then
      row "compute-sanitizer $tool" compute-sanitizer --tool "$tool" --error-exitcode 9 "${step[@]}"
    else
      skip "compute-sanitizer $tool" "not installed"
    fi
  done
}

# A whole step; its JSON is kept.
step() {
  local file=$work/$SECONDS-${#rows[@]}.json
  row "step $*" "$beit" bench step "$@" --json "$file"
  [ ! -f "$file" ] || files+=("$file")
}
files=()

speed() {
  local preset=base batches=(64 128 256) many=256
  [ -z "$dry" ] || { preset=tiny; batches=(1); many=1; }
  row "ops" "$beit" bench device --preset $preset --batch $many --json "$work/ops.json"
  files+=("$work/ops.json")
  for batch in "${batches[@]}"; do
    step --device cuda --preset $preset --batch "$batch" --steps 10
    step --device cuda --preset $preset --batch "$batch" --steps 10 --tokenizer
  done
  if [ -z "$dry" ]; then
    step --device cuda --preset large --batch 64 --steps 10
    step --device cuda --preset large --batch 128 --steps 10
    step --device cuda --precision f32 --preset base --batch 64 --steps 5
    step --device cuda --preset tiny --batch 64 --steps 20
    step --device cpu --preset base --batch 8 --steps 3
  fi
  step --device cpu --preset tiny --batch 64 --steps 2
}

peer() {
  local sizes=("base 256" "large 128") dtype=bfloat16 device=cuda
  [ -z "$dry" ] || { sizes=("tiny 2"); device=cpu; dtype=float32; }
  for size in "${sizes[@]}"; do
    read -r preset batch <<<"$size"
    step --device cuda --preset "$preset" --batch "$batch" --steps 10
    for mode in "" --compile; do
      [ -z "$dry" ] || [ -z "$mode" ] || continue
      local name="torch $preset $batch $mode" file=$work/torch-$preset$mode.json
      if python3 -c "import torch" 2>/dev/null; then
        row "$name" sh -c 'python3 benches/peers/torch_step.py "$@" | tail -n 1 | tee '"'$file'" sh \
          --device $device --dtype $dtype --config "$preset" --batch "$batch" --steps 10 $mode
        files+=("$file")
      else
        skip "$name" "python3 has no torch"
      fi
    done
  done
}

$section
if [ ${#files[@]} -gt 0 ]; then
  python3 - "$json" "${files[@]}" <<'PYTHON' | tee -a "$log"
import json, sys
runs = [json.load(open(f)) for f in sys.argv[2:] if open(f).read().strip()]
json.dump(runs, open(sys.argv[1], "w"), indent=1)
if any(r.get("emulated") for r in runs):
    print("ON THE EMULATOR: these times say nothing about a GPU")
for r in runs:
    if "rows" in r:
        print(f"{r['device']} {r['precision']}: matmul {r['matmul_tflops']:.0f} TFLOP/s, copy {r['copy_gbps']:.0f} GB/s")
        for o in r["rows"]:
            print(f"  {o['op']:<30} {o['us']:>10.1f} us  {o['fraction']:.2f} of {o['ceiling']}")
    elif "step_ms" in r:
        print(f"beit {r['preset']:<6} batch {r['batch']:>4} {r['images_per_s']:>9.1f} images/s, "
              f"{r['fraction_of_matmul']:.2f} of matmul, {r['device'][:40]}")
    else:
        print("torch", {k: r[k] for k in r if k in ("config", "batch", "dtype", "compile", "images_per_s", "img_per_s")})
PYTHON
fi
printf '%s\n' "${rows[@]}" | tee -a "$log"
exit $failed
