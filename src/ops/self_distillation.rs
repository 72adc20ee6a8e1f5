//! What a teacher's outputs make of a batch in DINO: targets of the student's views, and the centre.
//!
//! The teacher sees G views of each of B images, the student the same and further ones, V in all:
//! ```text
//! q_i = softmax((t_i − c) / τ)         teacher's view i
//! target_v = Σ_{i < G, i ≠ v} q_i      student's view v: sums to G, or to G − 1 where v < G
//! entropy_i = −Σ_k q_ik ln q_ik        nats
//! c' = m c + (1 − m) mean over images and views of t
//! ```
//! Shapes: t `[B,G,K]`, c and c' `[K]`, targets of a range of R views `[B,R,K]`, entropies `[B,G]`.
//!
//! Nobody asks for gradients: the teacher is not trained. The student's loss is
//! [`cross_entropy`](crate::ops::cross_entropy) of its outputs over τ_s against the targets. Source: DINO, arXiv
//! 2104.14294, algorithm 1; `DINOLoss` of `main_dino.py`.

#[cfg(feature = "cuda")]
mod cuda;

use crate::cpu::pieces::{Cut, Pieces};
use crate::cpu::scalar::Scalar;
use crate::cpu::{Cpu, add_column_sums, simd};
use crate::ops::Backend;
use crate::ops::case::{Case, Cost, Inputs, Io, Kind, Threshold, Visitor};
use crate::real::{Float, Real};
use crate::simd_fn;
use crate::storage::Storage;
use crate::tensor::Master;
use std::ops::Range;

/// Targets and centre; no gradients.
pub trait SelfDistillationOp: Storage {
    /// t `[B,G,K]`, c `[K]` -> distributions q `[B,G,K]` and their entropies `[B,G]`.
    fn teacher_distributions(
        &self,
        t: &Master<Self>,
        center: &Master<Self>,
        temperature: f64,
    ) -> (Master<Self>, Master<Self>);

    /// q `[B,G,K]` -> targets of the student's `views` (numbers below G are those of the teacher, too) `[B,R,K]`.
    fn teacher_targets(&self, q: &Master<Self>, views: Range<usize>) -> Master<Self>;

    /// keep · c + share · Σ of the rows of t `[..,K]`; where that is not finite, c.
    fn follow_center(
        &self,
        center: &Master<Self>,
        t: &Master<Self>,
        keep: f64,
        share: f64,
    ) -> Master<Self>;
}

/// B, G and K. Panics unless the tensors fit each other.
#[track_caller]
fn expect_teacher<B: Storage>(
    op: &str,
    t: &Master<B>,
    center: &Master<B>,
    temperature: f64,
) -> [usize; 3] {
    t.expect_rank(op, "t", 3);
    let [b, g, k] = [t.shape()[0], t.shape()[1], t.shape()[2]];
    center.expect_shape(op, "center", &[k]);
    assert!(temperature > 0.0, "{op}: temperature {temperature} is not above 0");
    [b, g, k]
}

simd_fn! {
    /// q = exp((t − c) / τ − max), of which it returns the sum.
    fn sharpened<T>(q: &mut [T], t: &[T], center: &[T], inverse: T) -> T {
        for ((q, &t), &c) in q.iter_mut().zip(t).zip(center) {
            *q = (t - c) * inverse;
        }
        let max = simd::max(q);
        for q in q.iter_mut() {
            *q = (*q - max).exp();
        }
        simd::sum(q)
    }
}

simd_fn! {
    /// −Σ q ln q; 0 ln 0 is 0.
    fn entropy<T>(q: &[T]) -> T {
        let mut sum = T::ZERO;
        for &q in q {
            sum -= if q > T::ZERO { q * q.ln() } else { T::ZERO };
        }
        sum
    }
}

impl<T: Scalar> SelfDistillationOp for Cpu<T> {
    #[track_caller]
    fn teacher_distributions(
        &self,
        t: &Master<Self>,
        center: &Master<Self>,
        temperature: f64,
    ) -> (Master<Self>, Master<Self>) {
        let [b, g, k] = expect_teacher("teacher_distributions", t, center, temperature);
        let (mut q, mut entropies) = (self.unset(t.shape()), self.unset(&[b, g]));
        let (inverse, center) = (T::Master::from_f64(1.0 / temperature), center.slice());
        let outputs =
            q.slice_mut().par_chunks_exact_mut(k).zip(entropies.slice_mut().par_iter_mut());
        outputs.zip(t.slice().par_chunks_exact(k)).for_each(|((q, own), t)| {
            let total = sharpened(q, t, center, inverse);
            q.iter_mut().for_each(|q| *q /= total);
            *own = entropy(q);
        });
        (q, entropies)
    }

    #[track_caller]
    fn teacher_targets(&self, q: &Master<Self>, views: Range<usize>) -> Master<Self> {
        q.expect_rank("teacher_targets", "q", 3);
        let [b, g, k] = [q.shape()[0], q.shape()[1], q.shape()[2]];
        let (mut targets, q) = (Master::zeros(self, &[b, views.len(), k]), q.slice());
        targets.slice_mut().par_chunks_exact_mut(k).enumerate().for_each(|(row, target)| {
            let (image, view) = (row / views.len(), views.start + row % views.len());
            for i in (0..g).filter(|&i| i != view) {
                simd::add_assign(target, &q[(image * g + i) * k..][..k]);
            }
        });
        targets
    }

