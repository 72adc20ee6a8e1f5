//! Gumbel-softmax: a differentiable sample of one of K codes.
//!
//! ```text
//! g_k = −ln(−ln u_k),  t_k = (ℓ_k + g_k)/τ,  y = softmax(t)
//! z = y (relaxed)  or  z = one-hot argmax y (straight-through; an exact 1 among exact 0s)
//! ```
//! Shapes: ℓ, y, z `[..,K]`; ties of the argmax take the lowest index.
//!
//! Backward, for both (the straight-through estimator is this rule by definition, not the derivative
//! of the one-hot): with a = dz,
//! * ∂y_i/∂t_j = y_i (δ_ij − y_j), so dt = y ⊙ (a − ⟨y, a⟩)
//! * dℓ = dt/τ, which sums to 0 over k; the noise, added to ℓ, has the same gradient
//!
//! Kept for backward: y. Source: arXiv 1611.01144, eq. 1 and 2.

#[cfg(feature = "cuda")]
mod cuda;

use crate::cpu::pieces::{Cut, Pieces};
use crate::cpu::scalar::Scalar;
use crate::cpu::{Cpu, rows_per_task, simd};
use crate::ops::Backend;
use crate::ops::case::{Case, Cost, Inputs, Io, Kind, Large, Threshold, Visitor};
use crate::real::{Float, Real};
use crate::rng::{Philox, Purpose};
use crate::simd_fn;
use crate::storage::Storage;
use crate::tensor::{Ids, Master, Tensor};

/// Where the noise of a sample comes from: Gumbel's here, normal numbers in [`super::gaussian`].
pub enum Noise<'a, B: Storage> {
    /// No noise: evaluation.
    None,
    /// `[..,K]`, for fixtures and difference quotients.
    Given(&'a Master<B>),
    /// Element i is word i mod 4 of block ⌊i/4⌋ of the Philox stream (seed, step), the same on every
    /// device; of normal numbers two are made of two words. `Deviation:` a uniform float from [0, 1) can give infinities and, through them, NaN; here
    /// u = (r + ½)/2³², so that g is finite for every word r.
    Philox {
        /// Seed of the run.
        seed: u64,
        /// Number of the step (or micro-batch).
        step: u64,
    },
}

/// Sampling, its gradient, and the argmax that replaces it in evaluation.
pub trait GumbelSoftmaxOp: Storage {
    /// ℓ `[..,K]` -> (z, y).
    fn gumbel_softmax_forward(
        &self,
        logits: &Master<Self>,
        noise: &Noise<Self>,
        temperature: f64,
        straight_through: bool,
    ) -> (Tensor<Self>, Master<Self>);

    /// dz -> dℓ.
    fn gumbel_softmax_backward(
        &self,
        y: &Master<Self>,
        dz: &Tensor<Self>,
        temperature: f64,
    ) -> Master<Self>;

    /// Index of the largest element of each row, the lowest on ties: x `[..,K]` -> `[..]`.
    fn argmax(&self, x: &Master<Self>) -> Ids<Self>;
}

/// −ln(−ln u) of one random word.
pub fn gumbel(word: u32) -> f64 {
    let u = (f64::from(word) + 0.5) * (1.0 / 4_294_967_296.0);
    -(-u.ln()).ln()
}

/// Rows of `k` numbers that one task draws noise for: a multiple of 4, so that it starts at a whole block of
/// random words.
pub(super) fn rows_of_noise(k: usize) -> usize {
    rows_per_task(k).next_multiple_of(4)
}

simd_fn! {
    /// In place: t / τ, then softmax.
    fn softmax_row<T>(t: &mut [T], inverse: T) {
        let max = simd::max(t);
        for t in t.iter_mut() {
            *t = ((*t - max) * inverse).exp();
        }
        let scale = T::ONE / simd::sum(t);
        for t in t.iter_mut() {
            *t *= scale;
        }
    }
}

