//! A differentiable sample of Gaussian latents, and the KL divergence of their law from the standard normal
//! prior, per position, in nats.
//!
//! ```text
//! λ = ln σ²,  z = μ + e^{λ/2} ε,  ε ~ N(0, 1)
//! KL = ½ Σ_c (μ_c² + e^{λ_c} − 1 − λ_c)
//! ```
//! Shapes: moments `[..,2d]`, μ in the first d channels and λ in the others; ε and z `[..,d]`, KL `[..]`.
//!
//! Backward, with dz and the weight w of the KL:
//! * dμ = dz + w μ
//! * dλ = ½ (dz ε e^{λ/2} + w (e^λ − 1))
//!
//! `Deviation:` λ is clamped to [−12, 10] (its gradient 0 outside): the source has no clamp, but e^λ overflows.
//! Nothing is kept but the moments: noise that is drawn is drawn again. Source: Kingma and Welling, arXiv
//! 1312.6114, section 2.4 and appendix B.

#[cfg(feature = "cuda")]
mod cuda;

use crate::cpu::Cpu;
use crate::cpu::pieces::{Cut, Pieces};
use crate::cpu::scalar::Scalar;
use crate::ops::Backend;
use crate::ops::case::{Case, Cost, Inputs, Io, Kind, Large, Threshold, Visitor};
use crate::ops::gumbel_softmax::{Noise, rows_of_noise};
use crate::real::{Float, Real, clamped};
use crate::rng::{Philox, Purpose};
use crate::simd_fn;
use crate::storage::Storage;
use crate::tensor::{Master, Tensor};
use std::borrow::Cow;

/// Bounds of λ = ln σ².
pub const LN_VARIANCE: (f64, f64) = (-12.0, 10.0);

/// Sample, KL to the standard normal prior, and their gradients.
pub trait GaussianOp: Storage {
    /// Moments `[..,2d]` -> z `[..,d]`, KL `[..]`. Without noise z is μ.
    fn gaussian_forward(
        &self,
        moments: &Master<Self>,
        noise: &Noise<Self>,
    ) -> (Tensor<Self>, Master<Self>);

    /// dz -> gradient of the moments, that of `kl_weight · Σ KL` added.
    fn gaussian_backward(
        &self,
        moments: &Master<Self>,
        noise: &Noise<Self>,
        dz: &Tensor<Self>,
        kl_weight: f64,
    ) -> Master<Self>;
}

/// Channels d of z.
fn half<B: Storage>(moments: &Master<B>) -> usize {
    moments.cols() / 2
}

/// The shape of z; refuses moments and noise of other shapes.
#[track_caller]
fn check<B: Storage>(op: &str, moments: &Master<B>, noise: &Noise<B>) -> Vec<usize> {
    let (mut shape, cols) = (moments.shape().to_vec(), moments.cols());
    assert!(cols > 0 && cols % 2 == 0, "{op}: moments are {shape:?}, expected [..,2d]");
    *shape.last_mut().expect("it has columns") = cols / 2;
    if let Noise::Given(noise) = noise {
        noise.expect_shape(op, "noise", &shape);
    }
    shape
}

/// The two standard normal numbers that Box and Muller make of two random words.
pub fn normals(first: u32, second: u32) -> [f64; 2] {
    let u = (f64::from(first) + 0.5) * (1.0 / 4_294_967_296.0);
    let angle = (f64::from(second) + 0.5) * (std::f64::consts::TAU / 4_294_967_296.0);
    let radius = (-2.0 * u.ln()).sqrt();
    [radius * angle.cos(), radius * angle.sin()]
}

/// Noise of `n` elements from `at` on, which is a multiple of 4.
fn noise_of<'a, T: Scalar>(noise: &'a Noise<Cpu<T>>, at: usize, n: usize) -> Cow<'a, [T::Master]> {
    let (seed, step) = match noise {
        Noise::None => return vec![T::Master::ZERO; n].into(),
        Noise::Given(noise) => return noise.slice()[at..at + n].into(),
        Noise::Philox { seed, step } => (*seed, *step),
    };
    let stream = Philox::new(seed, Purpose::Gaussian, step as u32, (step >> 32) as u32);
    let block = |i: usize| {
        let [a, b, c, d] = stream.block_at((at / 4 + i) as u32);
        [normals(a, b), normals(c, d)].concat()
    };
    (0..n.div_ceil(4)).flat_map(block).take(n).map(T::Master::from_f64).collect()
}