    #[track_caller]
    fn follow_center(
        &self,
        center: &Master<Self>,
        t: &Master<Self>,
        keep: f64,
        share: f64,
    ) -> Master<Self> {
        center.expect_shape("follow_center", "center", &[t.cols()]);
        let mut sums = Master::zeros(self, center.shape());
        add_column_sums(t.slice(), sums.slice_mut());
        let [keep, share] = [keep, share].map(T::Master::from_f64);
        for (sum, &c) in sums.slice_mut().iter_mut().zip(center.slice()) {
            let moved = keep * c + share * *sum;
            *sum = if moved.is_finite() { moved } else { c };
        }
        sums
    }
}

/// All three at one size.
pub struct SelfDistillationCase {
    instance: &'static str,
    /// B, G, K.
    shape: [usize; 3],
    views: usize,
}

impl Case for SelfDistillationCase {
    fn name(&self) -> String {
        format!("self_distillation/{}", self.instance)
    }

    fn inputs(&self) -> Inputs {
        let inputs = Inputs::new(&self.name()).master("t", &self.shape);
        // Nothing comes out of nothing but what was there.
        let [b, _, k] = self.shape;
        let center = vec![if b > 0 { 0.25 } else { 0.0 }; k];
        inputs.push("center", &[k], center, Kind::Master, false).without_backward()
    }

    fn run<B: Backend>(&self, bk: &B, io: &mut Io<B>) {
        let (t, center) = (io.master("t"), io.master("center"));
        let (q, entropies) = bk.teacher_distributions(&t, &center, 0.4);
        io.output(bk, &entropies);
        // Those that the teacher sees, too, and the others.
        let [_, g, _] = self.shape;
        io.output(bk, &bk.teacher_targets(&q, 0..g));
        io.output(bk, &bk.teacher_targets(&q, g..self.views));
        io.output(bk, &bk.follow_center(&center, &t, 0.9, 0.1 / t.rows().max(1) as f64));
    }

    fn thresholds(&self) -> Vec<Threshold> {
        let [first, second] = Threshold::fold_rows(self.shape[0] * self.shape[1]);
        vec![Threshold::lanes(self.shape[2]), first, second]
    }

    fn cost(&self) -> Cost {
        let n = self.shape.iter().product::<usize>() as f64;
        let targets = (self.views * self.shape[0] * self.shape[2]) as f64;
        Cost {
            flops_forward: 12.0 * n + targets,
            flops_backward: 0.0,
            elements_forward: 3.0 * n + targets,
            elements_backward: 0.0,
        }
    }
}

/// One view of the teacher, odd, multi-crop, beyond the lanes, several pieces of sums.
pub fn cases<V: Visitor>(v: &mut V) {
    for (instance, shape, views) in [
        ("one_view", [1, 1, 2], 2),
        ("odd", [3, 2, 5], 3),
        ("multi_crop", [4, 2, 17], 6),
        ("lanes", [2, 2, 61], 2),
        ("sum_and_one", [11, 3, 4], 4),
        ("many_sums", [35, 2, 3], 3),
        ("folds_and_one", [171, 3, 2], 3),
        ("many_rows", [1027, 2, 2], 2),
    ] {
        v.visit(SelfDistillationCase { instance, shape, views });
    }
}

/// An empty batch: the centre keeps its share alone.
pub fn empty_case<V: Visitor>(v: &mut V) {
    v.visit(SelfDistillationCase { instance: "empty", shape: [0, 2, 3], views: 3 });
}

/// 64 images of the published sizes.
pub fn large_cases<V: Visitor>(v: &mut V) {
    v.visit(SelfDistillationCase { instance: "64x65536", shape: [64, 2, 65536], views: 10 });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_view_is_told_what_the_teacher_says_of_itself() {
        let bk = Cpu::<f64>::new();
        let ln3 = 3f64.ln();
        let t = Master::<Cpu<f64>>::from_vec(&bk, vec![2.0 * ln3, 0.0, 0.0, 0.0], &[1, 2, 2]);
        let center = Master::<Cpu<f64>>::from_vec(&bk, vec![ln3, 0.0], &[2]);
        let (q, entropies) = bk.teacher_distributions(&t, &center, 1.0);
        let want = [0.25, 0.75, 0.75, 0.25, 1.0, 1.0];
        let got = bk.teacher_targets(&q, 0..3).to_vec(&bk);
        assert!(got.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-15), "{got:?}");
        let each = 0.75 * (4.0 / 3.0f64).ln() + 0.25 * 4f64.ln();
        assert!(entropies.to_vec(&bk).iter().all(|e| (e - each).abs() < 1e-15));
        let moved = bk.follow_center(&center, &t, 0.75, 0.125).to_vec(&bk);
        assert!((moved[0] - ln3).abs() < 1e-15 && moved[1] == 0.0, "{moved:?}");
        let broken = Master::<Cpu<f64>>::from_vec(&bk, vec![f64::NAN, 4.0], &[1, 2]);
        assert_eq!(bk.follow_center(&center, &broken, 0.75, 0.25).to_vec(&bk), [ln3, 1.0]);
    }
}
