//! KL divergence of q = softmax(ℓ) from the uniform prior over K codes, per position, in nats:
//! KL = Σ_k q_k ln q_k + ln K, between 0 and ln K.
//!
//! Shapes: ℓ `[..,K]` -> `[..]`. Uses the clean logits: no temperature, no noise.
//!
//! Backward. ∂KL/∂q_k = ln q_k + 1, through the softmax Jacobian q_k(δ_jk − q_j):
//! * dℓ_j = scale · q_j (ln q_j − Σ_k q_k ln q_k), which sums to 0 over j
//!
//! Nothing is kept but ℓ. ln q comes from the log-sum-exp, never as ln(softmax). Source: arXiv
//! 2102.12092, §2.1.

#[cfg(feature = "cuda")]
mod cuda;

use crate::cpu::pieces::{Cut, Pieces};
use crate::cpu::scalar::Scalar;
use crate::cpu::{Cpu, rows_per_task, simd};
use crate::ops::Backend;
use crate::ops::case::{Case, Cost, Inputs, Io, Large, Threshold, Visitor};
use crate::real::{Float, Real};
use crate::simd_fn;
use crate::storage::Storage;
use crate::tensor::Master;

/// KL to the uniform prior and its gradient.
pub trait KlUniformOp: Storage {
    /// ℓ `[..,K]` -> KL `[..]`.
    fn kl_uniform_forward(&self, logits: &Master<Self>) -> Master<Self>;
    /// dℓ of `scale · Σ KL`.
    fn kl_uniform_backward(&self, logits: &Master<Self>, scale: f64) -> Master<Self>;
}

simd_fn! {
    /// Writes ln q and returns Σ q ln q.
    fn log_softmax<T>(logits: &[T], log_q: &mut [T], q: &mut [T]) -> T {
        let max = simd::max(logits);
        for (q, &l) in q.iter_mut().zip(logits) {
            *q = (l - max).exp();
        }
        let total = simd::sum(q);
        let lse = max + total.ln();
        for ((q, log_q), &l) in q.iter_mut().zip(log_q.iter_mut()).zip(logits) {
            *q /= total;
            *log_q = l - lse;
        }
        // A probability that underflows to 0 contributes 0: ln q is finite here.
        simd::dot(q, log_q)
    }
}

impl<T: Scalar> KlUniformOp for Cpu<T> {
    #[track_caller]
    fn kl_uniform_forward(&self, logits: &Master<Self>) -> Master<Self> {
        let k = logits.cols();
        let shape = &logits.shape()[..logits.shape().len() - 1];
        let (mut kl, step) = (Master::zeros(self, shape), rows_per_task(k));
        let ln_k = T::Master::from_f64((k as f64).ln());
        let pieces = kl.slice_mut().par_chunks_mut(step).zip(logits.slice().par_chunks(step * k));
        pieces.for_each(|(kl, logits)| {
            let (mut log_q, mut q) = (vec![T::Master::ZERO; k], vec![T::Master::ZERO; k]);
            for (kl, logits) in kl.iter_mut().zip(logits.chunks_exact(k)) {
                *kl = log_softmax(logits, &mut log_q, &mut q) + ln_k;
            }
        });
        kl
    }

    #[track_caller]
    fn kl_uniform_backward(&self, logits: &Master<Self>, scale: f64) -> Master<Self> {
        let k = logits.cols();
        let (mut dx, step) = (self.unset(logits.shape()), rows_per_task(k) * k);
        let scale = T::Master::from_f64(scale);
        let pieces = dx.slice_mut().par_chunks_mut(step).zip(logits.slice().par_chunks(step));
        pieces.for_each(|(dx, logits)| {
            let (mut log_q, mut q) = (vec![T::Master::ZERO; k], vec![T::Master::ZERO; k]);
            for (dx, logits) in dx.chunks_exact_mut(k).zip(logits.chunks_exact(k)) {
                let mean = log_softmax(logits, &mut log_q, &mut q);
                for ((dx, &q), &log_q) in dx.iter_mut().zip(&q).zip(&log_q) {
                    *dx = scale * q * (log_q - mean);
                }
            }
        });
        dx
    }
}

