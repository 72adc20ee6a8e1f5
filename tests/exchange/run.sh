#!/usr/bin/env bash
# Models there and back with the libraries that other people use: see round_trips.py, docs_blocks.py
# and onnx_check.py.
#
#   tests/exchange/run.sh FOLDER [install]
#
# FOLDER is for the libraries and takes 6 GB; `install` only puts them there. Where they cannot be had, that is said on
# one line and nothing is checked.
set -euo pipefail
cd "$(dirname "$0")/../.."
folder=$1
packages=(torch transformers timm onnx onnxruntime numpy safetensors)
python=$folder/bin/python
if [ ! -e "$folder/installed" ]; then
  mkdir -p "$folder"
  free=$(df -Pk "$folder" | awk 'NR == 2 { print int($4 / 1048576) }')
  [ "$free" -ge 9 ] || { echo "skipped: the libraries take 6 GB of disk, and $free GB are free"; exit 0; }
  {
    "${PYTHON:-python3}" -m venv "$folder" &&
      timeout 900 "$python" -m pip install -q --no-cache-dir "${packages[@]}" &&
      timeout 120 "$python" -m pip install -q --no-cache-dir --no-deps DALL-E attrs &&
      touch "$folder/installed"
  } >"$folder.log" 2>&1 || { echo "skipped: the libraries cannot be installed: $(tail -n 1 "$folder.log")"; exit 0; }
fi
[ "${2:-}" = install ] && exit 0
cases=$(mktemp -d)
trap 'rm -rf "$cases"' EXIT
"$python" -m pip list 2>/dev/null | grep -iE '^(torch|transformers|timm|onnx|onnxruntime|numpy|DALL-E) ' || true
quietly() { "$@" 2>"$cases/log" || { cat "$cases/log"; exit 1; }; } # without the libraries' bars
quietly "$python" tests/exchange/round_trips.py "$cases/models" make
BEIT_EXCHANGE=$cases/models cargo test --release --locked --test suite exchange::others
quietly "$python" tests/exchange/round_trips.py "$cases/models" judge
quietly "$python" tests/exchange/docs_blocks.py "$cases/models"
mkdir "$cases/onnx"
BEIT_EXCHANGE_OUT=$cases/onnx cargo test --release --locked --lib onnx::tests::exchange
"$python" tests/exchange/onnx_check.py "$cases/onnx"
