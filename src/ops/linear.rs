//! Linear layer: y = x Wᵀ + b.
//!
//! Shapes: x `[..,I]`, W `[O,I]`, b `[O]`, y `[..,O]`; R is the number of rows of x.
//!
//! Backward, from y_ro = Σ_i x_ri W_oi + b_o:
//! * ∂L/∂x_ri = Σ_o dy_ro W_oi, so dx = dy W
//! * ∂L/∂W_oi = Σ_r dy_ro x_ri, so dW += dyᵀ x
//! * ∂L/∂b_o = Σ_r dy_ro, so db += column sums of dy
//!
//! Kept for backward: x (by its owner). Source: any; the layout is that of `torch.nn.Linear`.

#[cfg(feature = "cuda")]
mod cuda;

use crate::cpu::scalar::Scalar;
use crate::cpu::{Cpu, add_column_sums, fill_rows, gemm};
use crate::ops::Backend;
use crate::ops::case::{Case, Cost, Inputs, Io, Large, Threshold, Visitor};
use crate::params::{Ctx, Decay, Grad, Init, Param, Params, Registry};
use crate::real::Real;
use crate::storage::Storage;
use crate::tensor::{Master, Tensor};
use std::ops::Range;

/// Parameters of a linear layer.
#[derive(Clone, Debug)]
pub struct Linear {
    /// W `[O,I]`, decayed.
    pub weight: Param,
    /// b `[O]`, not decayed, starts at 0.
    pub bias: Option<Param>,
}

impl Linear {
    /// `name.weight` and `name.bias`.
    pub fn new(reg: &mut Registry, name: &str, input: usize, output: usize, init: Init) -> Self {
        let weight = reg.add(format!("{name}.weight"), &[output, input], Decay::Yes, init);
        let bias = reg.add(format!("{name}.bias"), &[output], Decay::No, Init::Constant(0.0));
        Self { weight, bias: Some(bias) }
    }

    /// The bias. Panics where there is none: for ops that always add one.
    #[track_caller]
    pub fn expect_bias(&self, op: &str) -> &Param {
        let bias = self.bias.as_ref();
        bias.unwrap_or_else(|| panic!("{op}: {} has no bias beside it", self.weight.name))
    }

    /// From the first to the last of its parameters, which follow each other.
    pub fn range(&self) -> Range<usize> {
        self.weight.range.start..self.bias.as_ref().unwrap_or(&self.weight).range.end
    }

    /// x `[..,I]` -> y `[..,O]`.
    pub fn forward<B: LinearOp>(&self, ctx: Ctx<B>, x: &Tensor<B>) -> Tensor<B> {
        ctx.bk.linear_forward(x, ctx.w, self)
    }

    /// dy `[..,O]` -> dx `[..,I]`.
    pub fn backward<B: LinearOp>(
        &self,
        grad: &mut Grad<B>,
        x: &Tensor<B>,
        dy: &Tensor<B>,
    ) -> Tensor<B> {
        grad.ctx.bk.linear_backward(x, grad.ctx.w, self, dy, grad.g)
    }

    /// The shape of y. Panics where x, W and b do not fit together.
    #[track_caller]
    pub fn output_shape<B: Storage>(&self, op: &str, x: &Tensor<B>) -> Vec<usize> {
        let out = self.weight.shape[0];
        self.weight.expect_shape(op, &[out, x.cols()]);
        if let Some(bias) = &self.bias {
            bias.expect_shape(op, &[out]);
        }
        let mut shape = x.shape().to_vec();
        *shape.last_mut().unwrap_or_else(|| panic!("{op}: x is a scalar")) = out;
        shape
    }
}

/// y = x Wᵀ + b and its gradients.
pub trait LinearOp: Storage {
    /// x `[..,I]` -> y `[..,O]`.
    fn linear_forward(&self, x: &Tensor<Self>, w: &Params<Self>, p: &Linear) -> Tensor<Self>;

    /// dy `[..,O]` -> dx `[..,I]`; adds dW and db to `g`.
    fn linear_backward(
        &self,
        x: &Tensor<Self>,
        w: &Params<Self>,
        p: &Linear,
        dy: &Tensor<Self>,
        g: &mut Params<Self>,
    ) -> Tensor<Self>;
}

impl<T: Scalar> LinearOp for Cpu<T> {
    #[track_caller]
    fn linear_forward(&self, x: &Tensor<Self>, w: &Params<Self>, p: &Linear) -> Tensor<Self> {
        let mut y: Master<Self> = self.unset(&p.output_shape("linear", x));
        let beta = match &p.bias {
            Some(bias) => {
                fill_rows(y.slice_mut(), w.get(bias));
                T::Master::ONE
            }
            None => T::Master::ZERO,
        };
        let (x, weight) = (x.wide_matrix(), w.operand_matrix(&p.weight));
        gemm(T::Master::ONE, x.view(), weight.t(), beta, y.matrix_mut());
        self.narrow(y)
    }

