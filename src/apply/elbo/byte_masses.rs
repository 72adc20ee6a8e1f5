//! Exact probabilities of bytes under the logit-Laplace law, in f64.
//!
//! Byte v is mapped to x_v = 0.8 v/255 + 0.1 and stands for the interval between the middles to its
//! neighbours, x_v ± h with h = 0.4/255; bytes 0 and 255 also take what lies beyond. With the Laplace
//! distribution's F and ends a < c of the interval in logit space,
//! ```text
//! P(v) = F((c − μ)/b) − F((a − μ)/b),   Σ_v P(v) = 1
//! ```
//! Beside it stands what is often quoted instead, density times width: f(x_v) · 0.8/255, whose sum over bytes
//! is not 1. Scale as in [`logit_laplace`](crate::ops::logit_laplace): ln b is clamped to its bounds.

use crate::ops::logit_laplace::LN_B;
use std::f64::consts::LN_2;

/// Length of a byte's interval of mapped pixels.
const WIDTH: f64 = 0.8 / 255.0;

/// What the law needs to know of each byte.
pub struct ByteMasses {
    /// Ends of the intervals in logit space, byte v between v and v + 1; infinite at both ends.
    ends: [f64; 257],
    /// logit x_v.
    logits: [f64; 256],
    /// ln of the width over x_v (1 − x_v).
    widths: [f64; 256],
}

fn logit(x: f64) -> f64 {
    (x / (1.0 - x)).ln()
}

/// ln (1 − e^−x) for x above 0.
fn ln_rest(x: f64) -> f64 {
    (-(-x).exp_m1()).ln()
}

impl Default for ByteMasses {
    /// The tables.
    fn default() -> Self {
        let x = |v: f64| WIDTH * v + 0.1;
        let mut ends = std::array::from_fn(|v| logit(x(v as f64 - 0.5)));
        (ends[0], ends[256]) = (f64::NEG_INFINITY, f64::INFINITY);
        Self {
            ends,
            logits: std::array::from_fn(|v| logit(x(v as f64))),
            widths: std::array::from_fn(|v| {
                let x = x(v as f64);
                (WIDTH / (x * (1.0 - x))).ln()
            }),
        }
    }
}

impl ByteMasses {
    /// ln P(v): of an interval on one side of μ through its nearer end, so that no mass is too small and no
    /// two nearly equal numbers are subtracted.
    pub fn ln_mass(&self, byte: u8, mu: f64, ln_b: f64) -> f64 {
        let inverse = (-ln_b.clamp(LN_B.0, LN_B.1)).exp();
        let v = usize::from(byte);
        let (a, c) = ((self.ends[v] - mu) * inverse, (self.ends[v + 1] - mu) * inverse);
        if c <= 0.0 {
            c - LN_2 + ln_rest(c - a)
        } else if a >= 0.0 {
            -a - LN_2 + ln_rest(c - a)
        } else {
            (-0.5 * ((-c).exp_m1() + a.exp_m1())).ln()
        }
    }

    /// ln of density times width.
    pub fn ln_density(&self, byte: u8, mu: f64, ln_b: f64) -> f64 {
        let (v, s) = (usize::from(byte), ln_b.clamp(LN_B.0, LN_B.1));
        self.widths[v] - LN_2 - s - (self.logits[v] - mu).abs() * (-s).exp()
    }

