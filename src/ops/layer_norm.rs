//! Layer normalisation over the last axis: y = xhat ⊙ w + b, xhat = (x − μ) r, r = 1/√(σ² + ε).
//!
//! Shapes: x `[..,C]`, w and b `[C]`, μ and r one number per row. σ² is the biased variance.
//!
//! Backward. With h = dy ⊙ w (the gradient of xhat), μ and r depending on every x of the row:
//! * ∂xhat_j/∂x_i = r (δ_ij − 1/C − xhat_i xhat_j / C), because ∂r/∂x_i = −r² xhat_i / C
//! * dx_i = r (h_i − mean(h) − xhat_i · mean(h ⊙ xhat))
//! * dw += Σ_rows dy ⊙ xhat, db += Σ_rows dy
//!
//! Kept for backward: x (the residual stream, kept by its owner anyway), μ and r. ε is 1e-6 in BEiT
//! (1e-12 in files made by other programs): it belongs to the model. Source: Ba, Kiros and Hinton,
//! arXiv 1607.06450, eq. 3.

#[cfg(feature = "cuda")]
mod cuda;

use crate::cpu::pieces::{Cut, Pieces};
use crate::cpu::scalar::Scalar;
use crate::cpu::{Cpu, fold_rows, rows_per_task, simd};
use crate::ops::Backend;
use crate::ops::case::{Case, Cost, Inputs, Io, Large, Threshold, Visitor};
use crate::params::{Ctx, Decay, Grad, Init, Param, Params, Registry};
use crate::real::{Float, Real};
use crate::simd_fn;
use crate::storage::Storage;
use crate::tensor::{Master, Tensor};

/// Parameters of a layer normalisation.
#[derive(Clone, Debug)]
pub struct Norm {
    /// w `[C]`, starts at 1.
    pub weight: Param,
    /// b `[C]`, starts at 0.
    pub bias: Param,
    /// ε, added to the variance.
    pub eps: f64,
}

impl Norm {
    /// `name.weight` and `name.bias`.
    pub fn new(reg: &mut Registry, name: &str, width: usize, eps: f64) -> Self {
        let mut add = |part: &str, start| {
            reg.add(format!("{name}.{part}"), &[width], Decay::No, Init::Constant(start))
        };
        Self { weight: add("weight", 1.0), bias: add("bias", 0.0), eps }
    }

    /// Panics unless both have a number for each column.
    #[track_caller]
    pub fn expect_width(&self, op: &str, c: usize) {
        self.weight.expect_shape(op, &[c]);
        self.bias.expect_shape(op, &[c]);
    }

    /// x `[..,C]` -> y `[..,C]`.
    pub fn forward<B: LayerNormOp>(&self, ctx: Ctx<B>, x: &Master<B>) -> (Tensor<B>, NormStats<B>) {
        ctx.bk.layer_norm_forward(x, ctx.w, self)
    }

    /// dy `[..,C]` -> dx `[..,C]`.
    pub fn backward<B: LayerNormOp>(
        &self,
        grad: &mut Grad<B>,
        x: &Master<B>,
        stats: &NormStats<B>,
        dy: &Tensor<B>,
    ) -> Master<B> {
        grad.ctx.bk.layer_norm_backward(x, stats, grad.ctx.w, self, dy, grad.g)
    }
}

/// Mean and reciprocal deviation of each row, kept for backward.
pub struct NormStats<B: Storage> {
    /// μ, one per row.
    pub mean: Master<B>,
    /// r = 1/√(σ² + ε), one per row.
    pub rstd: Master<B>,
}

/// Layer normalisation and its gradients.
pub trait LayerNormOp: Storage {
    /// x `[..,C]` -> y `[..,C]`.
    fn layer_norm_forward(
        &self,
        x: &Master<Self>,
        w: &Params<Self>,
        norm: &Norm,
    ) -> (Tensor<Self>, NormStats<Self>);

    /// dy `[..,C]` -> dx `[..,C]`; adds dw and db to `g`.
    fn layer_norm_backward(
        &self,
        x: &Master<Self>,
        stats: &NormStats<Self>,
        w: &Params<Self>,
        norm: &Norm,
        dy: &Tensor<Self>,
        g: &mut Params<Self>,
    ) -> Master<Self>;
}

simd_fn! {
    /// One row forward: writes y, returns (μ, r).
    pub fn normalise_row<T>(x: &[T], weight: &[T], bias: &[T], eps: T, y: &mut [T]) -> (T, T) {
        let n = T::from_f64(x.len() as f64);
        let mean = simd::sum(x) / n;
        // Two passes: E[x²] − μ² would cancel for a stream whose mean is far from 0.
        for (y, &x) in y.iter_mut().zip(x) {
            *y = x - mean;
        }
        let rstd = T::ONE / (simd::dot(y, y) / n + eps).sqrt();
        for ((y, &w), &b) in y.iter_mut().zip(weight).zip(bias) {
            *y = *y * rstd * w + b;
        }
        (mean, rstd)
    }
}

