//! GELU in its exact form: y = x Φ(x), Φ(x) = (1 + erf(x/√2))/2.
//!
//! Shapes: x and y of any one shape. BEiT's weights were trained with the exact form; the tanh
//! approximation differs by up to 5e-4.
//!
//! Backward. Φ' = φ(x) = exp(−x²/2)/√(2π), so from y = x Φ(x):
//! * dx = dy (Φ(x) + x φ(x))
//!
//! Kept for backward: x. Source: Hendrycks and Gimpel, arXiv 1606.08415, section 2.

#[cfg(feature = "cuda")]
mod cuda;

use crate::cpu::pieces::{Cut, Pieces};
use crate::cpu::scalar::Scalar;
use crate::cpu::{Cpu, rows_per_task};
use crate::ops::Backend;
use crate::ops::case::{Case, Cost, Inputs, Io, Large, Rounding, Threshold, Visitor};
use crate::simd_fn;
use crate::storage::Storage;
use crate::tensor::{Master, Tensor};
use std::f64::consts::{FRAC_1_SQRT_2, PI};

/// y = x Φ(x) and its gradient.
pub trait GeluOp: Storage {
    /// x -> y of the same shape.
    fn gelu_forward(&self, x: &Tensor<Self>) -> Tensor<Self>;

    /// dy -> dx; takes dy, which becomes dx.
    fn gelu_backward(&self, x: &Tensor<Self>, dy: Tensor<Self>) -> Tensor<Self>;
}

simd_fn! {
    /// y = x Φ(x) on a run of elements.
    pub fn gelu_piece<T>(x: &[T], y: &mut [T]) {
        let (half, root) = (T::from_f64(0.5), T::from_f64(FRAC_1_SQRT_2));
        for (&x, y) in x.iter().zip(y) {
            *y = x * half * (T::ONE + (x * root).erf());
        }
    }
}

simd_fn! {
    /// dx in place of dy on a run of elements: dx = dy (Φ(x) + x φ(x)).
    pub fn gelu_piece_backward<T>(x: &[T], dy: &mut [T]) {
        let (half, root) = (T::from_f64(0.5), T::from_f64(FRAC_1_SQRT_2));
        let norm = T::from_f64(1.0 / (2.0 * PI).sqrt());
        for (&x, dy) in x.iter().zip(dy) {
            let cdf = half * (T::ONE + (x * root).erf());
            let pdf = norm * (-half * x * x).exp();
            *dy *= cdf + x * pdf;
        }
    }
}

impl<T: Scalar> GeluOp for Cpu<T> {
    fn gelu_forward(&self, x: &Tensor<Self>) -> Tensor<Self> {
        let mut y: Master<Self> = self.unset(x.shape());
        let (x, step) = (x.wide(), rows_per_task(1));
        let pieces = x.par_chunks(step).zip(y.slice_mut().par_chunks_mut(step));
        pieces.for_each(|(x, y)| gelu_piece(x, y));
        self.narrow(y)
    }

    #[track_caller]
    fn gelu_backward(&self, x: &Tensor<Self>, dy: Tensor<Self>) -> Tensor<Self> {
        dy.expect_shape("gelu_backward", "dy", x.shape());
        let (x, mut dy, step) = (x.wide(), self.wide(dy), rows_per_task(1));
        let pieces = x.par_chunks(step).zip(dy.slice_mut().par_chunks_mut(step));
        pieces.for_each(|(x, dy)| gelu_piece_backward(x, dy));
        self.narrow(dy)
    }
}

/// The op at one size.
pub struct GeluCase {
    pub(crate) instance: &'static str,
    pub(crate) shape: &'static [usize],
}

impl Case for GeluCase {
    fn name(&self) -> String {
        format!("gelu/{}", self.instance)
    }

    fn inputs(&self) -> Inputs {
        Inputs::new(&self.name()).elem("x", self.shape)
    }

    fn run<B: Backend>(&self, bk: &B, io: &mut Io<B>) {
        let x = io.elem("x");
        let y = bk.gelu_forward(&x);
        io.output(bk, &y);
        if io.wants_backward() {
            let dy = io.upstream(bk, 0);
            let dx = bk.gelu_backward(&x, dy);
            io.grad(bk, "x", &dx);
        }
    }

    fn rounding(&self) -> Rounding {
        Rounding::Single
    }

    fn thresholds(&self) -> Vec<Threshold> {
        vec![Threshold::rows_per_task(self.shape.iter().product(), 1)]
    }

    fn cost(&self) -> Cost {
        let n = self.shape.iter().product::<usize>() as f64;
        Cost {
            flops_forward: 10.0 * n,
            flops_backward: 15.0 * n,
            elements_forward: 2.0 * n,
            elements_backward: 3.0 * n,
        }
    }
}

/// Smallest, odd, two pieces, many pieces, and the hidden layer of an MLP at tiny size.
pub fn cases<V: Visitor>(v: &mut V) {
    for (instance, shape) in
        [("one", &[1][..]), ("odd", &[3, 5, 7]), ("pieces", &[16_385]), ("tiny_mlp", &[2, 65, 512])]
    {
        v.visit(GeluCase { instance, shape });
    }
    v.visit(Large(GeluCase { instance: "many_pieces", shape: &[4, 113, 113] }));
}

/// An empty batch.
pub fn empty_case<V: Visitor>(v: &mut V) {
    v.visit(GeluCase { instance: "empty", shape: &[0, 3] });
}

/// A size worth timing: BEiT-B and its tokenizer.
pub fn large_cases<V: Visitor>(v: &mut V) {
    v.visit(GeluCase { instance: "16x197x3072", shape: &[16, 197, 3072] });
}
