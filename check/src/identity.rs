//! Equations that two rules must keep whatever the arguments are: ⟨u, J v⟩ = ⟨Jᵀ u, v⟩ of a Jacobian-vector and a
//! vector-Jacobian product, ⟨w, H v⟩ = ⟨v, H w⟩ of a Hessian.
//!
//! Both sides are computed several times, a few units of rounding beside the point and with other multiples of
//! u and v, which are divided out again. In exact arithmetic the difference of the sides is 0 each time where both
//! are right, and nearly one number where one of them is wrong; what it scatters by is round-off, whatever the
//! precision in which the rules compute. That near the point a rounding may repeat itself (1 − tanh² where tanh is
//! next to 1): the difference must also stand out from how it scatters around its mean in a neighbourhood of a
//! 64th, where no rounding does.

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

/// Farthest that a number is moved, relative to it near the point ...
const NEAR: f64 = 16.0 * f64::EPSILON;
/// ... and to its array in the neighbourhood.
const WIDE: f64 = 1.0 / 64.0;

/// How far beside the point, and what the factors are multiplied by.
pub(crate) struct Nudge {
    rng: Stream,
    distance: f64,
    /// Multiples of both factors.
    pub multiples: (f64, f64),
}

impl Nudge {
    /// The number or one beside it, in an array of this size; 0 stays.
    pub fn near(&mut self, x: f64, size: f64) -> f64 {
        // A small number may be added to a large one: only the size of the array moves the sum.
        let length = if self.distance == WIDE { x.abs().max(size) } else { x.abs() };
        let moved = x + self.distance * length * self.rng.uniform(-1.0, 1.0);
        if x == 0.0 { x } else { moved }
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
    /// Judges an equation by its sides at the point and at nudged ones.
    pub(crate) fn judge(
        name: String,
        resolution: f64,
        mut sides: impl FnMut(&mut Nudge) -> Sides,
    ) -> Self {
        let mut look = |distance: f64| -> Vec<Sides> {
            let times = MULTIPLES.into_iter().enumerate().map(|(i, multiples)| {
                let rng = Stream::new(SEED, 20 + i as u64);
                let distance = if i == 0 && distance == NEAR { 0.0 } else { distance };
                let found = sides(&mut Nudge { rng, distance, multiples });
                let by = multiples.0 * multiples.1;
                Sides { left: found.left / by, right: found.right / by, scale: found.scale / by }
            });
            times.collect()
        };
        let (near, wide) = (look(NEAR), look(WIDE));
        let Sides { left, right, scale } = near[0];
        if !(left - right).is_finite() {
            return Self::new(name, resolution, (left, right), f64::INFINITY, 0.0, scale);
        }
        let ((mean, own, n), (_, around, _)) = (scatter(&near), scatter(&wide));
        let bound = DEVIATIONS * around.max(own / n.sqrt()) + 4.0 * f64::EPSILON * scale;
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

/// Mean and deviation of the differences that are finite (beside the edge of a domain some are not), and
/// their number.
fn scatter(all: &[Sides]) -> (f64, f64, f64) {
    let finite = all.iter().map(|s| s.left - s.right).filter(|d| d.is_finite());
    let n = finite.clone().count().max(1) as f64;
    let mean = finite.clone().sum::<f64>() / n;
    let squares: f64 = finite.map(|d| (d - mean).powi(2)).sum();
    (mean, (squares / (n - 1.0).max(1.0)).sqrt(), n)
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
