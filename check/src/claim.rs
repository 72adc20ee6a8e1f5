//! One derivative that backward claims, beside differences.

use super::ladder::Ladder;
use super::verdict::{Cause, Verdict};

/// The part of the resolution to which the bound is pressed where steps allow it.
const SHARP: f64 = 1e-3;

/// What backward says of a derivative.
pub(super) struct Claim {
    pub analytic: f64,
    /// Sum of the magnitudes that add up to it.
    pub magnitude: f64,
    /// Bound on its round-off.
    pub noise: f64,
    /// Smallest scale on which it is judged.
    pub floor: f64,
}

/// A claim beside a ladder.
pub(super) struct Judged {
    pub numeric: f64,
    pub truncation: f64,
    pub round_off: f64,
    pub scale: f64,
    pub error: f64,
    pub verdict: Verdict,
    pub cause: Option<Cause>,
    pub order: usize,
    pub step: f64,
    /// Whether shorter steps would change nothing.
    pub clear: bool,
}

impl Claim {
    /// What follows from the differences so far.
    pub fn judge(&self, ladder: &Ladder, resolution: f64) -> Judged {
        let best = ladder.best();
        let (numeric, truncation, round_off) = match best {
            Some(e) => (e.value, e.truncation, e.round_off + self.noise),
            None => (f64::NAN, f64::INFINITY, f64::INFINITY),
        };
        let (analytic, size, bound) = (self.analytic, ladder.size(), truncation + round_off);
        let magnitudes = [analytic.abs(), numeric.abs(), size, self.magnitude];
        let scale = magnitudes.into_iter().fold(self.floor, f64::max);
        let off = (analytic - numeric).abs();
        let agrees = off <= bound;
        let resolved = bound <= resolution * scale || bound == 0.0;
        let converged = truncation <= round_off || bound <= SHARP * resolution * scale;
        let (order, step) = best.map_or((0, 0.0), |e| (e.order, e.step));
        // That something is wrong is said only of differences that have converged, and only beyond half
        // of what a kink at the point could be: the difference is the mean of both sides.
        let broken = !analytic.is_finite();
        let differs = broken || off > bound + 0.5 * ladder.hidden_kink(step);
        let clear = if agrees {
            resolved && converged
        } else {
            // A function that does not move at all may do so over shorter steps.
            converged && differs && (size > 0.0 || analytic == 0.0)
        };
        let cause = match best {
            _ if agrees && resolved => None,
            None if ladder.met_an_edge() => Some(Cause::DomainEdge),
            Some(_) if broken => None,
            Some(_) if ladder.has_kink() => Some(Cause::Kink),
            Some(_) if differs && (converged || ladder.is_drowned()) => None,
            Some(_) if ladder.met_an_edge() => Some(Cause::DomainEdge),
            Some(_) if converged || ladder.is_drowned() => Some(Cause::RoundOff),
            _ => Some(Cause::Steps),
        };
        let verdict = match cause {
            Some(_) => Verdict::Inconclusive,
            None if agrees => Verdict::Pass,
            None => Verdict::Fail,
        };
        let error = match off / scale {
            _ if off == 0.0 => 0.0,
            error if error.is_finite() => error,
            _ => f64::INFINITY,
        };
        Judged { numeric, truncation, round_off, scale, error, verdict, cause, order, step, clear }
    }
}
