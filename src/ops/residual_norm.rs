//! Residual sum followed by layer normalisation: s' = s + keep·γ⊙branch, y = LN(s').
//!
//! Shapes: s, branch, s' and y `[B,..,C]`; γ, weight and bias `[C]`; keep `[B]`; mean and rstd one
//! number per row. Fused because each row is then read once while it is in cache; between two
//! branches of a transformer block the two steps always follow each other.
//!
//! Backward. s' goes on in the stream and through the normalisation, so its gradient has two terms:
//! * ds' = ds'(later) + LN backward (dy), with dweight and dbias, see [`super::layer_norm`]
//! * ds = ds', dbranch = keep·γ⊙ds', dγ += Σ keep·branch⊙ds', see [`super::residual`]
//!
//! Kept for backward: s', mean and rstd, branch. Source: as for the two parts.

#[cfg(feature = "cuda")]
mod cuda;

use crate::cpu::pieces::{Cut, Pieces};
use crate::cpu::scalar::Scalar;
use crate::cpu::{Cpu, fold_pieces, fold_step, rows_per_task, simd};
use crate::ops::Backend;
use crate::ops::case::{Case, Cost, Inputs, Io, Large, Threshold, Visitor};
use crate::ops::layer_norm::{
    Norm, NormStats, norm_param_row, normalise_row, normalise_row_backward,
};
use crate::ops::residual::{Branch, Keep, push_keep, residual_row, residual_row_backward};
use crate::params::Params;
use crate::real::{Float, Real};
use crate::storage::Storage;
use crate::tensor::{Master, Tensor};

/// The residual stream at some place, and the statistics of the norm that follows there.
pub struct Stream<B: Storage> {
    /// `[B,..,C]`.
    pub s: Master<B>,
    /// Of the norm that follows, if any.
    pub stats: Option<NormStats<B>>,
}

/// s' = s + keep·γ⊙branch, y = LN(s') and their gradients.
pub trait ResidualNormOp: Storage {
    /// s, branch `[B,..,C]` -> (s' `[B,..,C]` with its statistics, y `[B,..,C]`).
    fn residual_norm_forward(
        &self,
        s: &Master<Self>,
        branch: &Branch<Self>,
        w: &Params<Self>,
        norm: &Norm,
    ) -> (Stream<Self>, Tensor<Self>);

    /// `upstream`: the gradient ds of s' from all that comes later, and dy -> (ds, dbranch); adds
    /// dγ, dweight and dbias to `g`. Takes ds, which becomes the whole gradient.
    fn residual_norm_backward(
        &self,
        stream: &Stream<Self>,
        branch: &Branch<Self>,
        w: &Params<Self>,
        norm: &Norm,
        upstream: (Master<Self>, &Tensor<Self>),
        g: &mut Params<Self>,
    ) -> (Master<Self>, Tensor<Self>);
}