simd_fn! {
    /// One row backward: adds this row's gradient to dx. `h` is scratch.
    pub fn normalise_row_backward<T>(x: &[T], mean: T, rstd: T, weight: &[T], dy: &[T], h: &mut [T], dx: &mut [T]) {
        let n = T::from_f64(x.len() as f64);
        // y = xhat ⊙ w + b   =>   h = dy ⊙ w
        for ((h, &dy), &w) in h.iter_mut().zip(dy).zip(weight) {
            *h = dy * w;
        }
        let mean_h = simd::sum(h) / n;
        let mut lanes = [T::ZERO; simd::LANES];
        for (hs, xs) in h.chunks(simd::LANES).zip(x.chunks(simd::LANES)) {
            for (lane, (&h, &x)) in lanes.iter_mut().zip(hs.iter().zip(xs)) {
                *lane += h * (x - mean);
            }
        }
        let mean_hx = simd::fold(lanes) * rstd / n;
        // xhat = (x − μ) r   =>   dx = r (h − mean(h) − xhat · mean(h ⊙ xhat))
        for ((dx, &h), &x) in dx.iter_mut().zip(&*h).zip(x) {
            *dx += rstd * (h - mean_h - (x - mean) * rstd * mean_hx);
        }
    }
}

simd_fn! {
    /// One row of dw += dy ⊙ xhat and db += dy.
    pub fn norm_param_row<T>(x: &[T], mean: T, rstd: T, dy: &[T], dw: &mut [T], db: &mut [T]) {
        for (((dw, db), &x), &dy) in dw.iter_mut().zip(db).zip(x).zip(dy) {
            *dw += dy * (x - mean) * rstd;
            *db += dy;
        }
    }
}

/// Adds dw and db of all rows to `g`, in a fixed order.
pub fn add_norm_param_grads<T: Scalar>(
    x: &[T::Master],
    stats: &NormStats<Cpu<T>>,
    dy: &[T::Master],
    norm: &Norm,
    g: &mut Params<Cpu<T>>,
) {
    let Norm { weight, bias, .. } = norm;
    let (c, mean, rstd) = (weight.len(), stats.mean.slice(), stats.rstd.slice());
    let sums = fold_rows(mean.len(), 2 * c, |rows, sums| {
        let (dw, db) = sums.split_at_mut(c);
        for r in rows {
            let row = r * c..(r + 1) * c;
            norm_param_row(&x[row.clone()], mean[r], rstd[r], &dy[row], dw, db);
        }
    });
    simd::add_assign(g.get_mut(weight), &sums[..c]);
    simd::add_assign(g.get_mut(bias), &sums[c..]);
}

impl<T: Scalar> LayerNormOp for Cpu<T> {
    #[track_caller]
    fn layer_norm_forward(
        &self,
        x: &Master<Self>,
        w: &Params<Self>,
        norm: &Norm,
    ) -> (Tensor<Self>, NormStats<Self>) {
        let (c, eps) = (x.cols(), T::Master::from_f64(norm.eps));
        norm.expect_width("layer_norm", c);
        let mut y: Master<Self> = self.unset(x.shape());
        let mut mean = Master::zeros(self, &[x.rows()]);
        let mut rstd = Master::zeros(self, &[x.rows()]);
        let (weight, bias) = (w.get(&norm.weight), w.get(&norm.bias));
        let step = rows_per_task(c);
        y.slice_mut()
            .par_chunks_mut(step * c)
            .zip(x.slice().par_chunks(step * c))
            .zip(mean.slice_mut().par_chunks_mut(step).zip(rstd.slice_mut().par_chunks_mut(step)))
            .for_each(|((y, x), (mean, rstd))| {
                let rows = y.chunks_exact_mut(c).zip(x.chunks_exact(c));
                for ((y, x), (mean, rstd)) in rows.zip(mean.iter_mut().zip(rstd)) {
                    (*mean, *rstd) = normalise_row(x, weight, bias, eps, y);
                }
            });
        (self.narrow(y), NormStats { mean, rstd })
    }

