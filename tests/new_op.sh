#!/usr/bin/env bash
# Plants a new op, y = x³, in a copy of the tree: the three files and the one line that docs/architecture.md
# asks for, nothing else. Then everything that exists for every op must exist for it.
#
#   tests/new_op.sh [TARGET]      TARGET: a folder for cargo's output, to keep it between calls
#
# With CUDA_TK set (cuda/README.md) the PTX is compiled and compared too; else that part says it was skipped.
set -euo pipefail
cd "$(dirname "$0")/.."
target=${1:+$(realpath -m "$1")}
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
export CARGO_TARGET_DIR=${target:-$copy/target}
git ls-files -z | xargs -0 cp --parents -t "$copy"
cd "$copy"
git init -q . && git add -A

# 1. The op: formula and derivation, trait, CPU, case.
cat >src/ops/cube.rs <<'RUST'
//! Cube: y = x³. Any shape.
//!
//! Backward: dx = 3 x² dy. Kept for backward: x. Source: planted by `tests/new_op.sh`.

#[cfg(feature = "cuda")]
mod cuda;

use crate::cpu::Cpu;
use crate::cpu::scalar::Scalar;
use crate::ops::Backend;
use crate::ops::case::{Case, Cost, Inputs, Io, Rounding, Visitor};
use crate::real::Float;
use crate::storage::Storage;
use crate::tensor::Tensor;

/// x³ and its gradient.
pub trait CubeOp: Storage {
    /// x -> x³
    fn cube_forward(&self, x: &Tensor<Self>) -> Tensor<Self>;
    /// dy -> 3 x² dy
    fn cube_backward(&self, x: &Tensor<Self>, dy: &Tensor<Self>) -> Tensor<Self>;
}

impl<T: Scalar> CubeOp for Cpu<T> {
    fn cube_forward(&self, x: &Tensor<Self>) -> Tensor<Self> {
        let mut y = self.wide(x.duplicate(self));
        y.slice_mut().iter_mut().for_each(|y| *y = *y * *y * *y);
        self.narrow(y)
    }

    #[track_caller]
    fn cube_backward(&self, x: &Tensor<Self>, dy: &Tensor<Self>) -> Tensor<Self> {
        dy.expect_shape("cube_backward", "dy", x.shape());
        let (x, mut dx) = (x.wide(), self.wide(dy.duplicate(self)));
        for (dx, &x) in dx.slice_mut().iter_mut().zip(x.iter()) {
            *dx = T::Master::from_f64(3.0) * x * x * *dx;
        }
        self.narrow(dx)
    }
}

/// The op at one size.
pub struct CubeCase {
    instance: &'static str,
    shape: &'static [usize],
}

impl Case for CubeCase {
    fn name(&self) -> String {
        format!("cube/{}", self.instance)
    }

    fn inputs(&self) -> Inputs {
        Inputs::new(&self.name()).elem("x", self.shape)
    }

    fn run<B: Backend>(&self, bk: &B, io: &mut Io<B>) {
        let x = io.elem("x");
        io.output(bk, &bk.cube_forward(&x));
        if io.wants_backward() {
            let dy = io.upstream(bk, 0);
            io.grad(bk, "x", &bk.cube_backward(&x, &dy));
        }
    }

    fn rounding(&self) -> Rounding {
        Rounding::Single
    }

    fn cost(&self) -> Cost {
        let n = self.shape.iter().product::<usize>() as f64;
        Cost {
            flops_forward: 2.0 * n,
            flops_backward: 3.0 * n,
            elements_forward: 2.0 * n,
            elements_backward: 3.0 * n,
        }
    }
}

/// One element, odd, and larger.
pub fn cases<V: Visitor>(v: &mut V) {
    for (instance, shape) in [("one", &[1][..]), ("odd", &[4, 5, 7]), ("larger", &[33, 50])] {
        v.visit(CubeCase { instance, shape });
    }
}

