//! Cross-entropy of softmax against a class number or a distribution, row by row.
//!
//! Shapes: logits x `[R,V]`, hard labels `[R]`, soft targets t `[R,V]`, losses and argmax `[R]`.
//! * hard: loss_r = ln Σ_v exp x_rv − x_r,label; 0 where the label is the ignored one
//! * soft: loss_r = Σ_v t_rv (ln Σ_u exp x_ru − x_rv), the same with t = 1 at the label
//!
//! Backward. With p = softmax(x) and T_r = Σ_v t_rv (1 for a distribution), since
//! ∂ ln Σ exp / ∂x_v = p_v:
//! * dx_rv = scale (T_r p_rv − t_rv); whole rows of 0 where ignored
//!
//! The loss of a step is scale times the sum of the rows, so `scale` is one over the number of terms
//! of the whole optimizer step, and nothing is divided twice.
//!
//! Nothing is kept: losses and gradients are made in one pass, in place, because logits `[R,8192]` are
//! the largest tensor of pretraining. Source: BEiT, arXiv 2106.08254, eq. 2; soft targets as in
//! timm's SoftTargetCrossEntropy.

#[cfg(feature = "cuda")]
mod cuda;

use crate::cpu::pieces::{Cut, Pieces};
use crate::cpu::scalar::Scalar;
use crate::cpu::{Cpu, simd};
use crate::ops::Backend;
use crate::ops::case::{Case, Cost, Inputs, Io, Kind, Threshold, Visitor};
use crate::real::{Float, Real};
use crate::simd_fn;
use crate::storage::Storage;
use crate::tensor::{Ids, Master, Tensor};
use simd::LANES;

/// What the rows should have been.
pub enum Target<'a, B: Storage> {
    /// One class per row.
    Hard {
        /// Classes `[R]`.
        labels: &'a Ids<B>,
        /// The label of rows that take no part.
        ignore: Option<u32>,
    },
    /// A distribution per row `[R,V]`.
    Soft(&'a Master<B>),
}

/// Losses and best classes of the rows.
pub struct Losses<B: Storage> {
    /// Loss of each row `[R]`, 0 where ignored.
    pub rows: Master<B>,
    /// Largest logit of each row `[R]`, the lowest index where several are equal.
    pub argmax: Ids<B>,
}

/// Cross-entropy and its gradient.
pub trait CrossEntropyOp: Storage {
    /// logits `[R,V]` -> losses; for evaluation.
    fn cross_entropy_forward(
        &self,
        logits: &Tensor<Self>,
        target: &Target<'_, Self>,
    ) -> Losses<Self>;

    /// logits `[R,V]` -> (losses, scale · gradient of their sum `[R,V]`). Takes logits, which
    /// become the gradient.
    fn cross_entropy_backward(
        &self,
        logits: Tensor<Self>,
        target: &Target<'_, Self>,
        scale: f64,
    ) -> (Losses<Self>, Tensor<Self>);
}

impl<B: Storage> Target<'_, B> {
    /// Panics unless the target fits logits `[R,V]`.
    #[track_caller]
    pub fn expect_fit(&self, op: &str, logits: &Tensor<B>) {
        logits.expect_rank(op, "logits", 2);
        match self {
            Self::Hard { labels, .. } => {
                labels.expect_shape(op, "labels", &logits.shape()[..1]);
            }
            Self::Soft(target) => target.expect_shape(op, "target", logits.shape()),
        }
    }
}

simd_fn! {
    /// Σ exp(x − max), in fixed lanes.
    fn sum_exp<T>(x: &[T], max: T) -> T {
        let mut lanes = [T::ZERO; LANES];
        let (blocks, rest) = x.as_chunks::<LANES>();
        for block in blocks {
            for i in 0..LANES {
                lanes[i] += (block[i] - max).exp();
            }
        }
        for (lane, &x) in lanes.iter_mut().zip(rest) {
            *lane += (x - max).exp();
        }
        simd::fold(lanes)
    }
}