impl<T: Scalar> ResidualNormOp for Cpu<T> {
    #[track_caller]
    fn residual_norm_forward(
        &self,
        s: &Master<Self>,
        branch: &Branch<Self>,
        w: &Params<Self>,
        norm: &Norm,
    ) -> (Stream<Self>, Tensor<Self>) {
        branch.expect_fit("residual_norm", s.shape());
        let (c, eps) = (s.cols(), T::Master::from_f64(norm.eps));
        norm.expect_width("residual_norm", c);
        let [mut s_out, mut y]: [Master<Self>; 2] = [self.unset(s.shape()), self.unset(s.shape())];
        let mut mean = Master::zeros(self, &[s.rows()]);
        let mut rstd = Master::zeros(self, &[s.rows()]);
        let (keep, gamma) = (Keep::new(branch.keep, s.shape()), branch.gamma.map(|p| w.get(p)));
        let (weight, bias, step) = (w.get(&norm.weight), w.get(&norm.bias), rows_per_task(c));
        let out = branch.out.wide();
        let inputs = s.slice().par_chunks(step * c).zip(out.par_chunks(step * c));
        let outputs = s_out.slice_mut().par_chunks_mut(step * c);
        let outputs = outputs.zip(y.slice_mut().par_chunks_mut(step * c));
        let stats =
            mean.slice_mut().par_chunks_mut(step).zip(rstd.slice_mut().par_chunks_mut(step));
        let pieces = inputs.zip(outputs).zip(stats).enumerate();
        pieces.for_each(|(i, (((s, branch), (s_out, y)), (mean, rstd)))| {
            let inputs = s.chunks_exact(c).zip(branch.chunks_exact(c));
            let outputs = s_out.chunks_exact_mut(c).zip(y.chunks_exact_mut(c));
            let stats = mean.iter_mut().zip(rstd);
            for (r, ((inputs, outputs), (mean, rstd))) in
                (i * step..).zip(inputs.zip(outputs).zip(stats))
            {
                let ((s, branch), (s_out, y)) = (inputs, outputs);
                // 1. s' = s + keep·γ⊙branch
                residual_row(s, branch, gamma, keep.of(r), s_out);
                // 2. y = LN(s')
                (*mean, *rstd) = normalise_row(s_out, weight, bias, eps, y);
            }
        });
        (Stream { s: s_out, stats: Some(NormStats { mean, rstd }) }, self.narrow(y))
    }

    #[track_caller]
    fn residual_norm_backward(
        &self,
        stream: &Stream<Self>,
        branch: &Branch<Self>,
        w: &Params<Self>,
        norm: &Norm,
        (mut ds, dy): (Master<Self>, &Tensor<Self>),
        g: &mut Params<Self>,
    ) -> (Master<Self>, Tensor<Self>) {
        let op = "residual_norm_backward";
        let (s_out, Branch { out, gamma, keep }) = (&stream.s, *branch);
        branch.expect_fit(op, s_out.shape());
        ds.expect_shape(op, "ds", s_out.shape());
        dy.expect_shape(op, "dy", s_out.shape());
        let (c, step) = (s_out.cols(), fold_step(s_out.rows()));
        norm.expect_width(op, c);
        let keep = Keep::new(keep, s_out.shape());
        let (scale, weight) = (gamma.map(|p| w.get(p)), w.get(&norm.weight));
        let stats = stream.stats.as_ref().expect("kept by forward");
        let (mean, rstd) = (stats.mean.slice(), stats.rstd.slice());
        let mut dbranch: Master<Self> = self.unset(s_out.shape());
        let (out, dy) = (out.wide(), dy.wide());
        let (out, dy) = (&*out, &*dy);
        let outputs = ds.slice_mut().par_chunks_mut(step * c);
        let pieces = outputs.zip(dbranch.slice_mut().par_chunks_mut(step * c));
        let width = if gamma.is_some() { 3 * c } else { 2 * c };
        let sums = fold_pieces(width, pieces, |i, (ds, dbranch), sums| {
            let (dweight, rest) = sums.split_at_mut(c);
            let (dbias, dgamma) = rest.split_at_mut(c);
            let mut h = vec![T::Master::ZERO; c];
            let rows = ds.chunks_exact_mut(c).zip(dbranch.chunks_exact_mut(c));
            for (r, (ds, dbranch)) in (i * step..).zip(rows) {
                let row = r * c..(r + 1) * c;
                let (x, dy) = (&s_out.slice()[row.clone()], &dy[row.clone()]);
                // 2. y = LN(s')   =>   ds' += LN backward (dy), dweight, dbias
                normalise_row_backward(x, mean[r], rstd[r], weight, dy, &mut h, ds);
                norm_param_row(x, mean[r], rstd[r], dy, dweight, dbias);
                // 1. s' = s + keep·γ⊙branch   =>   ds = ds', dbranch = keep·γ⊙ds', dγ
                let branch = &out[row];
                residual_row_backward(branch, scale, keep.of(r), ds, dbranch, dgamma);
            }
        });
        simd::add_assign(g.get_mut(&norm.weight), &sums[..c]);
        simd::add_assign(g.get_mut(&norm.bias), &sums[c..2 * c]);
        if let Some(gamma) = gamma {
            simd::add_assign(g.get_mut(gamma), &sums[2 * c..]);
        }
        (ds, self.narrow(dbranch))
    }
}

