"""What gradient checkers say of forty layers, each right and with a mistake: the table of docs/gradcheck.md.

Usage: python compare.py [--ours FILE] [--out FILE]

Columns: this crate (`cargo run --release --example forty` in check/, or its output in FILE),
torch.autograd.gradcheck with all defaults and with fast_mode, and jax.test_util.check_grads. What is not
installed has no column, and that is said. The layers are those of layers.py, in f64, forward and backward in
NumPy behind torch.autograd.Function and jax.custom_vjp. The two that are checked at the resolution of f32
get eps of 1e-2 and tolerances of 1e-3 from both. A cell says what is said of the right one, then of the wrong one.
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import numpy as np

from layers import COARSE, LAYERS, SAME

CHECK = pathlib.Path(__file__).parents[3] / "check"
# A Jacobian of more numbers than this is not made.
MOST = 10**8
# torch sums a gradient of the broadcast shape itself, so that it is right.
MENDED = "broadcast_bias_not_summed"
LOOSE = dict(eps=1e-2, atol=1e-3, rtol=1e-3)


def ours(path):
    """Verdicts of this crate by name, and what it is called."""
    if path:
        text = pathlib.Path(path).read_text()
    else:
        command = ["cargo", "run", "--quiet", "--release", "--example", "forty"]
        text = subprocess.run(command, cwd=CHECK, check=True, capture_output=True, text=True).stdout
    found = json.loads(text)
    layers = {layer["name"]: (layer["right"], layer["wrong"]) for layer in found["layers"]}
    if set(layers) != set(LAYERS):
        sys.exit(f"not the same layers: {sorted(set(layers) ^ set(LAYERS))}")
    return f"{found['checker']} {found['version']}", layers


def said(run):
    """pass, or fail for whatever is raised."""
    try:
        return "pass" if run() is not False else "fail"
    except Exception:
        return "fail"


def both(check):
    return {name: tuple(check(name, wrong) for wrong in (False, True)) for name in LAYERS}


def torch_columns():
    import torch
    from torch.autograd import Function, gradcheck

    def check(name, wrong, fast):
        at, forward, backward = LAYERS[name]()
        outputs = np.size(forward(*at))
        if not fast and outputs * max(map(np.size, at)) > MOST:
            return "too large"

        class Layer(Function):
            @staticmethod
            def forward(ctx, *x):
                ctx.save_for_backward(*x)
                return torch.from_numpy(np.array(forward(*(t.detach().numpy() for t in x))))

            @staticmethod
            def backward(ctx, dy):
                x = (t.detach().numpy() for t in ctx.saved_tensors)
                return tuple(torch.from_numpy(np.array(g)) for g in backward(wrong, dy.numpy(), *x))

        torch.manual_seed(0)
        inputs = tuple(torch.from_numpy(a.astype(np.float64)).requires_grad_() for a in at)
        settings = LOOSE if name in COARSE else {}
        if wrong and name == MENDED:
            return "mended"
        return said(lambda: gradcheck(Layer.apply, inputs, fast_mode=fast, **settings))

    label = f"torch {torch.__version__.split('+')[0]} gradcheck"
    yield label, both(lambda name, wrong: check(name, wrong, False))
    yield f"{label}, fast_mode", both(lambda name, wrong: check(name, wrong, True))


def jax_columns():
    import jax

    jax.config.update("jax_enable_x64", True)
    from jax.test_util import check_grads

    def check(name, wrong):
        at, forward, backward = LAYERS[name]()
        at = tuple(a.astype(np.float64) for a in at)
        like = jax.ShapeDtypeStruct(np.shape(forward(*at)), np.float64)
        inputs = tuple(jax.ShapeDtypeStruct(a.shape, a.dtype) for a in at)

        def arrays(all):
            return (np.array(a) for a in all)

        @jax.custom_vjp
        def run(*x):
            return jax.pure_callback(lambda *x: np.asarray(forward(*arrays(x))), like, *x)

        def back(x, dy):
            def call(dy, *x):
                return tuple(np.asarray(g) for g in backward(wrong, np.array(dy), *arrays(x)))

            return jax.pure_callback(call, inputs, dy, *x)

        run.defvjp(lambda *x: (run(*x), x), back)
        settings = LOOSE if name in COARSE else {}
        return said(lambda: check_grads(run, at, order=1, modes=["rev"], **settings))

    yield f"jax {jax.__version__} check_grads", both(check)


def installed(columns, name):
    """The columns of a package, or none, said on one line."""
    try:
        return list(columns())
    except ImportError:
        print(f"{name} is not installed: no column", file=sys.stderr)
        return []


RIGHT = {"pass": "pass", "open": "open", "fail": "**called wrong**", "too large": "too large"}
WRONG = {"pass": "**missed**", "open": "open", "fail": "caught", "too large": "too large", "mended": "mended"}


def table(columns):
    """Markdown: a row per layer, right and wrong beside each other, and sums."""
    lines = ["| layer | " + " | ".join(name for name, _ in columns) + " |", "| --- |" + " --- |" * len(columns)]
    for name in LAYERS:
        cells = []
        for _, said in columns:
            right, wrong = said[name]
            cells.append(f"{RIGHT[right]}, {'same' if name in SAME else WRONG[wrong]}")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")

    def count(label, which, word):
        numbers = [sum(said[n][which] == word for n in LAYERS if not which or n not in SAME) for _, said in columns]
        lines.append(f"| {label} | " + " | ".join(map(str, numbers)) + " |")

    count("right: pass", 0, "pass")
    count("right: open", 0, "open")
    count("right: called wrong", 0, "fail")
    count("wrong: caught", 1, "fail")
    count("wrong: open", 1, "open")
    count("wrong: missed", 1, "pass")
    return "\n".join(lines) + "\n"


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--ours", help="output of the example, instead of running it")
    a.add_argument("--out", help="file for the table, instead of standard output")
    o = a.parse_args()
    np.seterr(all="ignore")
    columns = [ours(o.ours), *installed(torch_columns, "torch"), *installed(jax_columns, "jax")]
    text = table(columns)
    if o.out:
        pathlib.Path(o.out).write_text(text)
    else:
        print(text, end="")


main()