simd_fn! {
    /// [`sum_exp`], leaving exp(x − max) in x.
    fn exp_in_place<T>(x: &mut [T], max: T) -> T {
        let mut lanes = [T::ZERO; LANES];
        let (blocks, rest) = x.as_chunks_mut::<LANES>();
        for block in blocks {
            for i in 0..LANES {
                block[i] = (block[i] - max).exp();
                lanes[i] += block[i];
            }
        }
        for (lane, x) in lanes.iter_mut().zip(rest) {
            *x = (*x - max).exp();
            *lane += *x;
        }
        simd::fold(lanes)
    }
}

simd_fn! {
    /// x *= factor
    fn scale_row<T>(x: &mut [T], factor: T) {
        for x in x {
            *x *= factor;
        }
    }
}

simd_fn! {
    /// x = factor x − scale t
    fn scale_and_subtract<T>(x: &mut [T], factor: T, t: &[T], scale: T) {
        for (x, &t) in x.iter_mut().zip(t) {
            *x = factor * *x - scale * t;
        }
    }
}

/// The target of one row.
enum RowTarget<'a, T> {
    Ignored,
    Class(usize),
    Soft(&'a [T]),
}

impl<'a, T: Real> RowTarget<'a, T> {
    fn of<S: Scalar<Master = T>>(
        op: &str,
        target: &Target<'a, Cpu<S>>,
        row: usize,
        classes: usize,
    ) -> Self {
        match target {
            Target::Soft(t) => Self::Soft(&t.slice()[row * classes..(row + 1) * classes]),
            Target::Hard { labels, ignore } => {
                let label = labels.slice()[row];
                if Some(label) == *ignore {
                    return Self::Ignored;
                }
                assert!(
                    (label as usize) < classes,
                    "{op}: label {label} of row {row}, expected less than {classes}"
                );
                Self::Class(label as usize)
            }
        }
    }
}

/// Largest logit of a row, and where it is first found.
fn best<T: Real>(x: &[T]) -> (T, u32) {
    let max = simd::max(x);
    (max, x.iter().position(|&x| x == max).unwrap_or(0) as u32)
}

impl<T: Scalar> CrossEntropyOp for Cpu<T> {
    #[track_caller]
    fn cross_entropy_forward(
        &self,
        logits: &Tensor<Self>,
        target: &Target<'_, Self>,
    ) -> Losses<Self> {
        let op = "cross_entropy";
        target.expect_fit(op, logits);
        let (r, v) = (logits.rows(), logits.cols());
        let (mut rows, mut argmax) = (Master::zeros(self, &[r]), Ids::zeros(self, &[r]));
        let losses = rows.slice_mut().par_iter_mut().zip(argmax.slice_mut().par_iter_mut());
        let x = logits.wide();
        let pieces = losses.zip(x.par_chunks_exact(v)).enumerate();
        pieces.for_each(|(row, ((loss, argmax), x))| {
            let (max, index) = best(x);
            *argmax = index;
            *loss = match RowTarget::of(op, target, row, v) {
                RowTarget::Ignored => T::Master::ZERO,
                RowTarget::Class(label) => max + sum_exp(x, max).ln() - x[label],
                RowTarget::Soft(t) => simd::sum(t) * (max + sum_exp(x, max).ln()) - simd::dot(t, x),
            };
        });
        Losses { rows, argmax }
    }

