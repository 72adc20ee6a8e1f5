//! Equations that two rules must keep whatever the arguments are: ⟨u, J v⟩ = ⟨Jᵀ u, v⟩ of a Jacobian-vector and a
//! vector-Jacobian product, ⟨w, H v⟩ = ⟨v, H w⟩ of a Hessian.
//!
//! Both sides are computed several times, each time a few units of rounding beside the point and with other
//! multiples of u and v, which are divided out again. In exact arithmetic the difference of the sides is 0
//! each time where both are right, and nearly one number where one of them is wrong; what it scatters by is
//! round-off, whatever the precision in which the rules compute.

use crate::random::{SEED, Stream};
use crate::verdict::{Cause, Verdict};
use serde::Serialize;
use std::fmt;

/// How often both sides are computed.
const TIMES: usize = 6;
/// Multiples of the two factors: no powers of two, so that everything is rounded otherwise.
const MULTIPLES: [(f64, f64); TIMES] =
    [(1.0, 1.0), (3.0, 1.0), (1.0, 7.0), (5.0, 3.0), (11.0, 13.0), (7.0, 9.0)];
/// Deviations of the mean that a bound allows.
const DEVIATIONS: f64 = 8.0;

/// Both sides, and the sum of the magnitudes that add up to them.
pub(crate) struct Sides {
    pub left: f64,
    pub right: f64,
    pub scale: f64,
}

impl Sides {
    /// Two inner products.
    pub fn new(left: (&[f64], &[f64]), right: (&[f64], &[f64])) -> Self {
        let sums = [left, right].map(|(a, b)| {
            let terms = a.iter().zip(b).map(|(a, b)| a * b);
            (terms.clone().sum::<f64>(), terms.map(f64::abs).sum::<f64>())
        });
        Self { left: sums[0].0, right: sums[1].0, scale: sums[0].1.max(sums[1].1) }
    }
}

/// How far beside the point, and what the factors are multiplied by.
pub(crate) struct Nudge {
    rng: Stream,
    first: bool,
    /// Multiples of both factors.
    pub multiples: (f64, f64),
}

impl Nudge {
    /// The number or one a few units of rounding beside it; 0 stays.
    pub fn near(&mut self, x: f64) -> f64 {
        if self.first { x } else { x * (1.0 + 16.0 * f64::EPSILON * self.rng.uniform(-1.0, 1.0)) }
    }
}

/// An equation and how well it is kept.
#[derive(Clone, Debug, Serialize)]
pub struct Identity {
    /// The equation, and the direction for which it was looked at.
    pub name: String,
    /// Its left side.
    pub left: f64,
    /// Its right side.
    pub right: f64,
    /// The largest mean difference that passes.
    pub bound: f64,
    /// The magnitudes that add up to the sides.
    pub scale: f64,
    /// |left − right| in the mean, relative to the scale; infinite (`null` in JSON) where one is not finite.
    pub error: f64,
    /// What follows.
    pub verdict: Verdict,
    /// Why it is inconclusive.
    pub cause: Option<Cause>,
    /// The element in which both sides differ most, where they do.
    pub located: Option<String>,
}

impl Identity {
    /// Judges an equation by its sides at nudged points.
    pub(crate) fn judge(
        name: String,
        resolution: f64,
        mut sides: impl FnMut(&mut Nudge) -> Sides,
    ) -> Self {
        let mut all = Vec::new();
        for (i, multiples) in MULTIPLES.into_iter().enumerate() {
            let rng = Stream::new(SEED, 20 + i as u64);
            let mut nudge = Nudge { rng, first: i == 0, multiples };
            let product = multiples.0 * multiples.1;
            let Sides { left, right, scale } = sides(&mut nudge);
            all.push((left / product, right / product, scale / product));
        }
        let differences: Vec<f64> = all.iter().map(|(a, b, _)| a - b).collect();
        let n = TIMES as f64;
        let mean = differences.iter().sum::<f64>() / n;
        let squares: f64 = differences.iter().map(|d| (d - mean).powi(2)).sum();
        let (left, right, scale) = all[0];
        let bound = DEVIATIONS * (squares / (n - 1.0) / n).sqrt() + 4.0 * f64::EPSILON * scale;
        Self::new(name, resolution, (left, right), mean.abs(), bound, scale)
    }

    /// What follows from a difference and how far it may be off.
    pub(crate) fn new(
        name: String,
        resolution: f64,
        (left, right): (f64, f64),
        off: f64,
        bound: f64,
        scale: f64,
    ) -> Self {
        let (verdict, cause) = match off {
            off if !off.is_finite() || off > bound => (Verdict::Fail, None),
            _ if bound <= resolution * scale || bound == 0.0 => (Verdict::Pass, None),
            _ => (Verdict::Inconclusive, Some(Cause::RoundOff)),
        };
        let error = match off / scale {
            _ if off == 0.0 => 0.0,
            error if error.is_finite() => error,
            _ => f64::INFINITY,
        };
        Self { name, left, right, bound, scale, error, verdict, cause, located: None }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, left, right, error, bound, scale, .. } = self;
        write!(f, "{name}: {left:.12e} and {right:.12e}, apart by {error:.1e} of their scale")?;
        write!(f, " (bound {:.1e})", bound / scale)?;
        match (&self.located, self.cause) {
            (Some(at), _) => write!(f, "; largest at {at}"),
            (None, Some(cause)) => write!(f, " ({cause})"),
            (None, None) => Ok(()),
        }
    }
}
