//! What a check found: every comparison with its bound and verdict, and what is wrong beside the numbers.

use super::certificate::{self, Certificate};
use super::curve::VCurve;
use super::exact::Projection;
use super::ladder::Ladder;
use super::taylor::Remainder;
pub use super::verdict::{Cause, Location, Verdict};
use serde::Serialize;
use std::fmt;

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
    /// The magnitude on whose scale the two are compared: the largest of both, of the terms that add up
    /// to them, and of a thousandth of the tensor's largest gradient.
    pub scale: f64,
    /// |analytic − numeric| / scale; infinite (`null` in JSON) where one is not finite.
    pub error: f64,
    /// What follows.
    pub verdict: Verdict,
    /// Why it is inconclusive.
    pub cause: Option<Cause>,
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
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tensor, place, analytic, numeric, .. } = self;
        let digits = digits(*analytic, *numeric, self.bound());
        write!(f, "{tensor}{place}: analytic {analytic:.digits$e}, numeric {numeric:.digits$e}")?;
        write!(f, " ± {:.1e}", self.bound())?;
        match self.cause {
            Some(cause) => write!(f, " ({cause})"),
            None => Ok(()),
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

/// All comparisons of one case.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Name of the case.
    pub case: String,
    /// Differentiable inputs and parameters by name.
    pub tensors: Vec<String>,
    /// Those whose gradient is zero in every element compared. That can be right (attention over
    /// one token does not depend on its scores), but proves little.
    pub all_zero: Vec<String>,
    /// One entry per comparison.
    pub comparisons: Vec<Comparison>,
    /// Comparisons with exact derivatives, of all tensors at once; empty where the case was not run on
    /// dual numbers.
    pub exact: Vec<Projection>,
    /// What the forward in double-double says of the exact derivatives, where it was run.
    pub certificate: Option<Certificate>,
    /// Whether there are no differences, because the case is too large for them: the exact derivatives
    /// stand alone.
    pub exact_alone: bool,
    /// The largest share of what rounding can do that f32 is off in an output, a gradient, or a
    /// derivative along a direction, where it was run.
    pub f32_of_bound: Option<f64>,
    /// The remainder of the first-order expansion along one direction through all tensors.
    pub taylor: Option<Remainder>,
    /// A ladder over all steps for each tensor, where [`super::variable::Settings::curves`] asks for them.
    pub curves: Vec<VCurve>,
    /// Largest probability with which the random projections miss a fault of several elements that is
    /// above their bounds ([`mod@super::gradients`]); 0 where every element was compared by itself.
    pub miss_probability: f64,
    /// Seconds that the check took.
    pub seconds: f64,
    /// What is wrong beside the numbers: a gradient that is missing, has the wrong length, is
    /// assigned instead of added, differs from run to run, ...
    pub faults: Vec<String>,
}

impl Report {
    /// A report without content.
    pub fn new(case: &str) -> Self {
        Self {
            case: case.into(),
            tensors: Vec::new(),
            all_zero: Vec::new(),
            comparisons: Vec::new(),
            exact: Vec::new(),
            certificate: None,
            exact_alone: false,
            f32_of_bound: None,
            taylor: None,
            curves: Vec::new(),
            miss_probability: 0.0,
            seconds: 0.0,
            faults: Vec::new(),
        }
    }

    /// The comparison with the largest error.
    pub fn worst(&self) -> Option<&Comparison> {
        self.comparisons.iter().max_by(|a, b| a.error.total_cmp(&b.error))
    }

    /// The largest disagreement with exact derivatives.
    pub fn worst_exact(&self) -> Option<f64> {
        self.exact.iter().map(|p| p.error).max_by(f64::total_cmp)
    }

    /// Comparisons with this verdict.
    pub fn count(&self, verdict: Verdict) -> usize {
        self.comparisons.iter().filter(|c| c.verdict == verdict).count()
    }