/// An empty batch.
pub fn empty_case<V: Visitor>(v: &mut V) {
    v.visit(CubeCase { instance: "empty", shape: &[0, 3] });
}

/// A size worth timing.
pub fn large_cases<V: Visitor>(v: &mut V) {
    v.visit(CubeCase { instance: "64x197x768", shape: &[64, 197, 768] });
}
RUST

# 2. Its CUDA side: launch lines and kernels.
mkdir src/ops/cube
cat >src/ops/cube/cuda.rs <<'RUST'
//! Cube on CUDA: `cuda/cube.cu`.

use super::CubeOp;
use crate::cuda::{Cuda, Grid, Precision, args};
use crate::tensor::Tensor;

impl<T: Precision> CubeOp for Cuda<T> {
    #[track_caller]
    fn cube_forward(&self, x: &Tensor<Self>) -> Tensor<Self> {
        let (y, n) = (self.unset(x.shape()), x.len());
        self.launch("cube_forward", Grid::each(n), args![x, &y, n]);
        y
    }

    #[track_caller]
    fn cube_backward(&self, x: &Tensor<Self>, dy: &Tensor<Self>) -> Tensor<Self> {
        dy.expect_shape("cube_backward", "dy", x.shape());
        let (dx, n) = (self.unset(x.shape()), x.len());
        self.launch("cube_backward", Grid::each(n), args![x, dy, &dx, n]);
        dx
    }
}
RUST
cat >cuda/cube.cu <<'CUDA'
// Cube (src/ops/cube.rs). One thread per element.
#include "prelude.cuh"

KERNEL(cube_forward)(const elem* x, elem* y, Index n) {
  FOR_EACH(i, n) {
    const master v = wide(x[i]);
    put(&y[i], v * v * v);
  }
}
EXPORT(cube_forward)

KERNEL(cube_backward)(const elem* x, const elem* dy, elem* dx, Index n) {
  FOR_EACH(i, n) {
    const master v = wide(x[i]);
    put(&dx[i], 3 * v * v * wide(dy[i]));
  }
}
EXPORT(cube_backward)
CUDA

# 3. Its line in the table.
sed -i 's/^    gather_rows: GatherRowsOp,$/    cube: CubeOp,\n&/' src/ops/mod.rs

changed=$(git add -AN . && git diff --name-only | tr '\n' ' ')
[ "$changed" = "cuda/cube.cu src/ops/cube.rs src/ops/cube/cuda.rs src/ops/mod.rs " ] || { echo "changed: $changed"; exit 1; }
[ "$(git diff --numstat src/ops/mod.rs | cut -f1,2 | tr '\t' ' ')" = "1 0" ] || { echo "more than one line of the table"; exit 1; }

# The emulator refuses a module whose PTX lacks a kernel, so without nvcc the launches are not run.
if [ -n "${CUDA_TK:-}" ]; then cuda/compile.sh >/dev/null; fi
rustfmt --edition 2024 --check src/ops/cube.rs
# ran N PROGRAM FILTER: at least N tests ran, all passed.
ran() {
  cargo test --quiet --locked --test "$2" "$3" 2>&1 | tee "$copy/log" | grep -E '^test result|FAILED|panicked' || true
  local passed
  passed=$(sed -n 's/^test result: ok\. \([0-9]*\) passed.*/\1/p' "$copy/log" | tail -n 1)
  [ "${passed:-0}" -ge "$1" ] || { cat "$copy/log"; echo "$2 $3: ${passed:-no} tests passed, want $1"; exit 1; }
}
ran 3 gradients cube
ran 9 parity cube
ran 3 suite coverage::
ran 1 suite floors::
if [ -n "${CUDA_TK:-}" ]; then
  ran 15 cuda cuda_cube
  ran 3 suite cuda_sources::
else
  echo "skipped: the launches of the planted op (CUDA_TK is not set)"
fi
echo "a new op needs three files and one line"
