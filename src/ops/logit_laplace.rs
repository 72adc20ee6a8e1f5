//! Negative log-likelihood of mapped pixels under the logit-Laplace distribution.
//!
//! If L ~ Laplace(μ, b) and x = sigmoid(L), then with s = ln b and δ = logit x − μ, per sub-pixel
//! ```text
//! nll = ln 2 + s + ln x + ln(1 − x) + |δ| e^{−s}
//! ```
//! Shapes: x `[B,..,3]` in (0, 1); out `[B,..,6]`, μ in channels 0..3 and s in 3..6; the result is
//! the sum per image `[B]`.
//!
//! Backward:
//! * ∂/∂μ = −sign(δ) e^{−s} (0 at δ = 0)
//! * ∂/∂s = 1 − |δ| e^{−s}
//! * ∂/∂x = 1/x − 1/(1 − x) + sign(δ) e^{−s} / (x (1 − x)), as d logit x/dx = 1/(x (1 − x))
//!
//! `Deviation:` s is clamped to [−7, 3] (gradient of s 0 outside): the sources show no clamp, but the
//! density is unbounded as b goes to 0. Kept for backward: x and out. Source: arXiv 2102.12092, A.3.

#[cfg(feature = "cuda")]
mod cuda;

use crate::cpu::Cpu;
use crate::cpu::pieces::{Cut, Pieces};
use crate::cpu::scalar::Scalar;
use crate::ops::Backend;
use crate::ops::case::{Case, Cost, Inputs, Io, Kind, Large, Threshold, Visitor};
use crate::real::{Float, Real, clamped};
use crate::storage::Storage;
use crate::tensor::Master;

/// Bounds of ln b.
pub const LN_B: (f64, f64) = (-7.0, 3.0);

/// The likelihood and its gradients.
pub trait LogitLaplaceOp: Storage {
    /// x `[B,..,3]`, out `[B,..,6]` -> sum per image `[B]`.
    fn logit_laplace_forward(&self, x: &Master<Self>, out: &Master<Self>) -> Master<Self>;
    /// Gradients of `scale · Σ nll` with respect to out and x.
    fn logit_laplace_backward(
        &self,
        x: &Master<Self>,
        out: &Master<Self>,
        scale: f64,
    ) -> (Master<Self>, Master<Self>);
}

#[track_caller]
fn check<B: Storage>(op: &str, x: &Master<B>, out: &Master<B>) {
    assert_eq!(x.cols(), 3, "{op}: x is {:?}, expected [B,..,3]", x.shape());
    let mut want = x.shape().to_vec();
    *want.last_mut().expect("three channels") = 6;
    out.expect_shape(op, "out", &want);
}

/// Pixels that one task takes.
const PIECE: usize = 4096;

impl<T: Scalar> LogitLaplaceOp for Cpu<T> {
    #[track_caller]
    fn logit_laplace_forward(&self, x: &Master<Self>, out: &Master<Self>) -> Master<Self> {
        check("logit_laplace", x, out);
        let images = x.shape()[0];
        let mut sums = Master::zeros(self, &[images]);
        let pixels = x.rows() / images.max(1);
        let ln_2 = T::Master::from_f64(std::f64::consts::LN_2);
        let (x, out) = (x.slice(), out.slice());
        sums.slice_mut().par_iter_mut().enumerate().for_each(|(b, sum)| {
            for p in b * pixels..(b + 1) * pixels {
                for c in 0..3 {
                    let (x, mu) = (x[3 * p + c], out[6 * p + c]);
                    let (s, _) = clamped(out[6 * p + 3 + c], LN_B);
                    let (ln_x, ln_rest) = (x.ln(), (T::Master::ONE - x).ln());
                    let delta = ln_x - ln_rest - mu;
                    *sum += ln_2 + s + ln_x + ln_rest + delta.abs() * (-s).exp();
                }
            }
        });
        sums
    }

