//! Dropout of whole channels: `y[b,i,j,c] = keep[b,c] · x[b,i,j,c]`.
//!
//! Shapes: x and y `[B,H,W,C]`, keep `[B,C]`: 0 where the channel of that image is dropped, else 1/(1−p).
//! Who draws it decides p; an evaluation does not call the op.
//!
//! Backward: dx = keep · dy, the op itself. Kept for backward: keep. Source: `torch.nn.Dropout2d`.

#[cfg(feature = "cuda")]
mod cuda;

use crate::cpu::Cpu;
use crate::cpu::pieces::{Cut, Pieces};
use crate::cpu::scalar::Scalar;
use crate::ops::Backend;
use crate::ops::case::{Case, Cost, Inputs, Io, Kind, Rounding, Visitor};
use crate::storage::Storage;
use crate::tensor::{Master, Tensor};

/// Dropout of channels, which is its own gradient.
pub trait Dropout2dOp: Storage {
    /// x and keep -> y, or dy and keep -> dx.
    fn dropout2d(&self, x: &Tensor<Self>, keep: &Master<Self>) -> Tensor<Self>;
}

/// (H, W, C). Panics unless keep has a number for each channel of each image.
#[track_caller]
fn plane<B: Storage>(x: &Tensor<B>, keep: &Master<B>) -> (usize, usize, usize) {
    let &[b, h, w, c] = x.shape() else {
        panic!("dropout2d: x is {:?}, expected [B,H,W,C]", x.shape());
    };
    keep.expect_shape("dropout2d", "keep", &[b, c]);
    (h, w, c)
}

impl<T: Scalar> Dropout2dOp for Cpu<T> {
    #[track_caller]
    fn dropout2d(&self, x: &Tensor<Self>, keep: &Master<Self>) -> Tensor<Self> {
        let (h, w, c) = plane(x, keep);
        let mut y = self.wide(x.duplicate(self));
        let keep = keep.slice();
        y.slice_mut().par_chunks_mut((w * c).max(1)).enumerate().for_each(|(line, y)| {
            let keep = &keep[line / h * c..][..c];
            for y in y.chunks_exact_mut(c) {
                y.iter_mut().zip(keep).for_each(|(y, &keep)| *y *= keep);
            }
        });
        self.narrow(y)
    }
}

/// The op at one size.
pub struct Dropout2dCase {
    instance: &'static str,
    shape: [usize; 4],
}

impl Case for Dropout2dCase {
    fn name(&self) -> String {
        format!("dropout2d/{}", self.instance)
    }

    fn inputs(&self) -> Inputs {
        let [b, .., c] = self.shape;
        let mut inputs = Inputs::new(&self.name()).elem("x", &self.shape);
        let keep =
            (0..b * c).map(|_| if inputs.rng().integer(2) == 0 { 0.0 } else { 1.25 }).collect();
        inputs.push("keep", &[b, c], keep, Kind::Master, false)
    }

    fn run<B: Backend>(&self, bk: &B, io: &mut Io<B>) {
        let (x, keep) = (io.elem("x"), io.master("keep"));
        io.output(bk, &bk.dropout2d(&x, &keep));
        if io.wants_backward() {
            let dy = io.upstream(bk, 0);
            io.grad(bk, "x", &bk.dropout2d(&dy, &keep));
        }
    }

    fn rounding(&self) -> Rounding {
        Rounding::Single
    }

    fn cost(&self) -> Cost {
        let n = self.shape.iter().product::<usize>() as f64;
        Cost {
            flops_forward: n,
            flops_backward: n,
            elements_forward: 2.0 * n,
            elements_backward: 2.0 * n,
        }
    }
}

/// One pixel, odd, both kinds of grids, a batch.
pub fn cases<V: Visitor>(v: &mut V) {
    for (instance, shape) in [
        ("one", [1, 1, 1, 7]),
        ("tall", [2, 5, 3, 4]),
        ("wide", [3, 2, 7, 5]),
        ("batch", [9, 2, 3, 3]),
    ] {
        v.visit(Dropout2dCase { instance, shape });
    }
}

/// An empty batch.
pub fn empty_case<V: Visitor>(v: &mut V) {
    v.visit(Dropout2dCase { instance: "empty", shape: [0, 2, 2, 3] });
}

/// In front of the classes of a segmentation head.
pub fn large_cases<V: Visitor>(v: &mut V) {
    v.visit(Dropout2dCase { instance: "4x128x128x512", shape: [4, 128, 128, 512] });
}