simd_fn! {
    /// dℓ = y ⊙ (a − ⟨y, a⟩)/τ
    fn softmax_row_backward<T>(y: &[T], a: &[T], inverse: T, dl: &mut [T]) {
        let mean = simd::dot(y, a);
        for ((dl, &y), &a) in dl.iter_mut().zip(y).zip(a) {
            *dl = inverse * y * (a - mean);
        }
    }
}

/// Index of the largest element, the lowest on ties.
fn row_argmax<T: Real>(row: &[T]) -> usize {
    let max = simd::max(row);
    row.iter().position(|&x| x == max).unwrap_or(0)
}

impl<T: Scalar> GumbelSoftmaxOp for Cpu<T> {
    #[track_caller]
    fn gumbel_softmax_forward(
        &self,
        logits: &Master<Self>,
        noise: &Noise<Self>,
        temperature: f64,
        straight_through: bool,
    ) -> (Tensor<Self>, Master<Self>) {
        assert!(temperature > 0.0, "gumbel_softmax: temperature {temperature} is not above 0");
        let k = logits.cols();
        if let Noise::Given(noise) = noise {
            noise.expect_shape("gumbel_softmax", "noise", logits.shape());
        }
        let inverse = T::Master::from_f64(1.0 / temperature);
        let mut y = logits.duplicate(self);
        let step = rows_of_noise(k) * k;
        y.slice_mut().par_chunks_mut(step).enumerate().for_each(|(i, y)| {
            match noise {
                Noise::None => {}
                Noise::Given(g) => simd::add_assign(y, &g.slice()[i * step..i * step + y.len()]),
                Noise::Philox { seed, step: number } => {
                    let (lo, hi) = (*number as u32, (*number >> 32) as u32);
                    let stream = Philox::new(*seed, Purpose::Gumbel, lo, hi);
                    for (block, y) in ((i * step / 4) as u32..).zip(y.chunks_mut(4)) {
                        for (y, word) in y.iter_mut().zip(stream.block_at(block)) {
                            *y += T::Master::from_f64(gumbel(word));
                        }
                    }
                }
            }
            y.chunks_exact_mut(k).for_each(|row| softmax_row(row, inverse));
        });
        if !straight_through {
            return (self.narrow(y.duplicate(self)), y);
        }
        // Deviation: programs of the papers compute hard − stop(soft) + soft, one-hot up to rounding.
        let mut z: Tensor<Self> = Tensor::zeros(self, logits.shape());
        z.slice_mut().par_chunks_mut(k).zip(y.slice().par_chunks(k)).for_each(|(z, y)| {
            z[row_argmax(y)] = T::from_f64(1.0);
        });
        (z, y)
    }

    #[track_caller]
    fn gumbel_softmax_backward(
        &self,
        y: &Master<Self>,
        dz: &Tensor<Self>,
        temperature: f64,
    ) -> Master<Self> {
        dz.expect_shape("gumbel_softmax_backward", "dz", y.shape());
        let (k, inverse) = (y.cols(), T::Master::from_f64(1.0 / temperature));
        let mut dl = self.unset(y.shape());
        let step = rows_per_task(k) * k;
        let dz = dz.wide();
        let inputs = y.slice().par_chunks(step).zip(dz.par_chunks(step));
        dl.slice_mut().par_chunks_mut(step).zip(inputs).for_each(|(dl, (y, a))| {
            let rows = y.chunks_exact(k).zip(a.chunks_exact(k));
            for (dl, (y, a)) in dl.chunks_exact_mut(k).zip(rows) {
                softmax_row_backward(y, a, inverse, dl);
            }
        });
        dl
    }

    #[track_caller]
    fn argmax(&self, x: &Master<Self>) -> Ids<Self> {
        let k = x.cols();
        let rows: Vec<u32> = x.slice().par_chunks(k).collect(|row| row_argmax(row) as u32);
        Ids::from_vec(self, rows, &x.shape()[..x.shape().len() - 1])
    }
}

