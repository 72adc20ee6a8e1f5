//! Nearest-neighbour upsampling by 2: `y[b,2i+u,2j+v,c] = x[b,i,j,c]` for u, v in {0,1}.
//!
//! Shapes: x `[B,H,W,C]` -> y `[B,2H,2W,C]`.
//! Backward: `dx[b,i,j,c] = Σ_{u,v} dy[b,2i+u,2j+v,c]`. Nothing is kept. Source:
//! `dall_e/decoder.py`.

#[cfg(feature = "cuda")]
mod cuda;

use crate::cpu::Cpu;
use crate::cpu::pieces::{Cut, Pieces};
use crate::cpu::scalar::Scalar;
use crate::ops::Backend;
use crate::ops::case::{Case, Cost, Inputs, Io, Rounding, Threshold, Visitor};
use crate::storage::Storage;
use crate::tensor::Master;

/// Upsampling and its gradient.
pub trait UpsampleOp: Storage {
    /// x `[B,H,W,C]` -> `[B,2H,2W,C]`.
    fn upsample_forward(&self, x: &Master<Self>) -> Master<Self>;
    /// dy `[B,2H,2W,C]` -> `[B,H,W,C]`.
    fn upsample_backward(&self, dy: &Master<Self>) -> Master<Self>;
}

impl<T: Scalar> UpsampleOp for Cpu<T> {
    #[track_caller]
    fn upsample_forward(&self, x: &Master<Self>) -> Master<Self> {
        x.expect_rank("upsample", "x", 4);
        let [b, h, w, c] = [0, 1, 2, 3].map(|i| x.shape()[i]);
        let mut y = self.unset(&[b, 2 * h, 2 * w, c]);
        if y.is_empty() {
            return y;
        }
        let x = x.slice();
        y.slice_mut().par_chunks_mut(4 * w * c).enumerate().for_each(|(row, y)| {
            let x = &x[row * w * c..(row + 1) * w * c];
            let (upper, lower) = y.split_at_mut(2 * w * c);
            for (y, x) in upper.chunks_exact_mut(2 * c).zip(x.chunks_exact(c)) {
                y[..c].copy_from_slice(x);
                y[c..].copy_from_slice(x);
            }
            lower.copy_from_slice(upper);
        });
        y
    }

    #[track_caller]
    fn upsample_backward(&self, dy: &Master<Self>) -> Master<Self> {
        dy.expect_rank("upsample_backward", "dy", 4);
        let [b, h, w, c] = [0, 1, 2, 3].map(|i| dy.shape()[i]);
        assert!(h % 2 == 0 && w % 2 == 0, "upsample_backward: dy is {:?}", dy.shape());
        let mut dx = self.unset(&[b, h / 2, w / 2, c]);
        if dx.is_empty() {
            return dx;
        }
        let (dy, line) = (dy.slice(), w * c);
        dx.slice_mut().par_chunks_mut(line / 2).enumerate().for_each(|(row, dx)| {
            let (upper, lower) = dy[row * 2 * line..(row + 1) * 2 * line].split_at(line);
            for (j, dx) in dx.chunks_exact_mut(c).enumerate() {
                let at = 2 * j * c;
                for (k, dx) in dx.iter_mut().enumerate() {
                    let (l, r) = (at + k, at + c + k);
                    *dx = (upper[l] + upper[r]) + (lower[l] + lower[r]);
                }
            }
        });
        dx
    }
}

/// The op at one size.
pub struct UpsampleCase {
    instance: &'static str,
    shape: [usize; 4],
}

impl Case for UpsampleCase {
    fn name(&self) -> String {
        format!("upsample/{}", self.instance)
    }

    fn inputs(&self) -> Inputs {
        Inputs::new(&self.name()).master("x", &self.shape)
    }

    fn run<B: Backend>(&self, bk: &B, io: &mut Io<B>) {
        let x = io.master("x");
        io.output(bk, &bk.upsample_forward(&x));
        if io.wants_backward() {
            let dy = io.upstream(bk, 0);
            io.grad(bk, "x", &bk.upsample_backward(&dy));
        }
    }

    fn rounding(&self) -> Rounding {
        Rounding::Single
    }

    fn thresholds(&self) -> Vec<Threshold> {
        vec![Threshold::new("batch", 3, self.shape[0])]
    }

    fn cost(&self) -> Cost {
        let n = self.shape.iter().product::<usize>() as f64;
        Cost {
            flops_forward: 0.0,
            flops_backward: 3.0 * n,
            elements_forward: 5.0 * n,
            elements_backward: 5.0 * n,
        }
    }
}

/// One pixel, odd, tiny's, batches of both kinds of grids.
pub fn cases<V: Visitor>(v: &mut V) {
    for (instance, shape) in [
        ("one", [1, 1, 1, 1]),
        ("odd", [2, 3, 5, 3]),
        ("tiny", [2, 8, 8, 16]),
        ("wide", [4, 2, 13, 3]),
        ("tall", [11, 7, 2, 1]),
    ] {
        v.visit(UpsampleCase { instance, shape });
    }
}

/// An empty batch.
pub fn empty_case<V: Visitor>(v: &mut V) {
    v.visit(UpsampleCase { instance: "empty", shape: [0, 2, 2, 3] });
}

/// A size worth timing: BEiT-B and its tokenizer.
pub fn large_cases<V: Visitor>(v: &mut V) {
    v.visit(UpsampleCase { instance: "16x28x28x256", shape: [16, 28, 28, 256] });
}
