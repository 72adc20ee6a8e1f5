//! The forward once more in double-double: differences without round-off, which certify the f64 path.
//!
//! With 31 digits a central difference of step h loses 10⁻³²/h to round-off instead of 10⁻¹⁶/h. Steps near
//! 2⁻²⁰ and two extrapolations, to order 6, give the derivative along a random direction through all
//! variables to 20 digits and more, and say so themselves: by the distance of order 6 from order 4, and
//! by what double-double rounds off. That number judges the exact derivative of dual numbers, which in
//! turn judges backward: neither shares a formula with it.

use super::double::Double;
use super::exact::Slopes;
use super::variable::{Variable, power_of_two};
use super::verdict::Verdict;
use crate::random::{SEED, Stream};
use crate::real::Real;
use serde::Serialize;

/// Largest uncertainty of the differences, relative to Σ |uᵢ (J v)ᵢ|.
pub const LIMIT: f64 = 1e-20;

/// First steps for a direction whose largest rate is 1, the next tried where a kink lies within the one before; with two halves each.
const STEPS: [f64; 4] = [
    1.0 / (1u64 << 18) as f64,
    1.0 / (1u64 << 23) as f64,
    1.0 / (1u64 << 27) as f64,
    1.0 / (1u64 << 30) as f64,
];

/// A unit of round-off of double-double.
const ROUNDING: f64 = 1.0 / (1u128 << 105) as f64;

/// What double-double says of one directional derivative.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Certificate {
    /// ⟨u, J v⟩ from differences in double-double, rounded to f64.
    pub value: f64,
    /// How far it may be off, relative to Σ |uᵢ (J v)ᵢ|.
    pub uncertainty: f64,
    /// How far the exact derivative from dual numbers, in f64, is from it, relative to the same sum.
    pub error: f64,
}

impl Certificate {
    /// Pass where the differences are certain enough. What f64 is away from them is what dual numbers lost to
    /// cancellation in the forward; backward is then judged by double-double.
    pub fn verdict(&self) -> Verdict {
        // Not a number where every step led out of the domain.
        if self.uncertainty <= LIMIT && self.error.is_finite() {
            Verdict::Pass
        } else {
            Verdict::Inconclusive
        }
    }
}

/// Outputs in double-double for displacements of the variables.
pub type Doubles<'a> = dyn Fn(&[Vec<f64>]) -> Vec<Double> + 'a;

/// Certifies the derivative along a random direction; none where nothing depends on the variables.
pub(super) fn certify(
    variables: &[Variable],
    slopes: &Slopes,
    precise: &Doubles,
) -> Option<Certificate> {
    let mut rng = Stream::new(SEED, 4);
    let direction: Vec<Vec<f64>> = variables.iter().map(|v| rng.normal(v.values.len())).collect();
    let slopes = slopes(&direction);
    let upstream = rng.normal(slopes.len());
    let terms = upstream.iter().zip(&slopes).map(|(u, s)| u * s);
    let (exact, scale): (f64, f64) = (terms.clone().sum(), terms.map(f64::abs).sum());
    if scale == 0.0 {
        return None;
    }
    let sure = along(&upstream, &direction, precise, LIMIT * scale);
    Some(Certificate {
        value: sure.value,
        uncertainty: sure.uncertainty / scale,
        error: Real::abs(sure.precise - exact).value() / scale,
    })
}

/// A directional derivative from differences in double-double.
#[derive(Clone, Copy)]
pub(super) struct Sure {
    pub value: f64,
    precise: Double,
    pub uncertainty: f64,
}

/// ⟨u, J v⟩, over the first step that is certain `enough` or the most certain of all.
pub(super) fn along(
    upstream: &[f64],
    direction: &[Vec<f64>],
    precise: &Doubles,
    enough: f64,
) -> Sure {
    let moved = |step: f64| {
        let times = |v: &Vec<f64>| v.iter().map(|v| step * v).collect();
        precise(&direction.iter().map(times).collect::<Vec<_>>())
    };
    // Levelled directions are long or short by orders of magnitude.
    let longest = direction.iter().flatten().fold(0.0, |m: f64, v| m.max(v.abs()));
    let unit = if longest > 0.0 { power_of_two(longest) } else { 1.0 };
    let quotient = |h: f64| {
        let (mut sum, mut size) = (Double::ZERO, 0.0);
        for ((up, down), u) in moved(h).into_iter().zip(moved(-h)).zip(upstream) {
            sum += (up - down) * *u;
            size += (up.value() * u).abs();
        }
        (sum / (2.0 * h), size * ROUNDING / h)
    };
    let mut best: Option<Sure> = None;
    for h in STEPS.map(|h| h / unit) {
        let [(a, _), (b, _), (c, noise)] = [h, h / 2.0, h / 4.0].map(quotient);
        let extrapolated =
            |fine: Double, coarse: Double, power: f64| fine + (fine - coarse) / (power - 1.0);
        let (first, second) = (extrapolated(b, a, 4.0), extrapolated(c, b, 4.0));
        let value = extrapolated(second, first, 16.0);
        let apart = Real::abs(value - second).maximum(Real::abs(value - first)).value();
        let (precise, uncertainty) = (value, apart + 8.0 * noise);
        let found = Sure { value: precise.value(), precise, uncertainty };
        if best.is_none_or(|b| b.uncertainty.is_nan() || uncertainty < b.uncertainty) {
            best = Some(found);
        }
        if uncertainty <= enough {
            break;
        }
    }
    best.expect("there is a step")
}
