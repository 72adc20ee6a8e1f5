//! Linear layer followed by GELU: y = gelu(a), a = x Wᵀ + b, gelu(a) = a Φ(a).
//!
//! Shapes: x `[..,I]`, W `[O,I]`, b `[O]`, a and y `[..,O]`.
//! Φ(a) = (1 + erf(a/√2))/2 is the exact form: BEiT's weights were trained with it, and the tanh
//! approximation differs by up to 5e-4.
//!
//! Backward. From y = a Φ(a), with Φ' = φ(a) = exp(−a²/2)/√(2π):
//! * da = dy (Φ(a) + a φ(a))
//! * dx, dW and db follow from da as in [`super::linear`]
//!
//! Kept for backward: x (by its owner) and a. Source: Hendrycks and Gimpel, arXiv 1606.08415, §2.

use crate::backend::{Backend, Storage};
use crate::case::{Case, Cost, Inputs, Io, Visitor};
use crate::cpu::{Cpu, gemm_rows, rows_per_task};
use crate::ops::linear::{LinearOp, output_shape};
use crate::params::{Param, Params};
use crate::real::Real;
use crate::simd_fn;
use crate::tensor::Tensor;
use rayon::prelude::*;
use std::f64::consts::{FRAC_1_SQRT_2, PI};

/// y = gelu(x Wᵀ + b) and its gradients.
pub trait LinearGeluOp: Storage {
    /// x `[..,I]` -> (y `[..,O]`, a `[..,O]`).
    fn linear_gelu_forward(
        &self,
        x: &Tensor<Self>,
        w: &Params<Self>,
        weight: &Param,
        bias: &Param,
    ) -> (Tensor<Self>, Tensor<Self>);

    /// dy `[..,O]` -> dx `[..,I]`; adds dW and db to `g`. Takes dy, which becomes da.
    #[allow(clippy::too_many_arguments)]
    fn linear_gelu_backward(
        &self,
        x: &Tensor<Self>,
        a: &Tensor<Self>,
        w: &Params<Self>,
        weight: &Param,
        bias: &Param,
        dy: Tensor<Self>,
        g: &mut Params<Self>,
    ) -> Tensor<Self>;
}

simd_fn! {
    /// a + bias in place, y = gelu(a).
    fn bias_gelu_row<T>(a: &mut [T], bias: &[T], y: &mut [T]) {
        let (half, root) = (T::from_f64(0.5), T::from_f64(FRAC_1_SQRT_2));
        for ((a, &b), y) in a.iter_mut().zip(bias).zip(y) {
            *a += b;
            *y = *a * half * (T::ONE + (*a * root).erf());
        }
    }
}

simd_fn! {
    /// dy in place of da: da = dy (Φ(a) + a φ(a)).
    fn gelu_backward<T>(a: &[T], dy: &mut [T]) {
        let (half, root) = (T::from_f64(0.5), T::from_f64(FRAC_1_SQRT_2));
        let norm = T::from_f64(1.0 / (2.0 * PI).sqrt());
        for (&a, dy) in a.iter().zip(dy) {
            let cdf = half * (T::ONE + (a * root).erf());
            let pdf = norm * (-half * a * a).exp();
            *dy *= cdf + a * pdf;
        }
    }
}

impl<T: Real> LinearGeluOp for Cpu<T> {
    #[track_caller]
    fn linear_gelu_forward(
        &self,
        x: &Tensor<Self>,
        w: &Params<Self>,
        weight: &Param,
        bias: &Param,
    ) -> (Tensor<Self>, Tensor<Self>) {
        let shape = output_shape("linear_gelu", x, weight, Some(bias));
        let (mut a, mut y) = (Tensor::zeros(self, &shape), Tensor::zeros(self, &shape));
        let (o, bias) = (bias.len(), w.get(bias));
        gemm_rows(x.matrix(), w.matrix(weight).t(), a.slice_mut(), |_, _| {});
        let step = rows_per_task(o) * o;
        a.slice_mut().par_chunks_mut(step).zip(y.slice_mut().par_chunks_mut(step)).for_each(
            |(a, y)| {
                for (a, y) in a.chunks_exact_mut(o).zip(y.chunks_exact_mut(o)) {
                    bias_gelu_row(a, bias, y);
                }
            },
        );
        (y, a)
    }

    #[track_caller]
    fn linear_gelu_backward(
        &self,
        x: &Tensor<Self>,
        a: &Tensor<Self>,
        w: &Params<Self>,
        weight: &Param,
        bias: &Param,
        mut dy: Tensor<Self>,
        g: &mut Params<Self>,
    ) -> Tensor<Self> {
        dy.expect_shape("linear_gelu_backward", "dy", a.shape());
        let step = rows_per_task(1);
        let pieces = a.slice().par_chunks(step).zip(dy.slice_mut().par_chunks_mut(step));
        pieces.for_each(|(a, dy)| gelu_backward(a, dy));
        self.linear_backward(x, w, weight, Some(bias), &dy, g)
    }
}

/// The op at one size.
pub struct LinearGeluCase {
    instance: &'static str,
    rows: usize,
    input: usize,
    output: usize,
}

impl Case for LinearGeluCase {
    fn name(&self) -> String {
        format!("linear_gelu/{}", self.instance)
    }

    fn inputs(&self) -> Inputs {
        let (i, o) = (self.input, self.output);
        Inputs::new(&self.name())
            .elem("x", &[self.rows, i])
            .param("weight", &[o, i])
            .param("bias", &[o])
    }

    fn run<B: Backend>(&self, bk: &B, io: &mut Io<B>) {
        let (x, weight, bias) = (io.elem("x"), io.param("weight"), io.param("bias"));
        let (y, a) = bk.linear_gelu_forward(&x, &io.w, &weight, &bias);
        io.output(bk, &y);
        if io.wants_backward() {
            let dy = io.upstream(bk, 0);
            let dx = bk.linear_gelu_backward(&x, &a, &io.w, &weight, &bias, dy, &mut io.g);
            io.grad(bk, "x", &dx);
        }
    }

    fn cost(&self) -> Cost {
        let [r, i, o] = [self.rows, self.input, self.output].map(|n| n as f64);
        Cost {
            flops_forward: 2.0 * r * i * o + 10.0 * r * o,
            flops_backward: 4.0 * r * i * o + 15.0 * r * o,
            elements_forward: r * i + i * o + 2.0 * r * o,
            elements_backward: 2.0 * (r * i + i * o) + 2.0 * r * o,
        }
    }
}

/// Smallest, odd, and a block's first MLP layer at tiny size.
pub fn cases<V: Visitor>(v: &mut V) {
    for (instance, rows, input, output) in
        [("one", 1, 1, 1), ("odd", 7, 5, 3), ("wide", 3, 2, 37), ("tiny_mlp", 65, 128, 512)]
    {
        v.visit(LinearGeluCase { instance, rows, input, output });
    }
}
