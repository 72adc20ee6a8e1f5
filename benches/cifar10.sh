#!/usr/bin/env bash
# The whole road on CIFAR-10: tokenizer, pretraining and probe with the preset `tiny`, per seed. All of
# TRAIN is trained on; all figures are those of TEST.
#
#   benches/cifar10.sh TRAIN TEST OUT [SEED...]      (three seeds when none is named: 0 1 2)
#
# TRAIN and TEST are folders or binary files of CIFAR-10. An interrupted run goes on when the same
# command is given again. Set BEIT to use a binary that is built already, THREADS to limit threads.
set -euo pipefail
[ $# -ge 3 ] || { sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 2; }
train=$1 test=$2 out=$3
shift 3
[ $# -gt 0 ] || set -- 0 1 2
threads=(--threads "${THREADS:-0}")
if [ -z "${BEIT:-}" ]; then
  cargo build --release --locked --manifest-path "$(dirname "$0")/../Cargo.toml"
  BEIT=$(dirname "$0")/../target/release/beit
fi

mkdir -p "$out"
for seed; do
  run=$out/seed$seed
  mkdir -p "$run"
  [ -e "$run/seconds" ] || echo 0 > "$run/seconds"
  start=$SECONDS
  "$BEIT" train-tokenizer --data "$train" --set val="$test" --out "$run/tokenizer" --seed "$seed" \
    --epochs 14 --resume "${threads[@]}"
  "$BEIT" pretrain --data "$train" --tokenizer "$run/tokenizer" --out "$run/beit" --seed "$seed" \
    --set val="$test" --epochs 20 --resume "${threads[@]}"
  for model in "$run/beit" random; do
    probe=$run/probe-$(basename "$model")
    [ -e "$probe/summary.json" ] || "$BEIT" probe --model "$model" --train "$train" --test "$test" \
      --out "$probe" --seed "$seed" "${threads[@]}"
  done
  echo $((SECONDS - start + $(cat "$run/seconds"))) > "$run/seconds"
done

python3 - "$out" "$@" <<'PYTHON'
import json, sys
out, seeds = sys.argv[1], sys.argv[2:]
print("seed  PSNR dB  perplexity  masked  majority  probe  random  margin  seconds")
margins = []
for seed in seeds:
    read = lambda name: json.load(open(f"{out}/seed{seed}/{name}/summary.json"))
    t, p = read("tokenizer"), read("beit")
    mine, start = (read(f"probe-{m}")["best_linear"][0] for m in ("beit", "random"))
    margins.append(mine - start)
    print(f"{seed:>4} {t['psnr_db']:8.2f} {t['codebook_perplexity']:11.1f} {p['masked_accuracy']:7.3f}"
          f" {p['majority_accuracy']:9.3f} {mine:6.3f} {start:7.3f} {margins[-1]:+7.3f}"
          f" {open(f'{out}/seed{seed}/seconds').read().strip():>8}")
print(f"mean margin {sum(margins) / len(margins):+.3f}")
PYTHON
