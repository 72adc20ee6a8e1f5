//! ReLU: y = max(x, 0). Any shape.
//!
//! Backward: dx = dy where x > 0, else 0 (0 at x = 0). Kept for backward: x.
//! The convolutions of the discrete VAE have it built in ([`super::conv2d`]). Source:
//! `torch.nn.ReLU`, whose derivative at 0 is 0.

#[cfg(feature = "cuda")]
mod cuda;

use crate::cpu::Cpu;
use crate::cpu::pieces::{Cut, Pieces};
use crate::cpu::scalar::Scalar;
use crate::ops::Backend;
use crate::ops::case::{
    Case, Cost, Inputs, Io, Kind, Large, Rounding, Threshold, Visitor, away_from_zero,
};
use crate::real::Real;
use crate::storage::Storage;
use crate::tensor::Tensor;

/// ReLU and its gradient.
pub trait ReluOp: Storage {
    /// max(x, 0)
    fn relu_forward(&self, x: &Tensor<Self>) -> Tensor<Self>;
    /// dy where x > 0, else 0.
    fn relu_backward(&self, x: &Tensor<Self>, dy: &Tensor<Self>) -> Tensor<Self>;
}

const PIECE: usize = 16_384;

impl<T: Scalar> ReluOp for Cpu<T> {
    fn relu_forward(&self, x: &Tensor<Self>) -> Tensor<Self> {
        let mut y = self.wide(x.duplicate(self));
        let rectify =
            |y: &mut [T::Master]| y.iter_mut().for_each(|y| *y = y.maximum(T::Master::ZERO));
        y.slice_mut().par_chunks_mut(PIECE).for_each(rectify);
        self.narrow(y)
    }

    #[track_caller]
    fn relu_backward(&self, x: &Tensor<Self>, dy: &Tensor<Self>) -> Tensor<Self> {
        dy.expect_shape("relu_backward", "dy", x.shape());
        let (x, mut dx) = (x.wide(), self.wide(dy.duplicate(self)));
        let pieces = dx.slice_mut().par_chunks_mut(PIECE).zip(x.par_chunks(PIECE));
        pieces.for_each(|(dx, x)| {
            for (dx, &x) in dx.iter_mut().zip(x) {
                *dx = if x > T::Master::ZERO { *dx } else { T::Master::ZERO };
            }
        });
        self.narrow(dx)
    }
}

/// The op at one size.
pub struct ReluCase {
    instance: &'static str,
    shape: &'static [usize],
}

impl Case for ReluCase {
    fn name(&self) -> String {
        format!("relu/{}", self.instance)
    }

    fn inputs(&self) -> Inputs {
        let mut inputs = Inputs::new(&self.name());
        let x = away_from_zero(inputs.normal(self.shape.iter().product()));
        inputs.push("x", self.shape, x, Kind::Elem, true)
    }

    fn run<B: Backend>(&self, bk: &B, io: &mut Io<B>) {
        let x = io.elem("x");
        io.output(bk, &bk.relu_forward(&x));
        if io.wants_backward() {
            let dy = io.upstream(bk, 0);
            io.grad(bk, "x", &bk.relu_backward(&x, &dy));
        }
    }

    fn rounding(&self) -> Rounding {
        Rounding::Single
    }

    fn thresholds(&self) -> Vec<Threshold> {
        vec![Threshold::new("PIECE", PIECE, self.shape.iter().product())]
    }

    fn cost(&self) -> Cost {
        let n = self.shape.iter().product::<usize>() as f64;
        Cost {
            flops_forward: n,
            flops_backward: n,
            elements_forward: 2.0 * n,
            elements_backward: 3.0 * n,
        }
    }
}

/// One element, odd, two pieces and many.
pub fn cases<V: Visitor>(v: &mut V) {
    for (instance, shape) in [("one", &[1][..]), ("odd", &[3, 5, 7]), ("pieces", &[5, 29, 113])] {
        v.visit(ReluCase { instance, shape });
    }
    v.visit(Large(ReluCase { instance: "many_pieces", shape: &[4, 113, 113] }));
}

/// An empty batch.
pub fn empty_case<V: Visitor>(v: &mut V) {
    v.visit(ReluCase { instance: "empty", shape: &[0, 3] });
}

/// A size worth timing: BEiT-B and its tokenizer.
pub fn large_cases<V: Visitor>(v: &mut V) {
    v.visit(ReluCase { instance: "64x197x768", shape: &[64, 197, 768] });
}
