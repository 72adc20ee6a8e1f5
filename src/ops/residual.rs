//! Residual sum with layer scale and drop path: s' = s + keep·γ⊙branch.
//!
//! Shapes: s, branch and s' `[B,..,C]`, γ `[C]` or absent (1), keep `[B]` or absent (1): 0 for a
//! sample whose branch is dropped, 1/(1 − p) for one whose branch stays.
//!
//! Backward, from s'_bnc = s_bnc + keep_b γ_c branch_bnc:
//! * ds = ds', so the caller goes on with ds' and nothing is returned for it
//! * dbranch = keep·γ⊙ds'
//! * dγ_c += Σ_bn keep_b branch_bnc ds'_bnc
//!
//! A Transformer block calls [`super::residual_norm`], which works on the same rows and applies the norm
//! that follows.
//!
//! Kept for backward: branch, where there is a γ. keep is an input, so that the same factors can be
//! used again. Source: BEiT `modeling_finetune.py`, class Block (γ before DropPath); Touvron et al.,
//! arXiv 2103.17239, eq. 5; Huang et al., arXiv 1603.09382 ("stochastic depth").

#[cfg(feature = "cuda")]
mod cuda;

use crate::cpu::pieces::{Cut, Pieces};
use crate::cpu::scalar::Scalar;
use crate::cpu::{Cpu, fold_pieces, fold_step, rows_per_task, simd};
use crate::ops::Backend;
use crate::ops::case::{Case, Cost, Inputs, Io, Large, Rounding, Threshold, Visitor};
use crate::params::{Param, Params};
use crate::real::Real;
use crate::simd_fn;
use crate::storage::Storage;
use crate::tensor::{Master, Tensor};

/// What a residual sum adds to the stream.
pub struct Branch<'a, B: Storage> {
    /// What the branch put out, `[B,..,C]`.
    pub out: &'a Tensor<B>,
    /// Layer scale γ `[C]`; 1 where `None`.
    pub gamma: Option<&'a Param>,
    /// Drop-path factor of each sample `[B]`: 0 or 1/(1 − p); 1 where `None`.
    pub keep: Option<&'a Master<B>>,
}

impl<B: Storage> Clone for Branch<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B: Storage> Copy for Branch<'_, B> {}

impl<B: Storage> Branch<'_, B> {
    /// Panics unless everything fits a stream of this shape.
    #[track_caller]
    pub fn expect_fit(&self, op: &str, shape: &[usize]) {
        assert!(shape.len() >= 2, "{op}: the stream is {shape:?}, expected [B,..,C]");
        self.out.expect_shape(op, "branch", shape);
        if let Some(gamma) = self.gamma {
            gamma.expect_shape(op, &shape[shape.len() - 1..]);
        }
        if let Some(keep) = self.keep {
            keep.expect_shape(op, "keep", &shape[..1]);
        }
    }
}

/// s' = s + keep·γ⊙branch and its gradients.
pub trait ResidualOp: Storage {
    /// s, branch `[B,..,C]` -> s' `[B,..,C]`. Takes s, which becomes s'.
    fn residual_forward(
        &self,
        s: Master<Self>,
        branch: &Branch<Self>,
        w: &Params<Self>,
    ) -> Master<Self>;

    /// ds' `[B,..,C]` -> dbranch `[B,..,C]`; adds dγ to `g`. The gradient of s is ds' itself.
    fn residual_backward(
        &self,
        branch: &Branch<Self>,
        w: &Params<Self>,
        ds: &Master<Self>,
        g: &mut Params<Self>,
    ) -> Tensor<Self>;
}

/// The factor of each row: that of its sample.
#[derive(Clone, Copy)]
pub struct Keep<'a, T> {
    factors: Option<&'a [T]>,
    rows_per_sample: usize,
}

impl<'a, T: Real> Keep<'a, T> {
    /// For a stream of this shape.
    pub fn new<S: Scalar<Master = T>>(keep: Option<&'a Master<Cpu<S>>>, shape: &[usize]) -> Self {
        let rows_per_sample = shape[1..shape.len() - 1].iter().product();
        Self { factors: keep.map(|k| k.slice()), rows_per_sample }
    }

    /// The factor of row `row`.
    pub fn of(&self, row: usize) -> T {
        self.factors.map_or(T::ONE, |keep| keep[row / self.rows_per_sample])
    }
}