simd_fn! {
    /// Writes z and returns the KL.
    fn sample_row<T>(moments: &[T], noise: &[T], z: &mut [T]) -> T {
        let (half, mut sum) = (T::from_f64(0.5), T::ZERO);
        let (mu, lambda) = moments.split_at(z.len());
        for ((z, &e), (&mu, &lambda)) in z.iter_mut().zip(noise).zip(mu.iter().zip(lambda)) {
            let (lambda, _) = clamped(lambda, LN_VARIANCE);
            let deviation = (half * lambda).exp();
            *z = mu + deviation * e;
            sum += mu * mu + deviation * deviation - T::ONE - lambda;
        }
        half * sum
    }
}

simd_fn! {
    fn sample_row_backward<T>(moments: &[T], noise: &[T], dz: &[T], weight: T, dmoments: &mut [T]) {
        let half = T::from_f64(0.5);
        let (mu, lambda) = moments.split_at(dz.len());
        let (dmu, dlambda) = dmoments.split_at_mut(dz.len());
        let inputs = mu.iter().zip(lambda).zip(dz.iter().zip(noise));
        for ((dmu, dlambda), ((&mu, &lambda), (&dz, &e))) in dmu.iter_mut().zip(dlambda).zip(inputs) {
            let (lambda, inside) = clamped(lambda, LN_VARIANCE);
            let deviation = (half * lambda).exp();
            *dmu = dz + weight * mu;
            let slope = half * (dz * e * deviation + weight * (deviation * deviation - T::ONE));
            *dlambda = if inside { slope } else { T::ZERO };
        }
    }
}

impl<T: Scalar> GaussianOp for Cpu<T> {
    #[track_caller]
    fn gaussian_forward(
        &self,
        moments: &Master<Self>,
        noise: &Noise<Self>,
    ) -> (Tensor<Self>, Master<Self>) {
        let (shape, d) = (check("gaussian", moments, noise), half(moments));
        let mut z: Master<Self> = self.unset(&shape);
        let mut kl: Master<Self> = self.unset(&shape[..shape.len() - 1]);
        let rows = rows_of_noise(d);
        let results =
            kl.slice_mut().par_chunks_mut(rows).zip(z.slice_mut().par_chunks_mut(rows * d));
        let pieces = moments.slice().par_chunks(2 * rows * d).zip(results);
        pieces.enumerate().for_each(|(i, (moments, (kl, z)))| {
            let noise = noise_of(noise, i * rows * d, z.len());
            let inputs = moments.chunks_exact(2 * d).zip(noise.chunks_exact(d));
            for ((kl, z), (moments, noise)) in kl.iter_mut().zip(z.chunks_exact_mut(d)).zip(inputs)
            {
                *kl = sample_row(moments, noise, z);
            }
        });
        (self.narrow(z), kl)
    }

    #[track_caller]
    fn gaussian_backward(
        &self,
        moments: &Master<Self>,
        noise: &Noise<Self>,
        dz: &Tensor<Self>,
        kl_weight: f64,
    ) -> Master<Self> {
        dz.expect_shape("gaussian_backward", "dz", &check("gaussian_backward", moments, noise));
        let (d, weight) = (half(moments), T::Master::from_f64(kl_weight));
        let mut dmoments: Master<Self> = self.unset(moments.shape());
        let (step, dz) = (rows_of_noise(d) * d, dz.wide());
        let inputs = moments.slice().par_chunks(2 * step).zip(dz.par_chunks(step));
        let pieces = dmoments.slice_mut().par_chunks_mut(2 * step).zip(inputs);
        pieces.enumerate().for_each(|(i, (dmoments, (moments, dz)))| {
            let noise = noise_of(noise, i * step, dz.len());
            let inputs =
                moments.chunks_exact(2 * d).zip(dz.chunks_exact(d)).zip(noise.chunks_exact(d));
            for (dmoments, ((moments, dz), noise)) in dmoments.chunks_exact_mut(2 * d).zip(inputs) {
                sample_row_backward(moments, noise, dz, weight, dmoments);
            }
        });
        dmoments
    }
}

