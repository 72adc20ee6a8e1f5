#!/usr/bin/env bash
# Segmentation of drawn scenes with the preset `tiny`, per seed, under one budget: from an encoder that was pretrained
# on drawn scenes as the demo does, without their masks, and from nothing. The best weights are chosen on scenes of
# the training part that are kept out; the figures are those of 1,024 scenes that no run has seen.
#
#   benches/segment_scenes.sh OUT [SEED...]      (three seeds when none is named: 0 1 2)
#
# An interrupted run goes on when the same command is given again. Set BEIT to use a binary that is built already,
# THREADS to limit threads, STEPS for another budget.
set -euo pipefail
[ $# -ge 1 ] || { sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 2; }
out=$1
shift
[ $# -gt 0 ] || set -- 0 1 2
threads=(--threads "${THREADS:-0}")
steps=(${STEPS:+--steps "$STEPS"})
if [ -z "${BEIT:-}" ]; then
  cargo build --release --locked --manifest-path "$(dirname "$0")/../Cargo.toml"
  BEIT=$(dirname "$0")/../target/release/beit
fi

mkdir -p "$out"
for seed; do
  run=$out/seed$seed
  mkdir -p "$run"
  common=(--resume --seed "$seed" "${threads[@]}")
  "$BEIT" train-tokenizer --data synthetic:4096 --epochs 5 --out "$run/tokenizer" "${common[@]}"
  "$BEIT" pretrain --data synthetic:4096 --epochs 7 --tokenizer "$run/tokenizer" --out "$run/beit" "${common[@]}"
  "$BEIT" segment-train --model "$run/beit" --train synthetic:4096 --out "$run/pretrained" "${steps[@]}" "${common[@]}"
  "$BEIT" segment-train --model scratch --train synthetic:4096 --set layer_decay=1 --out "$run/scratch" "${steps[@]}" \
    "${common[@]}"
  for name in pretrained scratch; do
    [ -e "$run/$name/test.json" ] ||
      "$BEIT" evaluate --model "$run/$name" --data synthetic:1024 --json "$run/$name/test.json" "${threads[@]}"
  done
done

python3 - "$out" "$@" <<'PYTHON'
import json, math, sys
out, seeds = sys.argv[1], sys.argv[2:]
read = lambda seed, name: json.load(open(f"{out}/seed{seed}/{name}/test.json"))["figures"]
seconds = lambda seed, name: json.load(open(f"{out}/seed{seed}/{name}/summary.json"))["seconds"]
print("seed  mIoU pretrained  mIoU scratch   ahead   seconds pretrained  scratch")
ahead = []
for seed in seeds:
    a, b = (read(seed, name)["miou"] for name in ("pretrained", "scratch"))
    ahead.append(a - b)
    print(f"{seed:>4}  {a:15.3f}  {b:12.3f}  {a - b:+.3f}   {seconds(seed, 'pretrained'):18.0f}"
          f"  {seconds(seed, 'scratch'):7.0f}")
n, mean = len(ahead), sum(ahead) / len(ahead)
T = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}
half = "" if n < 2 else " ± {:.3f} (95 % over seeds)".format(
    T.get(n, 2.6) * math.sqrt(sum((x - mean) ** 2 for x in ahead) / (n - 1) / n))
print(f"mean margin {mean:+.3f}{half}")
PYTHON