/// The op at one size; the output is the sum over positions, because backward takes one weight for
/// all of them.
pub struct KlUniformCase {
    instance: &'static str,
    shape: &'static [usize],
}

impl Case for KlUniformCase {
    fn name(&self) -> String {
        format!("kl_uniform/{}", self.instance)
    }

    fn inputs(&self) -> Inputs {
        Inputs::new(&self.name()).master("logits", self.shape)
    }

    fn run<B: Backend>(&self, bk: &B, io: &mut Io<B>) {
        let logits = io.master("logits");
        let kl = bk.kl_uniform_forward(&logits);
        io.output_sum(bk, &kl);
        if io.wants_backward() {
            let scale = io.upstream_scalar(0);
            io.grad(bk, "logits", &bk.kl_uniform_backward(&logits, scale));
        }
    }

    fn thresholds(&self) -> Vec<Threshold> {
        let k = self.shape[self.shape.len() - 1];
        let rows = self.shape.iter().product::<usize>() / k.max(1);
        vec![
            Threshold::rows_per_task(rows, k),
            Threshold::lanes(k),
            Threshold::new("codes", 512, k),
        ]
    }

    fn cost(&self) -> Cost {
        let n = self.shape.iter().product::<usize>() as f64;
        Cost {
            flops_forward: 8.0 * n,
            flops_backward: 11.0 * n,
            elements_forward: n,
            elements_backward: 2.0 * n,
        }
    }
}

/// Two codes, odd, tiny's, one more than lanes, and several tasks.
pub fn cases<V: Visitor>(v: &mut V) {
    for (instance, shape) in [
        ("two_codes", &[1, 2][..]),
        ("odd", &[2, 3, 7]),
        ("tiny", &[4, 8, 512]),
        ("lane_and_one", &[4, 2, 17]),
        ("lanes", &[5, 3, 63]),
    ] {
        v.visit(KlUniformCase { instance, shape });
    }
    // Three rows of 5003 codes are a task.
    for (instance, shape) in [
        ("task_and_one", &[4, 5003][..]),
        ("many_tasks", &[5, 2, 5003]),
        ("codes_and_one", &[5, 513]),
    ] {
        v.visit(Large(KlUniformCase { instance, shape }));
    }
}

/// An empty batch.
pub fn empty_case<V: Visitor>(v: &mut V) {
    v.visit(KlUniformCase { instance: "empty", shape: &[0, 3] });
}

/// A size worth timing: BEiT-B and its tokenizer.
pub fn large_cases<V: Visitor>(v: &mut V) {
    v.visit(KlUniformCase { instance: "8x196x8192", shape: &[8, 196, 8192] });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hand_checked_numbers() {
        // Computed by hand from the formulas above, with 12 digits.
        let bk = Cpu::<f64>::new();
        let x = Master::<Cpu<f64>>::from_vec(
            &bk,
            vec![1.0, 0.5, -0.3, 0.0, 2.0, -1.0, 0.0, 0.0],
            &[2, 4],
        );
        let kl = bk.kl_uniform_forward(&x).to_vec(&bk);
        assert!((kl[0] - 0.120354570413).abs() < 1e-11 && (kl[1] - 0.585237992050).abs() < 1e-11);
        let dx = bk.kl_uniform_backward(&x, 1.0).to_vec(&bk);
        let want = [
            0.203107013349,
            -0.011777403166,
            -0.102324003390,
            -0.089005606793,
            0.396133874873,
            -0.093390868232,
            -0.151371503320,
            -0.151371503320,
        ];
        assert!(dx.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-11), "{dx:?}");
    }
}