    #[track_caller]
    fn layer_norm_backward(
        &self,
        x: &Master<Self>,
        stats: &NormStats<Self>,
        w: &Params<Self>,
        norm: &Norm,
        dy: &Tensor<Self>,
        g: &mut Params<Self>,
    ) -> Master<Self> {
        dy.expect_shape("layer_norm_backward", "dy", x.shape());
        let dy = dy.wide();
        add_norm_param_grads(x.slice(), stats, &dy, norm, g);
        let mut dx = Master::zeros(self, x.shape());
        add_norm_input_grads(x, stats, w.get(&norm.weight), &dy, &mut dx);
        dx
    }
}

/// dx += the gradient through the normalisation, row by row.
pub fn add_norm_input_grads<T: Scalar>(
    x: &Master<Cpu<T>>,
    stats: &NormStats<Cpu<T>>,
    weight: &[T::Master],
    dy: &[T::Master],
    dx: &mut Master<Cpu<T>>,
) {
    let c = x.cols();
    let step = rows_per_task(c);
    let (mean, rstd) = (stats.mean.slice(), stats.rstd.slice());
    let rows = x.slice().par_chunks(step * c).zip(dy.par_chunks(step * c));
    dx.slice_mut().par_chunks_mut(step * c).zip(rows).enumerate().for_each(|(i, (dx, (x, dy)))| {
        let mut h = vec![T::Master::ZERO; c];
        let rows = dx.chunks_exact_mut(c).zip(x.chunks_exact(c).zip(dy.chunks_exact(c)));
        for (r, (dx, (x, dy))) in (i * step..).zip(rows) {
            normalise_row_backward(x, mean[r], rstd[r], weight, dy, &mut h, dx);
        }
    });
}

/// The op at one size.
pub struct LayerNormCase {
    pub(crate) instance: &'static str,
    pub(crate) shape: &'static [usize],
    pub(crate) eps: f64,
}

impl Case for LayerNormCase {
    fn name(&self) -> String {
        format!("layer_norm/{}", self.instance)
    }

    fn inputs(&self) -> Inputs {
        let c = self.shape[self.shape.len() - 1];
        Inputs::new(&self.name()).master("x", self.shape).param("weight", &[c]).param("bias", &[c])
    }

    fn run<B: Backend>(&self, bk: &B, io: &mut Io<B>) {
        let (x, eps) = (io.master("x"), self.eps);
        let norm = Norm { weight: io.param("weight"), bias: io.param("bias"), eps };
        let (y, stats) = bk.layer_norm_forward(&x, &io.w, &norm);
        io.output(bk, &y);
        if io.wants_backward() {
            let dy = io.upstream(bk, 0);
            let dx = bk.layer_norm_backward(&x, &stats, &io.w, &norm, &dy, &mut io.g);
            io.grad(bk, "x", &dx);
        }
    }

    fn thresholds(&self) -> Vec<Threshold> {
        let c = self.shape[self.shape.len() - 1];
        let rows = self.shape.iter().product::<usize>() / c.max(1);
        let [first, second] = Threshold::fold_rows(rows);
        vec![Threshold::rows_per_task(rows, c), Threshold::lanes(c), first, second]
    }

    fn cost(&self) -> Cost {
        let n = self.shape.iter().product::<usize>() as f64;
        Cost {
            flops_forward: 7.0 * n,
            flops_backward: 14.0 * n,
            elements_forward: 2.0 * n,
            elements_backward: 3.0 * n,
        }
    }
}

/// Two columns (one column normalises to 0), odd sizes, a large eps, one row and one column more than fit
/// together, widths of real models, several tasks and pieces of the sum.
pub fn cases<V: Visitor>(v: &mut V) {
    for (instance, shape, eps) in [
        ("small", &[1, 2][..], 1e-6),
        ("odd", &[3, 5, 7], 1e-6),
        ("large_eps", &[4, 33], 0.5),
        ("pieces", &[3, 11, 17], 1e-6),
        ("lanes", &[4, 2, 63], 1e-6),
        ("tiny", &[2, 65, 128], 1e-6),
    ] {
        v.visit(LayerNormCase { instance, shape, eps });
    }
    // 42 rows of 385 columns are a task.
    for (instance, shape) in [
        ("task_and_one", &[43, 385][..]),
        ("many_tasks", &[4, 32, 385]),
        ("sum_and_one", &[27, 19, 2]),
        ("many_sums", &[31, 52, 2]),
    ] {
        v.visit(Large(LayerNormCase { instance, shape, eps: 1e-6 }));
    }
}

/// An empty batch.
pub fn empty_case<V: Visitor>(v: &mut V) {
    v.visit(LayerNormCase { instance: "empty", shape: &[0, 3], eps: 1e-6 });
}

/// A size worth timing: BEiT-B and its tokenizer.
pub fn large_cases<V: Visitor>(v: &mut V) {
    v.visit(LayerNormCase { instance: "64x197x768", shape: &[64, 197, 768], eps: 1e-6 });
}