/// The op at one size of z; the outputs are z and the sum of the KL over positions, because backward takes one
/// weight for all of them.
pub struct GaussianCase {
    instance: &'static str,
    shape: &'static [usize],
}

impl Case for GaussianCase {
    fn name(&self) -> String {
        format!("gaussian/{}", self.instance)
    }

    fn inputs(&self) -> Inputs {
        let mut inputs = Inputs::new(&self.name());
        let (mut shape, n) = (self.shape.to_vec(), self.shape.iter().product::<usize>());
        let d = self.shape[self.shape.len() - 1];
        let (mut moments, noise) = (inputs.normal(2 * n), inputs.normal(n));
        // λ well inside the clamp, or outside.
        for (i, x) in moments.iter_mut().enumerate().filter(|(i, _)| i % (2 * d) >= d) {
            *x = match (self.instance, i % d) {
                ("clamped", 0) => inputs.rng().uniform(-14.0, -12.5),
                ("clamped", 1) => inputs.rng().uniform(10.5, 12.0),
                _ => inputs.rng().uniform(-2.0, 1.0),
            };
        }
        shape[self.shape.len() - 1] = 2 * d;
        inputs.push("moments", &shape, moments, Kind::Master, true).push(
            "noise",
            self.shape,
            noise,
            Kind::Master,
            false,
        )
    }

    fn run<B: Backend>(&self, bk: &B, io: &mut Io<B>) {
        let (moments, noise) = (io.master("moments"), io.master("noise"));
        let noise = Noise::Given(&noise);
        let (z, kl) = bk.gaussian_forward(&moments, &noise);
        io.output(bk, &z);
        io.output_sum(bk, &kl);
        if io.wants_backward() {
            let (dz, weight) = (io.upstream(bk, 0), io.upstream_scalar(1));
            io.grad(bk, "moments", &bk.gaussian_backward(&moments, &noise, &dz, weight));
        }
    }

    fn thresholds(&self) -> Vec<Threshold> {
        let d = self.shape[self.shape.len() - 1];
        let rows = self.shape.iter().product::<usize>() / d.max(1);
        vec![Threshold::new("rows_of_noise", rows_of_noise(d), rows)]
    }

    fn cost(&self) -> Cost {
        let n = self.shape.iter().product::<usize>() as f64;
        Cost {
            flops_forward: 9.0 * n,
            flops_backward: 11.0 * n,
            elements_forward: 4.0 * n,
            elements_backward: 6.0 * n,
        }
    }
}

/// One channel, odd, both kinds of grids, outside the clamp, and rows of several tasks.
pub fn cases<V: Visitor>(v: &mut V) {
    for (instance, shape) in [
        ("one", &[1, 1][..]),
        ("odd", &[2, 3, 7]),
        ("wide", &[4, 2, 5, 3]),
        ("tall", &[5, 7, 3, 2]),
        ("clamped", &[3, 2, 3]),
        ("lane_and_one", &[4, 17]),
    ] {
        v.visit(GaussianCase { instance, shape });
    }
    // Four rows are a task.
    for (instance, shape) in [("task_and_one", &[5, 5003][..]), ("many_tasks", &[13, 5003])] {
        v.visit(Large(GaussianCase { instance, shape }));
    }
}

/// An empty batch.
pub fn empty_case<V: Visitor>(v: &mut V) {
    v.visit(GaussianCase { instance: "empty", shape: &[0, 3] });
}

