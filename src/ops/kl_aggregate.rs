//! KL divergence of the aggregate posterior m, the mean of q = softmax(ℓ) over all positions, from the
//! uniform prior over K codes, in nats: KL = Σ_k m_k ln (K m_k), between 0 (all codes equally used)
//! and ln K (one code for everything).
//!
//! Shapes: ℓ `[..,K]` with R rows -> one number and m `[K]`. Clean logits, as in `kl_uniform`.
//!
//! The mean over positions of their own KL is that of m plus the mutual information of position and
//! code: (1/R) Σ_r KL(q_r ‖ u) = KL(m ‖ u) + I. Only the second part is what a code can say; this op
//! makes it possible to weigh the first one by itself.
//!
//! Backward. ∂KL/∂m_k = ln (K m_k) + 1 and ∂m_k/∂q_rk = 1/R, through the softmax Jacobian of each row:
//! * dℓ_rj = scale/R · q_rj (ln (K m_j) − Σ_k q_rk ln (K m_k))
//!
//! Kept for backward: ℓ (by its owner) and m. Source: Hoffman and Johnson, "ELBO surgery", 2016, for
//! the decomposition.

#[cfg(feature = "cuda")]
mod cuda;

use crate::cpu::pieces::{Cut, Pieces};
use crate::cpu::scalar::Scalar;
use crate::cpu::{Cpu, fold_rows, rows_per_task, simd};
use crate::ops::Backend;
use crate::ops::case::{Case, Cost, Inputs, Io, Large, Threshold, Visitor};
use crate::real::{Float, Real};
use crate::simd_fn;
use crate::storage::Storage;
use crate::tensor::Master;

/// KL of the aggregate posterior and its gradient.
pub trait KlAggregateOp: Storage {
    /// ℓ `[..,K]` -> KL `[1]` and m `[K]`. Panics where there is no row: a mean over nothing.
    fn kl_aggregate_forward(&self, logits: &Master<Self>) -> (Master<Self>, Master<Self>);
    /// dℓ of `scale · KL`.
    fn kl_aggregate_backward(
        &self,
        logits: &Master<Self>,
        mean: &Master<Self>,
        scale: f64,
    ) -> Master<Self>;
}

simd_fn! {
    fn softmax<T>(logits: &[T], q: &mut [T]) {
        let max = simd::max(logits);
        for (q, &l) in q.iter_mut().zip(logits) {
            *q = (l - max).exp();
        }
        let scale = T::ONE / simd::sum(q);
        for q in q {
            *q *= scale;
        }
    }
}

/// ln (K m): the terms of the KL without the cancellation of Σ m ln m against ln K. A code whose
/// weight underflows to 0 contributes nothing, whatever stands here.
fn logarithms<T: Real>(mean: &[T]) -> Vec<T> {
    let k = T::from_f64(mean.len() as f64);
    mean.iter().map(|&m| if m > T::ZERO { (k * m).ln() } else { T::ZERO }).collect()
}

impl<T: Scalar> KlAggregateOp for Cpu<T> {
    #[track_caller]
    fn kl_aggregate_forward(&self, logits: &Master<Self>) -> (Master<Self>, Master<Self>) {
        let (k, rows) = (logits.cols(), logits.rows());
        assert!(rows > 0, "kl_aggregate: logits is {:?}, expected a row", logits.shape());
        let x = logits.slice();
        let mut mean = fold_rows(rows, k, |rows, sums| {
            let mut q = vec![T::Master::ZERO; k];
            for logits in x[rows.start * k..rows.end * k].chunks_exact(k) {
                softmax(logits, &mut q);
                simd::add_assign(sums, &q);
            }
        });
        let share = T::Master::from_f64(1.0 / rows as f64);
        mean.iter_mut().for_each(|m| *m *= share);
        let kl = simd::dot(&mean, &logarithms(&mean));
        (Master::from_vec(self, vec![kl], &[1]), Master::from_vec(self, mean, &[k]))
    }

    #[track_caller]
    fn kl_aggregate_backward(
        &self,
        logits: &Master<Self>,
        mean: &Master<Self>,
        scale: f64,
    ) -> Master<Self> {
        let k = logits.cols();
        mean.expect_shape("kl_aggregate_backward", "mean", &[k]);
        let (log_m, scale) =
            (logarithms(mean.slice()), T::Master::from_f64(scale / logits.rows() as f64));
        let (mut dx, step) = (self.unset(logits.shape()), rows_per_task(k) * k);
        let pieces = dx.slice_mut().par_chunks_mut(step).zip(logits.slice().par_chunks(step));
        pieces.for_each(|(dx, logits)| {
            for (dx, logits) in dx.chunks_exact_mut(k).zip(logits.chunks_exact(k)) {
                softmax(logits, dx);
                let average = simd::dot(dx, &log_m);
                for (dx, &log_m) in dx.iter_mut().zip(&log_m) {
                    *dx = scale * *dx * (log_m - average);
                }
            }
        });
        dx
    }
}