simd_fn! {
    /// One row: s + keep·γ⊙branch.
    pub fn residual_row<T>(s: &[T], branch: &[T], gamma: Option<&[T]>, keep: T, out: &mut [T]) {
        let terms = out.iter_mut().zip(s).zip(branch);
        if let Some(gamma) = gamma {
            for (((out, &s), &branch), &gamma) in terms.zip(gamma) {
                *out = s + keep * gamma * branch;
            }
        } else {
            for ((out, &s), &branch) in terms {
                *out = s + keep * branch;
            }
        }
    }
}

simd_fn! {
    /// One row of dbranch = keep·γ⊙ds and dγ += keep·branch⊙ds (`dgamma` is empty without γ).
    pub fn residual_row_backward<T>(branch: &[T], gamma: Option<&[T]>, keep: T, ds: &[T], dbranch: &mut [T], dgamma: &mut [T]) {
        if let Some(gamma) = gamma {
            let terms = dbranch.iter_mut().zip(dgamma).zip(branch).zip(gamma).zip(ds);
            for ((((dbranch, dgamma), &branch), &gamma), &ds) in terms {
                let scaled = keep * ds;
                *dbranch = gamma * scaled;
                *dgamma += branch * scaled;
            }
        } else {
            for (dbranch, &ds) in dbranch.iter_mut().zip(ds) {
                *dbranch = keep * ds;
            }
        }
    }
}

simd_fn! {
    /// One row in place: s += keep·γ⊙branch.
    fn residual_row_in_place<T>(s: &mut [T], branch: &[T], gamma: Option<&[T]>, keep: T) {
        if let Some(gamma) = gamma {
            for ((s, &branch), &gamma) in s.iter_mut().zip(branch).zip(gamma) {
                *s += keep * gamma * branch;
            }
        } else {
            for (s, &branch) in s.iter_mut().zip(branch) {
                *s += keep * branch;
            }
        }
    }
}

impl<T: Scalar> ResidualOp for Cpu<T> {
    #[track_caller]
    fn residual_forward(
        &self,
        mut s: Master<Self>,
        branch: &Branch<Self>,
        w: &Params<Self>,
    ) -> Master<Self> {
        branch.expect_fit("residual", s.shape());
        let (c, keep) = (s.cols(), Keep::new(branch.keep, s.shape()));
        let (gamma, step) = (branch.gamma.map(|p| w.get(p)), rows_per_task(c));
        let out = branch.out.wide();
        let pieces = s.slice_mut().par_chunks_mut(step * c).zip(out.par_chunks(step * c));
        pieces.enumerate().for_each(|(i, (s, branch))| {
            let rows = s.chunks_exact_mut(c).zip(branch.chunks_exact(c));
            for (r, (s, branch)) in (i * step..).zip(rows) {
                residual_row_in_place(s, branch, gamma, keep.of(r));
            }
        });
        s
    }

    #[track_caller]
    fn residual_backward(
        &self,
        branch: &Branch<Self>,
        w: &Params<Self>,
        ds: &Master<Self>,
        g: &mut Params<Self>,
    ) -> Tensor<Self> {
        branch.expect_fit("residual_backward", ds.shape());
        let keep = Keep::new(branch.keep, ds.shape());
        let (c, gamma, step) = (ds.cols(), branch.gamma, fold_step(ds.rows()));
        let scale = gamma.map(|p| w.get(p));
        let mut dbranch: Master<Self> = self.unset(ds.shape());
        let out = branch.out.wide();
        let inputs = out.par_chunks(step * c).zip(ds.slice().par_chunks(step * c));
        let pieces = dbranch.slice_mut().par_chunks_mut(step * c).zip(inputs);
        let width = if gamma.is_some() { c } else { 0 };
        let dgamma = fold_pieces(width, pieces, |i, (dbranch, (branch, ds)), dgamma| {
            let rows = branch.chunks_exact(c).zip(ds.chunks_exact(c));
            for (r, (dbranch, (branch, ds))) in
                (i * step..).zip(dbranch.chunks_exact_mut(c).zip(rows))
            {
                residual_row_backward(branch, scale, keep.of(r), ds, dbranch, dgamma);
            }
        });
        if let Some(gamma) = gamma {
            simd::add_assign(g.get_mut(gamma), &dgamma);
        }
        self.narrow(dbranch)
    }
}