/// The relaxed op at one size. The straight-through form has no derivative to compare with: its case hands
/// over the relaxed forward, whose derivative its backward is by definition.
pub struct GumbelSoftmaxCase {
    pub(crate) instance: &'static str,
    pub(crate) shape: &'static [usize],
    pub(crate) temperature: f64,
    pub(crate) straight_through: bool,
}

impl Case for GumbelSoftmaxCase {
    fn name(&self) -> String {
        format!("gumbel_softmax/{}", self.instance)
    }

    fn inputs(&self) -> Inputs {
        let mut inputs = Inputs::new(&self.name());
        let noise = inputs.normal(self.shape.iter().product());
        // The noise is added to the logits, so its gradient is theirs; it is checked as well.
        inputs.master("logits", self.shape).push("noise", self.shape, noise, Kind::Master, true)
    }

    fn run<B: Backend>(&self, bk: &B, io: &mut Io<B>) {
        let (logits, noise, tau) = (io.master("logits"), io.master("noise"), self.temperature);
        let (noise, hard) = (Noise::Given(&noise), self.straight_through);
        let (z, y) = bk.gumbel_softmax_forward(&logits, &noise, tau, hard);
        if hard {
            // z is flat almost everywhere; the rule is that its gradient is that of y.
            io.output(bk, &y);
        } else {
            io.output(bk, &z);
        }
        if io.wants_backward() {
            let dz = io.upstream(bk, 0);
            let dlogits = bk.gumbel_softmax_backward(&y, &dz, tau);
            io.grad(bk, "logits", &dlogits);
            io.grad(bk, "noise", &dlogits);
        }
    }

    fn thresholds(&self) -> Vec<Threshold> {
        let k = self.shape[self.shape.len() - 1];
        let rows = self.shape.iter().product::<usize>() / k.max(1);
        vec![
            Threshold::rows_per_task(rows, k),
            Threshold::new("rows_of_noise", rows_of_noise(k), rows),
            Threshold::lanes(k),
            // Annealing ends at 1/16.
            Threshold::new("1/temperature", 5, (1.0 / self.temperature).round() as usize),
        ]
    }

    fn cost(&self) -> Cost {
        let n = self.shape.iter().product::<usize>() as f64;
        Cost {
            flops_forward: 7.0 * n,
            flops_backward: 5.0 * n,
            elements_forward: 3.0 * n,
            elements_backward: 3.0 * n,
        }
    }
}

/// Two codes, odd, a small temperature, the rule of the straight-through estimator, tiny's, the end of an
/// annealed temperature, and rows of several tasks.
pub fn cases<V: Visitor>(v: &mut V) {
    for (instance, shape, temperature, straight_through) in [
        ("two_codes", &[1, 2][..], 1.0, false),
        ("odd", &[2, 3, 7], 0.7, false),
        ("cold", &[5, 4], 0.25, false),
        ("straight_through", &[3, 2, 5], 0.6, true),
        ("tiny", &[2, 8, 512], 0.9, false),
        ("lane_and_one", &[4, 3, 17], 1.0 / 6.0, false),
        ("annealed", &[5, 63], 1.0 / 16.0, false),
    ] {
        v.visit(GumbelSoftmaxCase { instance, shape, temperature, straight_through });
    }
    // Three rows are a task, and four where noise is drawn.
    for (instance, shape, straight_through) in [
        ("task_and_one", &[4, 5003][..], false),
        ("noise_and_one", &[5, 5003], true),
        ("many_tasks", &[13, 5003], false),
    ] {
        let temperature = 0.8;
        v.visit(Large(GumbelSoftmaxCase { instance, shape, temperature, straight_through }));
    }
}

/// An empty batch.
pub fn empty_case<V: Visitor>(v: &mut V) {
    v.visit(GumbelSoftmaxCase {
        instance: "empty",
        shape: &[0, 3],
        temperature: 1.0,
        straight_through: false,
    });
}