/// The op at one size.
pub struct ResidualNormCase {
    pub(crate) instance: &'static str,
    pub(crate) shape: &'static [usize],
    pub(crate) gamma: bool,
    pub(crate) keep: bool,
}

impl Case for ResidualNormCase {
    fn name(&self) -> String {
        format!("residual_norm/{}", self.instance)
    }

    fn inputs(&self) -> Inputs {
        let c = self.shape[self.shape.len() - 1];
        let mut inputs =
            Inputs::new(&self.name()).master("s", self.shape).elem("branch", self.shape);
        if self.keep {
            inputs = push_keep(inputs, self.shape[0]);
        }
        if self.gamma {
            inputs = inputs.param("gamma", &[c]);
        }
        inputs.param("weight", &[c]).param("bias", &[c])
    }

    fn run<B: Backend>(&self, bk: &B, io: &mut Io<B>) {
        let (s, out) = (io.master("s"), io.elem("branch"));
        let gamma = self.gamma.then(|| io.param("gamma"));
        let keep = self.keep.then(|| io.master("keep"));
        let branch = Branch { out: &out, gamma: gamma.as_ref(), keep: keep.as_ref() };
        let norm = Norm { weight: io.param("weight"), bias: io.param("bias"), eps: 1e-6 };
        let (stream, y) = bk.residual_norm_forward(&s, &branch, &io.w, &norm);
        io.output(bk, &stream.s);
        io.output(bk, &y);
        if io.wants_backward() {
            let (ds, dy) = (io.upstream(bk, 0), io.upstream(bk, 1));
            let (ds, dbranch) =
                bk.residual_norm_backward(&stream, &branch, &io.w, &norm, (ds, &dy), &mut io.g);
            io.grad(bk, "s", &ds);
            io.grad(bk, "branch", &dbranch);
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
            flops_forward: 9.0 * n,
            flops_backward: 18.0 * n,
            elements_forward: 4.0 * n,
            elements_backward: 6.0 * n,
        }
    }
}

/// Two columns, odd with everything, without γ, without keep, several pieces, the tiny preset,
/// batches of several tasks and pieces of sums, whose samples are in turn kept and dropped.
pub fn cases<V: Visitor>(v: &mut V) {
    for (instance, shape, gamma, keep) in [
        ("small", &[1, 1, 3][..], true, true),
        ("odd", &[3, 5, 7], true, true),
        ("no_gamma", &[3, 2, 5], false, true),
        ("plain", &[2, 3, 4], false, false),
        ("pieces", &[7, 11, 3], true, true),
        ("tiny", &[2, 65, 128], true, false),
        ("batch", &[11, 3, 17], true, true),
        ("lanes", &[4, 2, 63], true, true),
    ] {
        v.visit(ResidualNormCase { instance, shape, gamma, keep });
    }
    // 15 rows of 1031 columns are a task.
    for (instance, shape, gamma) in [
        ("task_and_one", &[4, 4, 1031][..], true),
        ("many_tasks", &[4, 12, 1031], false),
        ("sum_and_one", &[27, 19, 2], true),
        ("many_sums", &[31, 52, 2], true),
    ] {
        v.visit(Large(ResidualNormCase { instance, shape, gamma, keep: true }));
    }
}

/// An empty batch.
pub fn empty_case<V: Visitor>(v: &mut V) {
    v.visit(ResidualNormCase { instance: "empty", shape: &[0, 2, 3], gamma: true, keep: true });
}

/// A size worth timing: BEiT-B and its tokenizer.
pub fn large_cases<V: Visitor>(v: &mut V) {
    let (shape, gamma, keep) = (&[64, 197, 768], true, true);
    v.visit(ResidualNormCase { instance: "64x197x768", shape, gamma, keep });
}