    #[track_caller]
    fn cross_entropy_backward(
        &self,
        logits: Tensor<Self>,
        target: &Target<'_, Self>,
        scale: f64,
    ) -> (Losses<Self>, Tensor<Self>) {
        let op = "cross_entropy_backward";
        target.expect_fit(op, &logits);
        let mut logits = self.wide(logits);
        let (r, v, scale) = (logits.rows(), logits.cols(), T::Master::from_f64(scale));
        let (mut rows, mut argmax) = (Master::zeros(self, &[r]), Ids::zeros(self, &[r]));
        let losses = rows.slice_mut().par_iter_mut().zip(argmax.slice_mut().par_iter_mut());
        let pieces = losses.zip(logits.slice_mut().par_chunks_exact_mut(v)).enumerate();
        pieces.for_each(|(row, ((loss, argmax), x))| {
            let (max, index) = best(x);
            *argmax = index;
            *loss = match RowTarget::of(op, target, row, v) {
                RowTarget::Ignored => {
                    x.fill(T::Master::ZERO);
                    T::Master::ZERO
                }
                // loss = ln Σ exp x − x_label   =>   dx = scale (p − 1 at the label)
                RowTarget::Class(label) => {
                    let chosen = x[label];
                    let sum = exp_in_place(x, max);
                    scale_row(x, scale / sum);
                    x[label] -= scale;
                    max + sum.ln() - chosen
                }
                // loss = T ln Σ exp x − t · x   =>   dx = scale (T p − t)
                RowTarget::Soft(t) => {
                    let (total, product) = (simd::sum(t), simd::dot(t, x));
                    let sum = exp_in_place(x, max);
                    scale_and_subtract(x, scale * total / sum, t, scale);
                    total * (max + sum.ln()) - product
                }
            };
        });
        (Losses { rows, argmax }, self.narrow(logits))
    }
}

/// How a case makes its targets.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Targets {
    Hard,
    Ignoring,
    Soft,
}

/// The op at one size.
pub struct CrossEntropyCase {
    pub(crate) instance: &'static str,
    pub(crate) rows: usize,
    pub(crate) classes: usize,
    pub(crate) targets: Targets,
}

/// The label of ignored rows in a case.
const IGNORED: u32 = u32::MAX;
/// Scale of a case: anything but 1.
const SCALE: f64 = 0.3;

impl Case for CrossEntropyCase {
    fn name(&self) -> String {
        format!("cross_entropy/{}", self.instance)
    }

    fn inputs(&self) -> Inputs {
        let (r, v) = (self.rows, self.classes);
        let mut inputs = Inputs::new(&self.name()).elem("logits", &[r, v]);
        if self.targets == Targets::Soft {
            let mut values: Vec<f64> = inputs.normal(r * v).into_iter().map(f64::exp).collect();
            // Weights, too, not probabilities alone: rows that add up to something else than 1.
            for (total, row) in [1.0, 0.5, 2.5].into_iter().cycle().zip(values.chunks_exact_mut(v))
            {
                let sum: f64 = row.iter().sum();
                row.iter_mut().for_each(|t| *t *= total / sum);
            }
            return inputs.push("target", &[r, v], values, Kind::Master, false);
        }
        let ignores = |row: usize| self.targets == Targets::Ignoring && row % 3 == 1;
        let label = |row: usize| if ignores(row) { IGNORED } else { (row * 5 % v) as u32 };
        inputs.ids("labels", &[r], (0..r).map(label).collect())
    }

    /// The op weighs all rows alike, so the one output is scale times their sum; its upstream
    /// gradient u enters through `scale`.
    fn run<B: Backend>(&self, bk: &B, io: &mut Io<B>) {
        let logits = io.elem("logits");
        let (labels, soft) = match self.targets {
            Targets::Soft => (None, Some(io.master("target"))),
            _ => (Some(io.ids("labels")), None),
        };
        let target = match (&labels, &soft) {
            (Some(labels), _) => Target::Hard { labels, ignore: Some(IGNORED) },
            (_, Some(soft)) => Target::Soft(soft),
            _ => unreachable!("one of the two was made"),
        };
        let losses = bk.cross_entropy_forward(&logits, &target);
        io.output_sums(bk, &[(SCALE, &losses.rows)]);
        if io.wants_backward() {
            let u = io.upstream_scalar(0);
            let (again, dlogits) = bk.cross_entropy_backward(logits, &target, u * SCALE);
            io.grad(bk, "logits", &dlogits);
            assert_eq!(again.argmax.to_vec(bk), losses.argmax.to_vec(bk));
            let [again, losses] = [again, losses].map(|l| l.rows.to_f64(bk));
            for (again, loss) in again.iter().zip(&losses) {
                let off = (again - loss).abs();
                assert!(off <= 1e-4 * loss.abs().max(1.0), "loss {loss}, of backward {again}");
            }
        }
    }