/// A size worth timing: BEiT-B and its tokenizer.
pub fn large_cases<V: Visitor>(v: &mut V) {
    let (shape, temperature) = (&[8, 196, 8192], 0.9);
    v.visit(GumbelSoftmaxCase {
        instance: "8x196x8192",
        shape,
        temperature,
        straight_through: false,
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOK: [[f64; 2]; 4] = [[1.0, 0.0], [0.0, 1.0], [-1.0, 0.5], [0.5, -0.5]];

    /// Computed by hand: loss ½‖m − t‖², t = (0.2, 0.6), m = Σ z_k E_k.
    fn hand(tau: f64, straight_through: bool) -> (Vec<f64>, Vec<f64>) {
        let bk = Cpu::<f64>::new();
        let logits = Master::<Cpu<f64>>::from_vec(&bk, vec![1.0, 0.5, -0.3, 0.0], &[1, 4]);
        let g: Vec<f64> = [0.3f64, 0.9, 0.6, 0.5].iter().map(|u| -(-u.ln()).ln()).collect();
        let g = Master::<Cpu<f64>>::from_vec(&bk, g, &[1, 4]);
        let (z, y) = bk.gumbel_softmax_forward(&logits, &Noise::Given(&g), tau, straight_through);
        let z = z.to_vec(&bk);
        let m = [0, 1].map(|d| z.iter().zip(BOOK).map(|(z, e)| z * e[d]).sum::<f64>());
        let dm = [m[0] - 0.2, m[1] - 0.6];
        let a: Vec<f64> = BOOK.iter().map(|e| e[0] * dm[0] + e[1] * dm[1]).collect();
        let a = Tensor::<Cpu<f64>>::from_vec(&bk, a, &[1, 4]);
        (z, bk.gumbel_softmax_backward(&y, &a, tau).to_vec(&bk))
    }

    #[test]
    fn hand_checked_numbers() {
        let cases = [
            (1.0, false, [-0.025182575261, 0.035395302001, 0.006782157889, -0.016994884628]),
            (0.5, false, [-0.021318708028, 0.031185618408, 0.000306961403, -0.010173871784]),
            (1.0, true, [-0.052789982837, 0.085531998803, 0.007926806360, -0.040668822326]),
            (0.5, true, [-0.023355336007, 0.034235464369, 0.000294046137, -0.011174174499]),
        ];
        for (tau, straight_through, want) in cases {
            let (z, dl) = hand(tau, straight_through);
            assert!(dl.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-11), "{dl:?} {want:?}");
            if straight_through {
                assert_eq!(z, [0.0, 1.0, 0.0, 0.0]);
            }
        }
        assert!((hand(0.5, false).0[1] - 0.963478660234).abs() < 1e-11);
    }

    #[test]
    fn noise_is_finite_and_the_same_for_any_number_of_threads() {
        assert!(gumbel(0).is_finite() && gumbel(u32::MAX).is_finite());
        let bk = Cpu::<f32>::new();
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let logits = Master::<Cpu<f32>>::zeros(&bk, &[700, 33]);
                let noise = Noise::Philox { seed: 5, step: 1 << 33 };
                bk.gumbel_softmax_forward(&logits, &noise, 0.5, false).1.to_vec(&bk)
            })
        };
        let one = run(1);
        assert_eq!(one, run(2));
        assert_eq!(one, run(3));
        // Element i is word i mod 4 of block i / 4.
        let stream = Philox::new(5, Purpose::Gumbel, 0, 2);
        let row: Vec<f64> = (33..66)
            .map(|i| (gumbel(stream.block_at(i / 4)[i as usize % 4]) / 0.5).exp())
            .collect();
        let total: f64 = row.iter().sum();
        assert!(
            one[33..66].iter().zip(&row).all(|(y, e)| (f64::from(*y) - e / total).abs() < 1e-5)
        );
    }
}