    /// The worst of all: of the comparisons with differences and with exact derivatives, of the
    /// remainder, and [`Verdict::Fail`] where there are faults or a tensor was not compared. A case
    /// without differentiable tensors is judged by its other properties alone.
    pub fn verdict(&self) -> Verdict {
        if !self.faults.is_empty()
            || !self.uncompared().is_empty()
            || !self.exact.iter().all(Projection::agrees)
        {
            return Verdict::Fail;
        }
        let certificate = self.certificate.iter().map(Certificate::verdict);
        let numeric = self.comparisons.iter().map(|c| c.verdict).chain(certificate);
        // A second opinion: it can object, but an unclear one is no reason to doubt the first.
        let objection = self.taylor.iter().map(|t| t.verdict).filter(|v| *v == Verdict::Fail);
        numeric.chain(objection).max().unwrap_or(Verdict::Pass)
    }

    /// Whether everything passed: nothing failed and nothing is inconclusive.
    pub fn passed(&self) -> bool {
        self.verdict() == Verdict::Pass
    }

    /// Whether the verdict is open, and because of kinks alone.
    pub fn only_kinks(&self) -> bool {
        let open = self.comparisons.iter().filter(|c| c.verdict == Verdict::Inconclusive);
        self.verdict() == Verdict::Inconclusive
            && self.certificate.iter().all(|c| c.verdict() == Verdict::Pass)
            && open.into_iter().all(|c| c.cause == Some(Cause::Kink))
    }

    fn uncompared(&self) -> Vec<&String> {
        if self.exact_alone && !self.exact.is_empty() {
            return Vec::new();
        }
        let compared = |t: &&String| self.comparisons.iter().all(|c| c.tensor != **t);
        self.tensors.iter().filter(compared).collect()
    }

    /// One line per fault and per comparison that failed or is inconclusive, at most `most`: faults
    /// first, then the failed, single elements before directions and the worst first.
    pub fn failures(&self, most: usize) -> Vec<String> {
        let mut wrong: Vec<_> =
            self.comparisons.iter().filter(|c| c.verdict != Verdict::Pass).collect();
        let rank =
            |c: &Comparison| (c.verdict == Verdict::Fail, matches!(c.place, Location::Element(_)));
        wrong.sort_by(|a, b| rank(b).cmp(&rank(a)).then(b.error.total_cmp(&a.error)));
        let lines = wrong.into_iter().map(|c| format!("{}: {c}", self.case));
        let unknown = if self.faults.is_empty() { self.uncompared() } else { Vec::new() };
        let unknown = unknown
            .into_iter()
            .map(|t| format!("{}: nothing of {t} was compared (it is empty)", self.case));
        let faults = self.faults.iter().map(|f| format!("{}: {f}", self.case));
        let exact = self.exact.iter().filter(|p| !p.agrees()).map(|p| {
            let at = p.located.as_ref().map(|at| format!("; largest at {at}")).unwrap_or_default();
            format!(
                "{}: along the {} direction off by {:.1e} of the exact derivative{at}",
                self.case, p.direction, p.error
            )
        });
        let certificate = self.certificate.iter().filter(|c| c.verdict() != Verdict::Pass);
        let certificate = certificate.map(|c| {
            format!(
                "{}: double-double differences, certain to {:.1e} (limit {:e}), are {:.1e} from the \
                 exact derivative in f64 (limit {:e})",
                self.case,
                c.uncertainty,
                certificate::LIMIT,
                c.error,
                certificate::LIMIT_F64
            )
        });
        let taylor = self.taylor.iter().filter(|t| t.verdict == Verdict::Fail);
        let taylor = taylor.map(|t| format!("{}: {t}", self.case));
        faults
            .chain(unknown)
            .chain(exact)
            .chain(certificate)
            .chain(lines)
            .chain(taylor)
            .take(most)
            .collect()
    }
}

impl fmt::Display for Report {
    /// The verdict in one line, then what is not right.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [pass, open, fail] =
            [Verdict::Pass, Verdict::Inconclusive, Verdict::Fail].map(|v| self.count(v));
        let word = match self.verdict() {
            Verdict::Pass => "pass",
            Verdict::Inconclusive => "inconclusive",
            Verdict::Fail => "fail",
        };
        let (case, tensors) = (&self.case, self.tensors.len());
        write!(f, "{case}: {word} ({pass} comparisons of {tensors} tensors pass, ")?;
        write!(f, "{fail} fail, {open} inconclusive)")?;
        self.failures(20).iter().try_for_each(|line| write!(f, "\n  {line}"))
    }
}