    #[track_caller]
    fn linear_backward(
        &self,
        x: &Tensor<Self>,
        w: &Params<Self>,
        p: &Linear,
        dy: &Tensor<Self>,
        g: &mut Params<Self>,
    ) -> Tensor<Self> {
        dy.expect_shape("linear_backward", "dy", &p.output_shape("linear_backward", x));
        if let Some(bias) = &p.bias {
            add_column_sums(&dy.wide(), g.get_mut(bias));
        }
        let mut dx: Master<Self> = self.unset(x.shape());
        let (one, dy, x) = (T::Master::ONE, dy.wide_matrix(), x.wide_matrix());
        gemm(one, dy.t(), x.view(), one, g.matrix_mut(&p.weight));
        let weight = w.operand_matrix(&p.weight);
        gemm(one, dy.view(), weight.view(), T::Master::ZERO, dx.matrix_mut());
        self.narrow(dx)
    }
}

/// The op at one size.
pub struct LinearCase {
    pub(crate) instance: &'static str,
    pub(crate) rows: usize,
    pub(crate) input: usize,
    pub(crate) output: usize,
    pub(crate) bias: bool,
}

impl Case for LinearCase {
    fn name(&self) -> String {
        format!("linear/{}", self.instance)
    }

    fn inputs(&self) -> Inputs {
        let (i, o) = (self.input, self.output);
        let inputs = Inputs::new(&self.name()).elem("x", &[self.rows, i]).param("weight", &[o, i]);
        if self.bias { inputs.param("bias", &[o]) } else { inputs }
    }

    fn run<B: Backend>(&self, bk: &B, io: &mut Io<B>) {
        let (x, weight) = (io.elem("x"), io.param("weight"));
        let p = Linear { weight, bias: self.bias.then(|| io.param("bias")) };
        let y = bk.linear_forward(&x, &io.w, &p);
        io.output(bk, &y);
        if io.wants_backward() {
            let dy = io.upstream(bk, 0);
            let dx = bk.linear_backward(&x, &io.w, &p, &dy, &mut io.g);
            io.grad(bk, "x", &dx);
        }
    }

    fn thresholds(&self) -> Vec<Threshold> {
        let [first, second] = Threshold::fold_rows(self.rows);
        // Where rows are filled with the bias.
        let rows = if self.bias { self.rows } else { 0 };
        vec![Threshold::rows_per_task(rows, self.output), first, second]
    }

    fn cost(&self) -> Cost {
        let [r, i, o] = [self.rows, self.input, self.output].map(|n| n as f64);
        Cost {
            flops_forward: 2.0 * r * i * o,
            flops_backward: 4.0 * r * i * o,
            elements_forward: r * i + i * o + r * o,
            elements_backward: 2.0 * (r * i + i * o) + r * o,
        }
    }
}

/// Smallest, odd, without bias, a block's first MLP layer at tiny size, several tasks and pieces of sums.
pub fn cases<V: Visitor>(v: &mut V) {
    for (instance, rows, input, output, bias) in [
        ("one", 1, 1, 1, true),
        ("odd", 7, 5, 3, true),
        ("no_bias", 5, 4, 6, false),
        ("pieces", 33, 3, 2, true),
        ("tiny_mlp", 65, 128, 512, true),
    ] {
        v.visit(LinearCase { instance, rows, input, output, bias });
    }
    // 1024 rows of 16 numbers are filled by a task.
    for (instance, rows, input, output, bias) in [
        ("task_and_one", 1025, 3, 16, true),
        ("many_tasks", 3079, 2, 16, true),
        ("sum_and_one", 513, 5, 3, true),
        ("many_rows", 2053, 7, 3, false),
    ] {
        v.visit(Large(LinearCase { instance, rows, input, output, bias }));
    }
}

/// An empty batch.
pub fn empty_case<V: Visitor>(v: &mut V) {
    v.visit(LinearCase { instance: "empty", rows: 0, input: 3, output: 2, bias: true });
}

/// Two products of a block of BEiT-B, 32 images: qkv and the second layer of the MLP.
pub fn large_cases<V: Visitor>(v: &mut V) {
    for (instance, input, output) in [("6304x768x2304", 768, 2304), ("6304x3072x768", 3072, 768)] {
        v.visit(LinearCase { instance, rows: 6304, input, output, bias: true });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gradients are added to what is there, of wide weights too.
    #[test]
    fn wide_gradients_are_added() {
        let (bk, mut reg) = (Cpu::<f64>::new(), Registry::new());
        let p = Linear::new(&mut reg, "l", 300, 2, Init::Constant(1.0));
        let layout = reg.finish();
        let w = Params::zeros(&bk, &layout);
        let ones = vec![1.0; crate::params::arena_len(&layout)];
        let mut g = Params::from_host(&bk, &layout, &ones);
        let x = Tensor::from_f64(&bk, &vec![0.5; 3 * 300], &[3, 300]);
        let dy = Tensor::from_f64(&bk, &[2.0; 6], &[3, 2]);
        p.backward(&mut Grad::new(Ctx::new(&bk, &w), &mut g), &x, &dy);
        let got = g.to_host(&bk);
        let bias = p.expect_bias("test").range.clone();
        assert!(got[p.weight.range.clone()].iter().all(|g| *g == 1.0 + 3.0 * 2.0 * 0.5));
        assert!(got[bias].iter().all(|g| *g == 1.0 + 3.0 * 2.0));
    }
}
