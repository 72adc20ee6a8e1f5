"""Judges ONNX files with ONNX's own checker and ONNX Runtime.

    BEIT_EXCHANGE_OUT=FOLDER cargo test --lib onnx::tests::exchange
    python tests/exchange/onnx_check.py FOLDER

FOLDER has a folder for each model: model.onnx, and numbers.safetensors with `input` and what this project's own
forward makes of it, `output.NAME`. Real numbers must agree within 1e-4 of the largest, whole ones exactly, for one
image and for all three. Written with Python 3, onnx 1.23.2, onnxruntime 1.32.0, numpy, safetensors.
"""

import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from safetensors.numpy import load_file

BOUND = 1e-4


def judge(folder):
    """(largest relative difference, whole numbers compared, how many of them differ, how many kinds there are)"""
    path = folder / "model.onnx"
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    numbers = load_file(folder / "numbers.safetensors")
    images = numbers.pop("input")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (entry,) = session.get_inputs()
    names = [output.name for output in session.get_outputs()]
    assert {f"output.{name}" for name in names} == set(numbers), (names, list(numbers))
    largest, whole, wrong, kinds = 0.0, 0, 0, set()
    for batch in (1, len(images)):
        for name, found in zip(names, session.run(names, {entry.name: images[:batch]})):
            wanted = numbers[f"output.{name}"][:batch]
            assert found.shape == wanted.shape, (name, found.shape, wanted.shape)
            if found.dtype == np.int64:
                whole, wrong = whole + found.size, wrong + int((found != wanted).sum())
                kinds |= set(found.ravel().tolist())
            else:
                assert found.dtype == np.float32 and np.isfinite(found).all(), name
                largest = max(largest, float(np.abs(found - wanted).max() / np.abs(wanted).max()))
    return largest, whole, wrong, len(kinds)


def main():
    folders = sorted(path.parent for path in Path(sys.argv[1]).glob("*/model.onnx"))
    assert folders, f"{sys.argv[1]}: no folder with a model.onnx"
    bad = 0
    for folder in folders:
        largest, whole, wrong, kinds = judge(folder)
        good = largest <= BOUND and wrong == 0
        bad += not good
        tokens = f", {wrong} of {whole} tokens differ ({kinds} kinds)" if whole else f", largest difference {largest:.1e}"
        print(f"{'ok  ' if good else 'FAIL'} {folder.name}{tokens}")
    print(f"{len(folders) - bad} of {len(folders)} agree")
    sys.exit(bad > 0)


main()
