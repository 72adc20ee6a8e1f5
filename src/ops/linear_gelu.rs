//! Linear layer followed by GELU: y = gelu(a), a = x Wᵀ + b, gelu(a) = a Φ(a).
//!
//! Shapes: x `[..,I]`, W `[O,I]`, b `[O]`, a and y `[..,O]`.
//!
//! Backward: da = dy (Φ(a) + a φ(a)) as in [`super::gelu`], dx, dW and db from da as in
//! [`super::linear`].
//!
//! Kept for backward: x (by its owner) and a. Source: Hendrycks and Gimpel, arXiv 1606.08415, §2.

#[cfg(feature = "cuda")]
mod cuda;

use crate::cpu::pieces::{Cut, Pieces};
use crate::cpu::scalar::Scalar;
use crate::cpu::{Cpu, gemm, rows_per_task, simd};
use crate::ops::Backend;
use crate::ops::case::{Case, Cost, Inputs, Io, Large, Threshold, Visitor};
use crate::ops::gelu::{GeluOp, gelu_piece};
use crate::ops::linear::{Linear, LinearOp};
use crate::params::Params;
use crate::real::Real;
use crate::storage::Storage;
use crate::tensor::{Master, Tensor};

/// y = gelu(x Wᵀ + b) and its gradients.
pub trait LinearGeluOp: Storage {
    /// x `[..,I]` -> (y `[..,O]`, a `[..,O]`). Panics where the layer has no bias.
    fn linear_gelu_forward(
        &self,
        x: &Tensor<Self>,
        w: &Params<Self>,
        p: &Linear,
    ) -> (Tensor<Self>, Tensor<Self>);

    /// dy `[..,O]` -> dx `[..,I]`; adds dW and db to `g`. Takes dy, which becomes da.
    fn linear_gelu_backward(
        &self,
        x: &Tensor<Self>,
        a: &Tensor<Self>,
        w: &Params<Self>,
        p: &Linear,
        dy: Tensor<Self>,
        g: &mut Params<Self>,
    ) -> Tensor<Self>;
}

impl<T: Scalar> LinearGeluOp for Cpu<T> {
    #[track_caller]
    fn linear_gelu_forward(
        &self,
        x: &Tensor<Self>,
        w: &Params<Self>,
        p: &Linear,
    ) -> (Tensor<Self>, Tensor<Self>) {
        let shape = p.output_shape("linear_gelu", x);
        let [mut a, mut y]: [Master<Self>; 2] = [self.unset(&shape), self.unset(&shape)];
        let (o, bias) = (p.weight.shape[0], w.get(p.expect_bias("linear_gelu")));
        let (x, weight) = (x.wide_matrix(), w.operand_matrix(&p.weight));
        gemm(T::Master::ONE, x.view(), weight.t(), T::Master::ZERO, a.matrix_mut());
        let step = rows_per_task(o) * o;
        a.slice_mut().par_chunks_mut(step).zip(y.slice_mut().par_chunks_mut(step)).for_each(
            |(a, y)| {
                for (a, y) in a.chunks_exact_mut(o).zip(y.chunks_exact_mut(o)) {
                    simd::add_assign(a, bias);
                    // Of the a that backward will see.
                    T::round(a);
                    gelu_piece(a, y);
                }
            },
        );
        (self.narrow(y), self.narrow(a))
    }

    #[track_caller]
    fn linear_gelu_backward(
        &self,
        x: &Tensor<Self>,
        a: &Tensor<Self>,
        w: &Params<Self>,
        p: &Linear,
        dy: Tensor<Self>,
        g: &mut Params<Self>,
    ) -> Tensor<Self> {
        dy.expect_shape("linear_gelu_backward", "dy", a.shape());
        let da = self.gelu_backward(a, dy);
        self.linear_backward(x, w, p, &da, g)
    }
}

/// The op at one size.
pub struct LinearGeluCase {
    pub(crate) instance: &'static str,
    pub(crate) rows: usize,
    pub(crate) input: usize,
    pub(crate) output: usize,
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
        let x = io.elem("x");
        let p = Linear { weight: io.param("weight"), bias: Some(io.param("bias")) };
        let (y, a) = bk.linear_gelu_forward(&x, &io.w, &p);
        io.output(bk, &y);
        if io.wants_backward() {
            let dy = io.upstream(bk, 0);
            let dx = bk.linear_gelu_backward(&x, &a, &io.w, &p, dy, &mut io.g);
            io.grad(bk, "x", &dx);
        }
    }

    fn thresholds(&self) -> Vec<Threshold> {
        let [first, second] = Threshold::fold_rows(self.rows);
        vec![Threshold::rows_per_task(self.rows, self.output), first, second]
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

/// Smallest, odd, a block's first MLP layer at tiny size, several tasks and pieces of sums.
pub fn cases<V: Visitor>(v: &mut V) {
    for (instance, rows, input, output) in [
        ("one", 1, 1, 1),
        ("odd", 7, 5, 3),
        ("wide", 3, 2, 37),
        ("pieces", 33, 3, 2),
        ("tiny_mlp", 65, 128, 512),
    ] {
        v.visit(LinearGeluCase { instance, rows, input, output });
    }
    // 1024 rows of 16 numbers are a task. The last is as wide as MLPs of real models.
    for (instance, rows, input, output) in [
        ("task_and_one", 1025, 3, 16),
        ("many_tasks", 3079, 2, 16),
        ("sum_and_one", 513, 5, 3),
        ("broad", 2, 3, 2049),
    ] {
        v.visit(Large(LinearGeluCase { instance, rows, input, output }));
    }
}

/// An empty batch.
pub fn empty_case<V: Visitor>(v: &mut V) {
    v.visit(LinearGeluCase { instance: "empty", rows: 0, input: 3, output: 2 });
}

/// A size worth timing: BEiT-B and its tokenizer.
pub fn large_cases<V: Visitor>(v: &mut V) {
    let (rows, input, output) = (6304, 768, 3072);
    v.visit(LinearGeluCase { instance: "6304x768x3072", rows, input, output });
}