/// The op at one size.
pub struct ResidualCase {
    instance: &'static str,
    shape: &'static [usize],
    gamma: bool,
    keep: bool,
}

impl Case for ResidualCase {
    fn name(&self) -> String {
        format!("residual/{}", self.instance)
    }

    fn inputs(&self) -> Inputs {
        let c = self.shape[self.shape.len() - 1];
        let mut inputs =
            Inputs::new(&self.name()).master("s", self.shape).elem("branch", self.shape);
        if self.keep {
            inputs = push_keep(inputs, self.shape[0]);
        }
        if self.gamma { inputs.param("gamma", &[c]) } else { inputs }
    }

    fn run<B: Backend>(&self, bk: &B, io: &mut Io<B>) {
        let (s, out) = (io.master("s"), io.elem("branch"));
        let gamma = self.gamma.then(|| io.param("gamma"));
        let keep = self.keep.then(|| io.master("keep"));
        let branch = Branch { out: &out, gamma: gamma.as_ref(), keep: keep.as_ref() };
        let out = bk.residual_forward(s, &branch, &io.w);
        io.output(bk, &out);
        if io.wants_backward() {
            let ds = io.upstream(bk, 0);
            let dbranch = bk.residual_backward(&branch, &io.w, &ds, &mut io.g);
            io.grad(bk, "s", &ds);
            io.grad(bk, "branch", &dbranch);
        }
    }

    fn rounding(&self) -> Rounding {
        Rounding::Single
    }

    fn thresholds(&self) -> Vec<Threshold> {
        let c = self.shape[self.shape.len() - 1];
        let rows = self.shape.iter().product::<usize>() / c.max(1);
        let [first, second] = Threshold::fold_rows(rows);
        vec![Threshold::rows_per_task(rows, c), first, second]
    }

    fn cost(&self) -> Cost {
        let n = self.shape.iter().product::<usize>() as f64;
        Cost {
            flops_forward: 2.0 * n,
            flops_backward: 4.0 * n,
            elements_forward: 3.0 * n,
            elements_backward: 3.0 * n,
        }
    }
}

/// Adds the input `keep` `[B]`: samples in turn dropped and kept with 1/(1 − 1/5).
pub fn push_keep(inputs: Inputs, batch: usize) -> Inputs {
    let values = (0..batch).map(|b| if b % 2 == 1 { 0.0 } else { 1.25 }).collect();
    inputs.push("keep", &[batch], values, crate::ops::case::Kind::Master, false)
}

/// Smallest, odd with everything, without γ, without keep, several pieces, the tiny preset,
/// batches of several tasks and pieces of sums, whose samples are in turn kept and dropped.
pub fn cases<V: Visitor>(v: &mut V) {
    for (instance, shape, gamma, keep) in [
        ("one", &[1, 1, 1][..], true, true),
        ("odd", &[3, 5, 7], true, true),
        ("no_gamma", &[3, 2, 5], false, true),
        ("plain", &[2, 3, 4], false, false),
        ("pieces", &[7, 11, 3], true, true),
        ("tiny", &[2, 65, 128], true, false),
        ("batch", &[11, 3, 2], true, true),
    ] {
        v.visit(ResidualCase { instance, shape, gamma, keep });
    }
    // 15 rows of 1031 columns are a task.
    for (instance, shape, gamma) in [
        ("task_and_one", &[4, 4, 1031][..], true),
        ("many_tasks", &[4, 12, 1031], false),
        ("sum_and_one", &[27, 19, 2], true),
        ("many_sums", &[31, 52, 2], true),
    ] {
        v.visit(Large(ResidualCase { instance, shape, gamma, keep: true }));
    }
}

/// An empty batch.
pub fn empty_case<V: Visitor>(v: &mut V) {
    v.visit(ResidualCase { instance: "empty", shape: &[0, 2, 3], gamma: true, keep: true });
}

/// A size worth timing: BEiT-B and its tokenizer.
pub fn large_cases<V: Visitor>(v: &mut V) {
    let (shape, gamma, keep) = (&[64, 197, 768], true, true);
    v.visit(ResidualCase { instance: "64x197x768", shape, gamma, keep });
}
