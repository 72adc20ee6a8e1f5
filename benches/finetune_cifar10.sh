#!/usr/bin/env bash
# Fine-tuning on CIFAR-10 with the preset `tiny`, per seed, under one budget each: from an encoder that was
# pretrained on TRAIN without its labels, from nothing, and from a classifier of drawn scenes that was fine-tuned from
# the same encoder (intermediate fine-tuning). The best weights are chosen on images of TRAIN that are kept out;
# the figures are those of TEST.
#
#   benches/finetune_cifar10.sh TRAIN TEST OUT [SEED...]      (three seeds when none is named: 0 1 2)
#
# TRAIN and TEST are folders or binary files of CIFAR-10. An interrupted run goes on when the same command is given
# again. Set BEIT to use a binary that is built already, THREADS to limit threads, STEPS for another budget, SET for
# settings of all fine-tuning runs, as in SET="mixup=0 lr=0.001".
set -euo pipefail
[ $# -ge 3 ] || { sed -n '2,12s/^# \{0,1\}//p' "$0"; exit 2; }
train=$1 test=$2 out=$3
shift 3
[ $# -gt 0 ] || set -- 0 1 2
threads=(--threads "${THREADS:-0}")
steps=${STEPS:-2400}
read -ra changes <<<"${SET:-}"
settings=()
for change in "${changes[@]}"; do settings+=(--set "$change"); done
if [ -z "${BEIT:-}" ]; then
  cargo build --release --locked --manifest-path "$(dirname "$0")/../Cargo.toml"
  BEIT=$(dirname "$0")/../target/release/beit
fi

mkdir -p "$out"
for seed; do
  run=$out/seed$seed
  mkdir -p "$run"
  common=(--seed "$seed" "${threads[@]}")
  finetune() { # NAME MODEL TRAIN MORE...
    local name=$1 model=$2 data=$3
    shift 3
    "$BEIT" finetune --model "$model" --train "$data" --steps "$steps" --out "$run/$name" --resume \
      "${settings[@]}" "${common[@]}" "$@"
  }
  "$BEIT" train-tokenizer --data "$train" --val none --epochs 14 --out "$run/tokenizer" --resume "${common[@]}"
  "$BEIT" pretrain --data "$train" --val none --tokenizer "$run/tokenizer" --epochs 20 --out "$run/beit" --resume \
    "${common[@]}"
  finetune pretrained "$run/beit" "$train"
  finetune scratch scratch "$train" --set layer_decay=1
  finetune scenes "$run/beit" synthetic:5000
  finetune intermediate "$run/scenes" "$train"
  for name in pretrained scratch intermediate; do
    [ -e "$run/$name/test.json" ] || "$BEIT" evaluate --model "$run/$name" --data "$test" --json "$run/$name/test.json"
  done
done

python3 - "$out" "$@" <<'PYTHON'
import json, math, sys
out, seeds = sys.argv[1], sys.argv[2:]
names = ["pretrained", "scratch", "intermediate"]
read = lambda seed, name: json.load(open(f"{out}/seed{seed}/{name}/test.json"))["figures"]["top1"]
rows = {name: [read(seed, name) for seed in seeds] for name in names}
print("top-1 on TEST by seed, mean, and over scratch (mean and 95 % interval over seeds)")
T = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}
for name, values in rows.items():
    over = [a - b for a, b in zip(values, rows["scratch"])]
    n, mean = len(over), sum(over) / len(over)
    half = "" if n < 2 else " ± {:.3f}".format(
        T.get(n, 2.6) * math.sqrt(sum((x - mean) ** 2 for x in over) / (n - 1) / n))
    print(f"{name:13}", *(f"{x:.3f}" for x in values), f"  {sum(values) / n:.3f}   {mean:+.3f}{half}")
PYTHON
