//! One comparison of a claim with differences.

use super::ladder::Ladder;
use super::verdict::{Cause, Location, Verdict};
use serde::Serialize;
use std::fmt;

/// The derivatives that one may claim at a kink or a jump.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Choice {
    /// From this ...
    pub least: f64,
    /// ... to this.
    pub most: f64,
    /// What backward returned.
    pub yours: f64,
    /// Over how long a step both sides were seen.
    pub step: f64,
    /// Whether the function jumps, and these are the slopes of its pieces.
    pub jump: bool,
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { least, most, yours, .. } = self;
        if self.jump {
            return write!(
                f,
                "at a jump: the slopes beside it are in [{least:.6}, {most:.6}] (times the upstream gradient), yours \
                 is {yours:.6}"
            );
        }
        write!(
            f,
            "at a kink: any of [{least:.6}, {most:.6}] is a subgradient (times the upstream gradient), yours is {yours:.6}"
        )
    }
}

/// One comparison of an analytic with a numeric derivative.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// Input or parameter.
    pub tensor: String,
    /// Where in it.
    pub place: Location,
    /// What backward returned.
    pub analytic: f64,
    /// What the differences say.
    pub numeric: f64,
    /// How far the differences may be off: their truncation error ...
    pub truncation: f64,
    /// ... and the round-off of function and gradient.
    pub round_off: f64,
    /// The largest error that passes even of a term whose kink is nearer than the steps of the value are long,
    /// but not than the shortest that was looked at for it: the round-off over that, or the bound.
    pub visible: f64,
    /// The magnitude on whose scale the two are compared: the largest of both, of the terms that add up
    /// to them, and of a thousandth of the tensor's largest gradient.
    pub scale: f64,
    /// |analytic − numeric| / scale; infinite (`null` in JSON) where one is not finite.
    pub error: f64,
    /// What follows.
    pub verdict: Verdict,
    /// Why it is inconclusive.
    pub cause: Option<Cause>,
    /// What a kink at the point leaves open, where there is one.
    pub choice: Option<Choice>,
    /// Whether [`Settings::atol`](super::variable::Settings::atol) and `rtol` decided.
    pub tolerated: bool,
    /// How often the point was drawn anew because of a kink.
    pub redrawn: usize,
    /// Order of the value that was taken.
    pub order: usize,
    /// The smallest step in it; the function has no kink this near.
    pub step: f64,
    /// All differences.
    pub ladder: Ladder,
}

impl Comparison {
    /// The largest |analytic − numeric| that passes.
    pub fn bound(&self) -> f64 {
        self.truncation + self.round_off
    }

    /// Whether both are farther apart than the bound.
    pub(super) fn disagrees(&self) -> bool {
        (self.analytic - self.numeric).abs() > self.bound()
    }

    /// Whether backward says 0, up to round-off.
    pub fn is_zero(&self) -> bool {
        self.analytic.abs() <= self.round_off && self.numeric.abs() <= self.bound()
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tensor, place, analytic, numeric, .. } = self;
        let digits = digits(*analytic, *numeric, self.bound());
        write!(f, "{tensor}{place}: analytic {analytic:.digits$e}, numeric {numeric:.digits$e}")?;
        write!(f, " ± {:.1e}", self.bound())?;
        match (self.cause, self.choice) {
            (Some(cause), _) => write!(f, " ({cause})"),
            (None, Some(Choice { least, most, .. })) if self.verdict == Verdict::Fail => {
                write!(
                    f,
                    " (at a kink: outside of [{least:.6e}, {most:.6e}], the slopes on its sides; return one \
                     between them, or move the point off the kink)"
                )
            }
            _ => Ok(()),
        }
    }
}

/// Digits behind the point that show a difference between two numbers, at least 6.
fn digits(a: f64, b: f64, bound: f64) -> usize {
    let size = a.abs().max(b.abs());
    let apart = (a - b).abs().max(bound);
    if !(size > 0.0 && apart > 0.0 && size.is_finite() && apart.is_finite()) {
        return 6;
    }
    ((size / apart).log10().ceil() + 1.0).clamp(6.0, 16.0) as usize
}