    /// Sums over an image's bytes `[H,W,3]` under a decoder's output `[H,W,6]`: of
    /// [`ln_mass`](Self::ln_mass) and of [`ln_density`](Self::ln_density).
    pub fn of_image(&self, bytes: &[u8], out: &[f64]) -> (f64, f64) {
        assert_eq!(2 * bytes.len(), out.len(), "two numbers for each byte");
        let (mut mass, mut density) = (0.0, 0.0);
        for (bytes, out) in bytes.chunks_exact(3).zip(out.chunks_exact(6)) {
            for (c, &byte) in bytes.iter().enumerate() {
                mass += self.ln_mass(byte, out[c], out[3 + c]);
                density += self.ln_density(byte, out[c], out[3 + c]);
            }
        }
        (mass, density)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::hard_codes::mapped;
    use crate::cpu::Cpu;
    use crate::data::Image;
    use crate::ops::logit_laplace::LogitLaplaceOp;
    use crate::tensor::Master;

    const MUS: [f64; 9] = [-800.0, -40.0, -2.3, -1.0, 0.0, 0.0061, 1.7, 40.0, 800.0];
    const SCALES: [f64; 7] = [-40.0, -7.0, -3.0, 0.0, 1.0, 3.0, 40.0];

    fn laws() -> impl Iterator<Item = (f64, f64)> {
        MUS.into_iter().flat_map(|mu| SCALES.map(|s| (mu, s)))
    }

    #[test]
    fn masses_of_all_bytes_sum_to_one() {
        let bytes = ByteMasses::default();
        for (mu, s) in laws() {
            let masses: Vec<f64> = (0..=255).map(|v| bytes.ln_mass(v, mu, s)).collect();
            assert!(masses.iter().all(|m| m.is_finite() && *m <= 1e-12), "μ {mu}, ln b {s}");
            let sum: f64 = masses.iter().map(|m| m.exp()).sum();
            assert!((sum - 1.0).abs() < 1e-12, "μ {mu}, ln b {s}: {sum}");
        }
    }

    #[test]
    fn masses_are_differences_of_the_distribution() {
        let bytes = ByteMasses::default();
        let below = |x: f64, mu: f64, b: f64| {
            let t = ((x / (1.0 - x)).ln() - mu) / b;
            if t < 0.0 { 0.5 * t.exp() } else { 1.0 - 0.5 * (-t).exp() }
        };
        for (mu, s) in [(0.0, 0.0), (-1.0, -2.0), (1.7, 1.0), (0.3, 3.0)] {
            let b = f64::exp(s);
            for v in 1..255u8 {
                let x = 0.8 * f64::from(v) / 255.0 + 0.1;
                let want = below(x + 0.4 / 255.0, mu, b) - below(x - 0.4 / 255.0, mu, b);
                let got = bytes.ln_mass(v, mu, s).exp();
                assert!((got - want).abs() < 1e-13, "byte {v}, μ {mu}, ln b {s}: {got}, {want}");
            }
            let tails = (below(0.1 + 0.4 / 255.0, mu, b), 1.0 - below(0.9 - 0.4 / 255.0, mu, b));
            let got = (bytes.ln_mass(0, mu, s).exp(), bytes.ln_mass(255, mu, s).exp());
            assert!((got.0 - tails.0).abs() < 1e-13 && (got.1 - tails.1).abs() < 1e-13);
        }
    }

    /// The wider the law, the closer density times width; what stays is the curve of the logit.
    #[test]
    fn density_times_width_approaches_the_mass() {
        let bytes = ByteMasses::default();
        let furthest = |s: f64| {
            let apart = |v| (bytes.ln_density(v, 0.4, s) - bytes.ln_mass(v, 0.4, s)).abs();
            (1..255).map(apart).fold(0.0, f64::max)
        };
        let errors = [-7.0, -5.0, -3.0, 0.0, 3.0].map(furthest);
        assert!(errors.windows(2).all(|e| e[1] < e[0]), "{errors:?}");
        assert!(errors[0] > 1.0 && errors[4] < 2e-4, "{errors:?}");
    }

    #[test]
    fn the_density_is_that_of_the_op() {
        let bk = Cpu::<f64>::new();
        let image = Image::new(4, 5, (0..60).map(|i| (i * 37 % 256) as u8).collect());
        let out: Vec<f64> = (0..120).map(|i| f64::from(i * 29 % 61) / 7.0 - 4.0).collect();
        let target = mapped(&bk, std::slice::from_ref(&image));
        let nll = bk.logit_laplace_forward(&target, &Master::from_f64(&bk, &out, &[1, 4, 5, 6]));
        let want = -nll.to_vec(&bk)[0] + 60.0 * WIDTH.ln();
        let got = ByteMasses::default().of_image(&image.pixels, &out).1;
        // The op's pixels are mapped in f32.
        assert!((got - want).abs() < 1e-5 * want.abs(), "{got}, {want}");
    }
}