    #[track_caller]
    fn logit_laplace_backward(
        &self,
        x: &Master<Self>,
        out: &Master<Self>,
        scale: f64,
    ) -> (Master<Self>, Master<Self>) {
        check("logit_laplace_backward", x, out);
        let (mut dout, mut dx) = (self.unset(out.shape()), self.unset(x.shape()));
        let scale = T::Master::from_f64(scale);
        let inputs = x.slice().par_chunks(3 * PIECE).zip(out.slice().par_chunks(6 * PIECE));
        let grads = dout
            .slice_mut()
            .par_chunks_mut(6 * PIECE)
            .zip(dx.slice_mut().par_chunks_mut(3 * PIECE));
        grads.zip(inputs).for_each(|((dout, dx), (x, out))| {
            let inputs = x.chunks_exact(3).zip(out.chunks_exact(6));
            let grads = dout.chunks_exact_mut(6).zip(dx.chunks_exact_mut(3));
            for ((x, out), (dout, dx)) in inputs.zip(grads) {
                for c in 0..3 {
                    let (s, inside) = clamped(out[3 + c], LN_B);
                    let (x, inverse_b) = (x[c], (-s).exp());
                    let rest = T::Master::ONE - x;
                    let delta = x.ln() - rest.ln() - out[c];
                    // sign(δ) e^{−s}
                    let slope = if delta > T::Master::ZERO {
                        inverse_b
                    } else if delta < T::Master::ZERO {
                        -inverse_b
                    } else {
                        T::Master::ZERO
                    };
                    dout[c] = -scale * slope;
                    let ds = T::Master::ONE - delta.abs() * inverse_b;
                    dout[3 + c] = if inside { scale * ds } else { T::Master::ZERO };
                    dx[c] =
                        scale * (T::Master::ONE / x - T::Master::ONE / rest + slope / (x * rest));
                }
            }
        });
        (dout, dx)
    }
}

/// The op at one size; the output is the sum over images, because backward takes one weight for all.
pub struct LogitLaplaceCase {
    instance: &'static str,
    shape: &'static [usize],
}

impl Case for LogitLaplaceCase {
    fn name(&self) -> String {
        format!("logit_laplace/{}", self.instance)
    }

    fn inputs(&self) -> Inputs {
        let mut inputs = Inputs::new(&self.name());
        let n = self.shape.iter().product::<usize>();
        let x: Vec<f64> = (0..n).map(|_| inputs.rng().uniform(0.12, 0.88)).collect();
        // μ stays 0.1 to 1.5 away from logit x, the kink; ln b well inside the clamp, or outside.
        let mut out = vec![0.0; 2 * n];
        for (p, x) in x.chunks(3).enumerate() {
            for c in 0..3 {
                let sign = if inputs.rng().unit() < 0.5 { -1.0 } else { 1.0 };
                let gap = inputs.rng().uniform(0.1, 1.5);
                out[6 * p + c] = (x[c] / (1.0 - x[c])).ln() + sign * gap;
                out[6 * p + 3 + c] = match (self.instance, c) {
                    ("clamped", 0) => inputs.rng().uniform(-9.0, -7.5),
                    ("clamped", 1) => inputs.rng().uniform(3.5, 5.0),
                    _ => inputs.rng().uniform(-2.0, 1.0),
                };
            }
        }
        let mut six = self.shape.to_vec();
        *six.last_mut().expect("three channels") = 6;
        inputs.push("x", self.shape, x, Kind::Master, true).push(
            "out",
            &six,
            out,
            Kind::Master,
            true,
        )
    }

    fn run<B: Backend>(&self, bk: &B, io: &mut Io<B>) {
        let (x, out) = (io.master("x"), io.master("out"));
        io.output_sum(bk, &bk.logit_laplace_forward(&x, &out));
        if io.wants_backward() {
            let (dout, dx) = bk.logit_laplace_backward(&x, &out, io.upstream_scalar(0));
            io.grad(bk, "out", &dout);
            io.grad(bk, "x", &dx);
        }
    }

