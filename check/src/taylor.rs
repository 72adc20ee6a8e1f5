//! A second opinion that depends on no step: how the remainder of the first-order expansion shrinks.
//!
//! R(h) = |L(x + hv) − L(x) − h ⟨∇L, v⟩| falls like h² where the gradient is right, whatever the size of
//! the second derivative, and like h where it is wrong. All variables move at once. The slope
//! log₂ R(2h) / R(h) is taken over the smallest steps at which R stands out from round-off.

use super::verdict::Verdict;
use serde::Serialize;
use std::fmt;

/// Steps tried: 2⁻² and each half of the one before.
pub(super) const STEPS: usize = 16;
/// The first of them.
pub(super) const FIRST: f64 = 0.25;
/// Slopes of which the median is taken.
const COUNTED: usize = 3;

/// What was seen at one step.
pub(super) struct Step {
    pub h: f64,
    /// R(h)
    pub remainder: f64,
    /// |L(x + hv) − 2 L(x) + L(x − hv)|, which falls like h² where the function is smooth.
    pub bend: f64,
    /// Bound on the round-off of the remainder.
    pub noise: f64,
}

/// Remainders and their slope.
#[derive(Clone, Debug, Serialize)]
pub struct Remainder {
    /// h and R(h), the largest h first; only those that stand out from round-off.
    pub remainders: Vec<(f64, f64)>,
    /// Power of h with which R falls; none where the function is a straight line up to round-off.
    pub slope: Option<f64>,
    /// At least 1.8: pass. Three slopes of 1 ± 0.2 of a function that is smooth over these steps: fail.
    /// Else, as where a kink is crossed: inconclusive.
    pub verdict: Verdict,
}

impl Remainder {
    /// Judges remainders, the longest step first.
    pub(super) fn new(measured: &[Step]) -> Self {
        // Long steps may lead out of the domain.
        let inside = measured.iter().skip_while(|s| !s.remainder.is_finite());
        let clear: Vec<&Step> = inside.take_while(|s| s.remainder > 4.0 * s.noise).collect();
        let remainders: Vec<(f64, f64)> = clear.iter().map(|s| (s.h, s.remainder)).collect();
        // A wrong gradient leaves the function smooth; a kink nearer than the step does not.
        let smooth = clear.iter().rev().take(COUNTED).all(|s| s.bend < 0.5 * s.remainder);
        let slopes = remainders.windows(2).map(|w| (w[0].1 / w[1].1).log2());
        let mut last: Vec<f64> = slopes.rev().take(COUNTED).collect();
        last.sort_by(f64::total_cmp);
        let slope = (!last.is_empty()).then(|| last[last.len() / 2]);
        let ones = last.len() == COUNTED && last.iter().all(|s| (s - 1.0).abs() <= 0.2);
        let verdict = match slope {
            None => Verdict::Pass,
            Some(slope) if slope >= 1.8 => Verdict::Pass,
            Some(_) if ones && smooth => Verdict::Fail,
            Some(_) => Verdict::Inconclusive,
        };
        Self { remainders, slope, verdict }
    }
}

impl fmt::Display for Remainder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.slope {
            None => f.write_str("the function is a straight line up to round-off"),
            Some(slope) => write!(
                f,
                "the remainder L(x + hv) − L(x) − h ⟨∇L, v⟩ falls like h to the power {slope:.2} \
                 (2 where the gradient is right, 1 where it is wrong)"
            ),
        }
    }
}