/// The op at one size.
pub struct KlAggregateCase {
    instance: &'static str,
    shape: &'static [usize],
}

impl Case for KlAggregateCase {
    fn name(&self) -> String {
        format!("kl_aggregate/{}", self.instance)
    }

    fn inputs(&self) -> Inputs {
        let inputs = Inputs::new(&self.name()).master("logits", self.shape);
        if self.instance == "empty" { inputs.refused("expected a row") } else { inputs }
    }

    fn run<B: Backend>(&self, bk: &B, io: &mut Io<B>) {
        let logits = io.master("logits");
        let (kl, mean) = bk.kl_aggregate_forward(&logits);
        io.output_sum(bk, &kl);
        if io.wants_backward() {
            let scale = io.upstream_scalar(0);
            io.grad(bk, "logits", &bk.kl_aggregate_backward(&logits, &mean, scale));
        }
    }

    fn thresholds(&self) -> Vec<Threshold> {
        let k = self.shape[self.shape.len() - 1];
        let rows = self.shape.iter().product::<usize>() / k.max(1);
        let [first, second] = Threshold::fold_rows(rows);
        vec![
            Threshold::rows_per_task(rows, k),
            Threshold::lanes(k),
            Threshold::new("codes", 512, k),
            first,
            second,
        ]
    }

    fn cost(&self) -> Cost {
        let n = self.shape.iter().product::<usize>() as f64;
        Cost {
            flops_forward: 6.0 * n,
            flops_backward: 10.0 * n,
            elements_forward: n,
            elements_backward: 2.0 * n,
        }
    }
}

/// One row (which must agree with `kl_uniform`), odd, tiny's, one more than lanes, several tasks and pieces
/// of the sum.
pub fn cases<V: Visitor>(v: &mut V) {
    for (instance, shape) in [
        ("one_row", &[1, 3][..]),
        ("odd", &[2, 3, 7]),
        ("tiny", &[4, 8, 512]),
        ("lane_and_one", &[4, 2, 17]),
        ("rows", &[3, 11, 63]),
    ] {
        v.visit(KlAggregateCase { instance, shape });
    }
    // Three rows of 5003 codes are a task.
    for (instance, shape) in [
        ("task_and_one", &[4, 5003][..]),
        ("many_tasks", &[5, 2, 5003]),
        ("codes_and_one", &[5, 513]),
        ("sum_and_one", &[27, 19, 2]),
        ("many_sums", &[31, 52, 2]),
    ] {
        v.visit(Large(KlAggregateCase { instance, shape }));
    }
}

/// An empty batch.
pub fn empty_case<V: Visitor>(v: &mut V) {
    v.visit(KlAggregateCase { instance: "empty", shape: &[0, 3] });
}

/// A size worth timing: BEiT-B and its tokenizer.
pub fn large_cases<V: Visitor>(v: &mut V) {
    v.visit(KlAggregateCase { instance: "8x196x8192", shape: &[8, 196, 8192] });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::kl_uniform::KlUniformOp;

    #[test]
    fn a_code_whose_weight_underflows_contributes_nothing() {
        let bk = Cpu::<f64>::new();
        let x = Master::<Cpu<f64>>::from_vec(&bk, vec![0.0, -1000.0], &[1, 2]);
        let (kl, mean) = bk.kl_aggregate_forward(&x);
        // All weight on one of two codes.
        assert!((kl.to_vec(&bk)[0] - 2f64.ln()).abs() < 1e-15);
        let dx = bk.kl_aggregate_backward(&x, &mean, 1.0).to_vec(&bk);
        assert_eq!(dx, [0.0, 0.0]);
    }

    #[test]
    fn the_mean_kl_is_aggregate_plus_mutual_information() {
        let bk = Cpu::<f64>::new();
        let kl = |rows: &[[f64; 2]]| {
            let flat: Vec<f64> = rows.iter().flatten().map(|p: &f64| p.ln()).collect();
            let x = Master::<Cpu<f64>>::from_vec(&bk, flat, &[rows.len(), 2]);
            let own = bk.kl_uniform_forward(&x).to_vec(&bk);
            (
                own.iter().sum::<f64>() / own.len() as f64,
                bk.kl_aggregate_forward(&x).0.to_vec(&bk)[0],
            )
        };
        // Two positions that use different codes: all of their KL is information.
        let (own, aggregate) = kl(&[[0.9, 0.1], [0.1, 0.9]]);
        assert!(aggregate.abs() < 1e-15 && own > 0.3);
        // Two that use the same: none of it is.
        let (own, aggregate) = kl(&[[0.9, 0.1], [0.9, 0.1]]);
        assert!((own - aggregate).abs() < 1e-15);
    }
}