    fn thresholds(&self) -> Vec<Threshold> {
        vec![Threshold::new("PIECE", PIECE, self.shape.iter().product::<usize>() / 3)]
    }

    fn cost(&self) -> Cost {
        let n = self.shape.iter().product::<usize>() as f64;
        Cost {
            flops_forward: 12.0 * n,
            flops_backward: 20.0 * n,
            elements_forward: 3.0 * n,
            elements_backward: 6.0 * n,
        }
    }
}

/// One pixel, odd, outside the clamp, both kinds of grids, two pieces and many.
pub fn cases<V: Visitor>(v: &mut V) {
    for (instance, shape) in [
        ("one", &[1, 3][..]),
        ("odd", &[2, 3, 5, 3]),
        ("clamped", &[2, 2, 3]),
        ("wide", &[4, 2, 5, 3]),
        ("tall", &[5, 7, 3, 3]),
    ] {
        v.visit(LogitLaplaceCase { instance, shape });
    }
    for (instance, shape) in
        [("piece_and_one", &[1, 17, 241, 3][..]), ("many_pieces", &[4, 61, 53, 3])]
    {
        v.visit(Large(LogitLaplaceCase { instance, shape }));
    }
}

/// An empty batch.
pub fn empty_case<V: Visitor>(v: &mut V) {
    v.visit(LogitLaplaceCase { instance: "empty", shape: &[0, 3] });
}

/// A size worth timing: BEiT-B and its tokenizer.
pub fn large_cases<V: Visitor>(v: &mut V) {
    v.visit(LogitLaplaceCase { instance: "64x112x112x3", shape: &[64, 112, 112, 3] });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::approx_constant)]
    fn hand_checked_numbers() {
        // Computed by hand from the formulas above; the fourth row stands alone in the second pixel.
        let bk = Cpu::<f64>::new();
        let x = vec![0.26, 0.74, 0.9, 0.1, 0.1, 0.1];
        let out = vec![
            -1.0,
            0.25,
            2.5,
            -std::f64::consts::LN_2,
            -1.0,
            -2.0,
            -2.0,
            -2.0,
            -2.0,
            0.0,
            0.0,
            0.0,
        ];
        let x = Master::<Cpu<f64>>::from_vec(&bk, x, &[2, 3]);
        let out = Master::<Cpu<f64>>::from_vec(&bk, out, &[2, 6]);
        let nll = bk.logit_laplace_forward(&x, &out).to_vec(&bk);
        let first = -1.556241630385 + 0.208635299387 - 1.477573844652;
        assert!((nll[0] - first).abs() < 1e-10 && (nll[1] + 3.0 * 1.517573850756).abs() < 1e-10);
        let (dout, _) = bk.logit_laplace_backward(&x, &out, 1.0);
        let want = [
            2.0,
            -2.718281828459,
            7.389056098931,
            0.908062889635,
            -1.163666859578,
            -1.237224583440,
            1.0,
            1.0,
            1.0,
            0.802775422664,
            0.802775422664,
            0.802775422664,
        ];
        let got = dout.to_vec(&bk);
        assert!(got.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-10), "{got:?}");
    }

    #[test]
    fn outside_the_clamp_ln_b_has_no_gradient() {
        let bk = Cpu::<f64>::new();
        let x = Master::<Cpu<f64>>::from_vec(&bk, vec![0.5; 3], &[1, 3]);
        let out = vec![0.3, 0.3, 0.3, -9.0, 5.0, 0.0];
        let out = Master::<Cpu<f64>>::from_vec(&bk, out, &[1, 6]);
        let dout = bk.logit_laplace_backward(&x, &out, 1.0).0.to_vec(&bk);
        assert_eq!(dout[3..5], [0.0, 0.0]);
        assert!(dout[5] != 0.0);
    }
}
