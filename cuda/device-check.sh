#!/usr/bin/env bash
# What only a GPU can show, with the beit binary and python3 (torch for `peer`); no Rust.
#   cuda/device-check.sh correctness|speed|peer [OUT]
# BEIT is the binary (target/release/beit). Each section writes OUT/SECTION.txt and OUT/SECTION.json,
# ends within eight minutes (what is left then is named and fails), can be repeated alone, and prints a
# short table last. TOKENIZER and DATA, if set, are a trained tokenizer and images: `correctness` then
# compares tokens in bf16 and f32. With DRY=1 the sizes are the smallest: for a trial on the emulator,
# whose times mean nothing.
set -euo pipefail
cd "$(dirname "$0")/.."
section=${1:-}
out=${2:-.}
beit=${BEIT:-target/release/beit}
dry=${DRY:-}
case $section in correctness | speed | peer) ;; *) sed -n '2,9s/^# //p' "$0" >&2; exit 2 ;; esac
mkdir -p "$out"
log=$out/$section.txt
json=$out/$section.json
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
{
  date -u +%FT%TZ
  git rev-parse HEAD 2>/dev/null || true
  "$beit" --version
  nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>/dev/null || echo "no nvidia-smi"
} >"$log"
rows=()
failed=0

# row NAME COMMAND...: runs it in what is left of the section's time, output to the log, and notes how it
# went.
row() {
  local name=$1 start=$SECONDS state=ok left=$((470 - SECONDS))
  shift
  echo "== $*" >>"$log"
  if [ "$left" -gt 0 ]; then
    timeout "$left" "$@" >>"$log" 2>&1 || { state="FAILED ($?)"; failed=1; }
  else
    state="NO TIME LEFT"
    failed=1
  fi
  rows+=("$(printf '%-44s %-12s %4ds' "$name" "$state" $((SECONDS - start)))")
}
skip() { rows+=("$(printf '%-44s skipped: %s' "$1" "$2")"); }

correctness() {
  row "gradients in f64 against differences" "$beit" gradcheck ${dry:+layer_norm} --device cuda
  local tokens=()
  [ -z "${TOKENIZER:-}" ] || tokens=(--tokenizer "$TOKENIZER" --data "${DATA:?images for TOKENIZER}")
  row "f64, f32, bf16 against CPU f64" "$beit" gradcheck ${dry:+layer_norm} --device cuda --parity \
    --json "$json" "${tokens[@]}"
  grep -h "agree on\|kernels: up to" "$log" | while read -r line; do echo "  $line"; done
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
  row "ops" "$beit" bench ops --device cuda --preset $preset --batch $many --json "$work/ops.json"
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

# torch NAME FILE SCRIPT ARGUMENTS...: a peer at this preset and batch; its last line is JSON.
torch() {
  local name=$1 file=$2
  shift 2
  if ! python3 -c "import torch" 2>/dev/null; then
    skip "$name" "python3 has no torch"
    return
  fi
  # shellcheck disable=SC2016 # expanded by the inner shell
  row "$name" sh -c 'file=$1; shift; python3 "$@" | tail -n 1 | tee "$file"' sh "$file" "$@" \
    --device $device --dtype $dtype --config "$preset" --batch "$batch"
  [ ! -s "$file" ] || files+=("$file")
}

peer() {
  local sizes=("base 256" "large 128") dtype=bfloat16 device=cuda
  [ -z "$dry" ] || { sizes=("tiny 2"); device=cpu; dtype=float32; }
  for size in "${sizes[@]}"; do
    read -r preset batch <<<"$size"
    step --device cuda --preset "$preset" --batch "$batch" --steps 10
    row "attention $preset $batch" "$beit" bench ops attention --device cuda --preset "$preset" \
      --batch "$batch" --json "$work/attention-$preset.json"
    [ ! -f "$work/attention-$preset.json" ] || files+=("$work/attention-$preset.json")
    torch "SDPA with bias $preset $batch" "$work/sdpa-$preset.json" benches/peers/torch_attention.py
    for mode in "" --compile; do
      [ -z "$dry" ] || [ -z "$mode" ] || continue
      torch "torch $preset $batch $mode" "$work/torch-$preset$mode.json" benches/peers/torch_step.py \
        --steps 10 $mode
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
        best = ", ".join(f"{c['name']} {c['best']:.0f} {c['unit']}" for c in r["ceilings"])
        print(f"{r['preset']} at {r['batch']} on {r['device']}: {best}")
        for o in r["rows"]:
            print(f"  {o['case']:<44} {o['direction']:<8} {1e6 * o['timing']['median_s']:>10.1f} us  "
                  f"{o['of_roof']:.2f} of {o['bound']}")
    elif "step_ms" in r:
        print(f"beit {r['preset']:<6} batch {r['batch']:>4} {r['images_per_s']:>9.1f} images/s, "
              f"{r['fraction_of_matmul']:.2f} of matmul, {r['device'][:40]}")
    elif r.get("op") == "attention":
        print(f"torch {r['config']:<6} batch {r['batch']:>4} SDPA with bias {1e3 * r['forward_ms']:.1f} us forward, "
              f"{1e3 * r['forward_backward_ms']:.1f} us with backward")
    else:
        print(f"torch {r['config']:<6} batch {r['batch']:>4} {r['images_per_s']:>9.1f} images/s, "
              f"{r['dtype']}{', compiled' if r['compile'] else ''}")
ours = {(r["preset"], r["batch"]): r["images_per_s"] for r in runs
        if "preset" in r and "step_ms" in r and not r["emulated"]}
for key, rate in ours.items():
    theirs = [r["images_per_s"] for r in runs if "images_per_s" in r and (r.get("config"), r["batch"]) == key]
    if theirs:
        print(f"{key[0]} at {key[1]}: {rate / max(theirs):.2f} times the faster of PyTorch's")
for r in runs:
    # Ours by op, theirs together: forward and backward with the gradient of the bias.
    if "rows" in r and not r.get("emulated"):
        own = sum(1e6 * o["timing"]["median_s"] for o in r["rows"]
                  if o["case"].startswith("attention/") and not o["case"].endswith("_fixed_bias"))
        for t in runs:
            if t.get("op") == "attention" and (t["config"], t["batch"]) == (r["preset"], r["batch"]):
                print(f"attention, {t['config']} at {t['batch']}: SDPA takes {1e3 * t['forward_backward_ms'] / own:.2f} times as long")
PYTHON
fi
printf '%s\n' "${rows[@]}" | tee -a "$log"
exit $failed