    fn thresholds(&self) -> Vec<Threshold> {
        vec![Threshold::lanes(self.classes), Threshold::new("rows", 40, self.rows)]
    }

    fn cost(&self) -> Cost {
        let n = (self.rows * self.classes) as f64;
        Cost {
            flops_forward: 12.0 * n,
            flops_backward: 14.0 * n,
            elements_forward: n,
            elements_backward: 2.0 * n,
        }
    }
}

/// One class (loss 0), odd sizes, ignored rows, soft targets, the vocabulary of BEiT; one class more than
/// lanes, one fewer, many rows.
pub fn cases<V: Visitor>(v: &mut V) {
    for (instance, rows, classes, targets) in [
        ("one", 1, 1, Targets::Hard),
        ("odd", 7, 5, Targets::Hard),
        ("ignored", 5, 37, Targets::Ignoring),
        ("soft", 3, 21, Targets::Soft),
        ("vocabulary", 6, 8192, Targets::Hard),
        ("lane_and_one", 41, 17, Targets::Ignoring),
        ("lanes", 5, 63, Targets::Hard),
        ("soft_lanes", 6, 79, Targets::Soft),
        ("many_rows", 123, 3, Targets::Soft),
    ] {
        v.visit(CrossEntropyCase { instance, rows, classes, targets });
    }
}

/// An empty batch.
pub fn empty_case<V: Visitor>(v: &mut V) {
    v.visit(CrossEntropyCase { instance: "empty", rows: 0, classes: 3, targets: Targets::Hard });
}

/// A size worth timing: BEiT-B and its tokenizer.
pub fn large_cases<V: Visitor>(v: &mut V) {
    let (rows, classes, targets) = (1200, 8192, Targets::Hard);
    v.visit(CrossEntropyCase { instance: "1200x8192", rows, classes, targets });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_by_hand() {
        let bk = Cpu::<f64>::new();
        // ln(e^0 + e^ln 3) = ln 4.
        let x = || Tensor::from_f64(&bk, &[0.0, 3f64.ln(), 5.0, 5.0], &[2, 2]);
        let labels = Ids::from_vec(&bk, vec![0, 9], &[2]);
        let target = Target::Hard { labels: &labels, ignore: Some(9) };
        let losses = bk.cross_entropy_forward(&x(), &target);
        assert_eq!(losses.argmax.to_vec(&bk), [1, 0]);
        assert!((losses.rows.slice()[0] - 4f64.ln()).abs() < 1e-15);
        assert_eq!(losses.rows.slice()[1], 0.0);
        let (again, dx) = bk.cross_entropy_backward(x(), &target, 2.0);
        assert_eq!(again.rows.slice(), losses.rows.slice());
        for (got, want) in dx.slice().iter().zip([-1.5, 1.5, 0.0, 0.0]) {
            assert!((got - want).abs() < 1e-15);
        }
        // 3 ln 4 − 2 · 0 − 1 · ln 3, and dx = 2 (3 p − t).
        let weights = Master::from_f64(&bk, &[2.0, 1.0, 0.0, 0.0], &[2, 2]);
        let (soft, dx) = bk.cross_entropy_backward(x(), &Target::Soft(&weights), 2.0);
        assert!((soft.rows.slice()[0] - (3.0 * 4f64.ln() - 3f64.ln())).abs() < 1e-14);
        for (got, want) in dx.slice().iter().zip([-2.5, 2.5, 0.0, 0.0]) {
            assert!((got - want).abs() < 1e-14);
        }
    }

    #[test]
    #[should_panic(expected = "cross_entropy: label 2 of row 1, expected less than 2")]
    fn a_label_beyond_the_classes() {
        let bk = Cpu::<f32>::new();
        let labels = Ids::from_vec(&bk, vec![0, 2], &[2]);
        let target = Target::Hard { labels: &labels, ignore: None };
        bk.cross_entropy_forward(&Tensor::zeros(&bk, &[2, 2]), &target);
    }
}
