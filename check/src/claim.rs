//! One derivative that backward claims, beside differences.

use super::ladder::Ladder;
use super::variable::Settings;
use super::verdict::{Cause, Verdict};

/// The part of the resolution to which the bound is pressed where steps allow it.
const SHARP: f64 = 1e-3;

/// The part of a kink that a difference at it, the mean of both sides, is off: half, and some.
const KINK: f64 = 0.6;

/// So far outside of a bound that is not one of round-off a claim is wrong.
const UNCERTAIN: f64 = 8.0;

/// What backward says of a derivative.
pub(super) struct Claim {
    pub analytic: f64,
    /// Sum of the magnitudes that add up to it.
    pub magnitude: f64,
    /// Bound on its round-off.
    pub noise: f64,
    /// Smallest scale on which it is judged.
    pub floor: f64,
    /// The largest gradient of the tensor.
    pub largest: f64,
    /// What the derivative would be if the outputs changed by their own size over that of the variable.
    pub natural: f64,
}

/// A claim beside a ladder.
pub(super) struct Judged {
    pub numeric: f64,
    pub truncation: f64,
    pub round_off: f64,
    pub visible: f64,
    pub scale: f64,
    pub error: f64,
    pub verdict: Verdict,
    pub cause: Option<Cause>,
    pub order: usize,
    pub step: f64,
    /// Whether a tolerance of the settings decided.
    pub tolerated: bool,
    /// Whether longer or shorter steps of the first ladder would change nothing.
    pub clear: bool,
    /// Round-off at which a difference shows whether this verdict is right.
    pub sight: f64,
}

impl Claim {
    /// What follows from the differences so far.
    pub fn judge(&self, ladder: &Ladder, settings: &Settings) -> Judged {
        let mut best = ladder.best();
        if let Some(e) = best
            && (self.analytic - e.value).abs() > e.bound() + self.noise
            && e.bound() + self.noise
                <= SHARP * settings.resolution * self.analytic.abs().max(self.magnitude)
        {
            best = ladder.shorter(&e, self.analytic, self.noise).or(best);
        }
        let (numeric, truncation, round_off) = match best {
            Some(e) => (e.value, e.truncation, e.round_off + self.noise),
            None => (f64::NAN, f64::INFINITY, f64::INFINITY),
        };
        let (analytic, size, bound) = (self.analytic, ladder.size(), truncation + round_off);
        let magnitudes = [analytic.abs(), numeric.abs(), size, self.magnitude];
        let scale = magnitudes.into_iter().fold(self.floor, f64::max);
        let off = (analytic - numeric).abs();
        let within = off <= settings.atol + settings.rtol * numeric.abs();
        let tolerated = off > bound && within;
        let agrees = off <= bound || within;
        let resolution = settings.resolution;
        // A zero is one on the scale of what could move.
        let zero = analytic.abs() <= self.noise.max(4.0 * f64::EPSILON * self.natural);
        let normal =
            |part: f64| bound <= part * scale || (zero && agrees && bound <= part * self.natural);
        let fine = |part: f64| bound <= f64::MIN_POSITIVE || normal(part);
        let coarsest = settings.coarsest.max(resolution) / 3.0;
        let resolved = fine(coarsest)
            || bound <= coarsest * self.largest
            || (within && bound <= settings.atol + settings.rtol * numeric.abs());
        let converged = truncation <= round_off || bound <= SHARP * resolution * scale;
        // What is left of the steps is about what round-off is.
        let near = truncation <= 4.0 * round_off;
        let (order, step) = best.map_or((0, 0.0), |e| (e.order, e.step));
        // That something is wrong is said only of differences that have converged, and only beyond what a
        // kink at the point could be.
        let broken = !analytic.is_finite();
        let differs = broken || off > bound + KINK * ladder.hidden_kink(step);
        let clear = if agrees {
            fine(resolution) && converged
        } else {
            // A function that does not move at all may do so over shorter steps.
            converged && differs && (size > 0.0 || analytic == 0.0)
        };
        let cause = match best {
            _ if agrees && resolved => None,
            None if ladder.met_an_edge() => Some(Cause::DomainEdge),
            Some(_) if broken => None,
            Some(_) if ladder.has_kink() && ladder.has_jump() => Some(Cause::Jump),
            Some(_) if ladder.has_kink() => Some(Cause::Kink),
            // An estimate of what is left of the step is no more than that.
            Some(_) if differs && (converged || near || off > UNCERTAIN * bound) => None,
            Some(_) if ladder.met_an_edge() => Some(Cause::DomainEdge),
            Some(_) if ladder.has_jump() => Some(Cause::Jump),
            Some(_) if converged || ladder.is_drowned() => Some(Cause::RoundOff),
            _ => Some(Cause::Steps),
        };
        let verdict = match cause {
            Some(_) => Verdict::Inconclusive,
            None if agrees => Verdict::Pass,
            None => Verdict::Fail,
        };
        let seen = if zero { scale.max(self.natural) } else { scale };
        // That of a zero is on the scale of what could move.
        let error = match off / if zero && agrees { seen } else { scale } {
            _ if off == 0.0 => 0.0,
            error if error.is_finite() => error,
            _ => f64::INFINITY,
        };
        let sight = match verdict {
            Verdict::Fail => off.min(scale) / 8.0,
            Verdict::Pass => 0.5 * bound.max(resolution * seen),
            Verdict::Inconclusive => 0.5 * resolution * seen,
        };
        // Shorter steps than those that show the resolution were taken to look for more.
        let enough = bound.max(resolution * scale);
        let looked = ladder.rungs.iter().filter(|r| r.step <= step).map(|r| r.noise);
        // The differences and the claim may be off to either side.
        let visible = bound + looked.filter(|noise| *noise <= enough).fold(bound, f64::max);
        // Of numbers that have few digits left nothing smaller is said.
        let visible = if normal(coarsest) { visible } else { visible.max(f64::MIN_POSITIVE) };
        Judged {
            numeric,
            truncation,
            round_off,
            visible,
            scale,
            error,
            verdict,
            cause,
            order,
            step,
            tolerated,
            clear,
            sight,
        }
    }
}