/// A size worth timing: a grid of BEiT-B's, 16 channels.
pub fn large_cases<V: Visitor>(v: &mut V) {
    v.visit(GaussianCase { instance: "64x14x14x16", shape: &[64, 14, 14, 16] });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// z, KL and the gradient of the moments.
    fn run(moments: &[f64], noise: &[f64], dz: &[f64], weight: f64) -> [Vec<f64>; 3] {
        let (bk, d) = (Cpu::<f64>::new(), noise.len());
        let moments = Master::<Cpu<f64>>::from_vec(&bk, moments.to_vec(), &[1, 2 * d]);
        let noise = Master::<Cpu<f64>>::from_vec(&bk, noise.to_vec(), &[1, d]);
        let dz = Tensor::<Cpu<f64>>::from_vec(&bk, dz.to_vec(), &[1, d]);
        let (z, kl) = bk.gaussian_forward(&moments, &Noise::Given(&noise));
        let back = bk.gaussian_backward(&moments, &Noise::Given(&noise), &dz, weight);
        [z.to_vec(&bk), kl.to_vec(&bk), back.to_vec(&bk)]
    }

    #[test]
    fn hand_checked_numbers() {
        // Variances 4 and 1/4: deviations 2 and 1/2, ln 4 = 1.386294361120.
        let ln_4 = 4f64.ln();
        let [z, kl, back] = run(&[1.0, -2.0, ln_4, -ln_4], &[0.5, -1.0], &[3.0, 0.25], 2.0);
        let near = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-12);
        assert!(near(&z, &[2.0, -2.5]), "{z:?}");
        // ½ ((1 + 4 − 1) + (4 + ¼ − 1)), the logarithms cancel.
        assert!(near(&kl, &[3.625]), "{kl:?}");
        // μ: 3 + 2, ¼ − 4; λ: ½ (3 ½ 2 + 2 · 3), ½ (¼ (−1) ½ − 2 ¾).
        assert!(near(&back, &[5.0, -3.75, 4.5, -0.8125]), "{back:?}");
    }

    #[test]
    fn outside_the_clamp_the_variance_has_no_gradient() {
        let [z, kl, back] = run(&[0.0, 0.0, -13.0, 90.0], &[1.0, 1.0], &[1.0, 1.0], 1.0);
        assert!((z[0] - (-6f64).exp()).abs() < 1e-15 && (z[1] - 5f64.exp()).abs() < 1e-12, "{z:?}");
        let want = 0.5 * ((-12f64).exp() - 1.0 + 12.0 + 10f64.exp() - 1.0 - 10.0);
        assert!((kl[0] - want).abs() < 1e-9, "{kl:?}");
        assert_eq!(back, [1.0, 1.0, 0.0, 0.0]);
    }

    #[test]
    fn noise_is_finite_normal_and_the_same_for_any_number_of_threads() {
        for (a, b) in [(0, 0), (0, u32::MAX), (u32::MAX, 0), (1 << 31, 1 << 30)] {
            assert!(normals(a, b).iter().all(|x| x.is_finite() && x.abs() < 7.0), "{a} {b}");
        }
        let bk = Cpu::<f64>::new();
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let noise = Noise::Philox { seed: 5, step: 1 << 33 };
            let moments = Master::<Cpu<f64>>::zeros(&bk, &[5000, 14]);
            let dz = Tensor::<Cpu<f64>>::from_vec(&bk, vec![2.0; 35_000], &[5000, 7]);
            pool.install(|| {
                let back = bk.gaussian_backward(&moments, &noise, &dz, 0.0).to_vec(&bk);
                (bk.gaussian_forward(&moments, &noise).0.to_vec(&bk), back)
            })
        };
        let (one, back) = run(1);
        assert_eq!((&one, &back), (&run(3).0, &run(2).1));
        // Backward draws what forward drew: dλ = ½ · 2 ε.
        assert!(one.chunks(7).zip(back.chunks(14)).all(|(e, back)| *e == back[7..]));
        let stream = Philox::new(5, Purpose::Gaussian, 0, 2);
        for i in [0, 1, 2, 3, 34_998, 34_999] {
            let words = stream.block_at(i / 4);
            let pair = if i % 4 < 2 { [words[0], words[1]] } else { [words[2], words[3]] };
            assert_eq!(one[i as usize], normals(pair[0], pair[1])[i as usize % 2], "{i}");
        }
        // Moments 1 to 4 and the products of neighbours, each within five standard errors.
        let n = one.len() as f64;
        let mean = |f: &dyn Fn(f64) -> f64| one.iter().map(|&x| f(x)).sum::<f64>() / n;
        let of = |k: i32| mean(&|x| x.powi(k));
        for (k, want, deviation) in
            [(1, 0.0, 1.0), (2, 1.0, 2f64.sqrt()), (3, 0.0, 15f64.sqrt()), (4, 3.0, 96f64.sqrt())]
        {
            assert!((of(k) - want).abs() < 5.0 * deviation / n.sqrt(), "moment {k}: {}", of(k));
        }
        let products = one.windows(2).map(|x| x[0] * x[1]).sum::<f64>() / n;
        assert!(products.abs() < 5.0 / n.sqrt(), "{products}");
    }
}
