//! What a check found: every comparison with its bound and verdict, and what is wrong beside the numbers.

use super::certificate::Certificate;
pub use super::comparison::{Choice, Comparison};
use super::curve::VCurve;
use super::exact::{self, Projection};
use super::identity::Identity;
use super::taylor::Remainder;
use super::variable::Settings;
pub use super::verdict::{Cause, Location, Verdict};
use serde::Serialize;
use std::fmt;

/// How well a tensor was looked at.
#[derive(Clone, Debug, Serialize)]
pub struct Resolved {
    /// Input or parameter.
    pub tensor: String,
    /// The smallest error that would have been seen wherever in the tensor it was, relative to its largest
    /// gradient; of a function that is smooth over the steps taken.
    pub error: f64,
}

/// All comparisons of one case.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Name of the case, as it was given to [`Check::new`](crate::Check::new) or its like. Behind it
    /// ` (jvp)` says that differences were compared with a rule for Jacobian-vector products
    /// ([`Check::forward_mode`](crate::Check::forward_mode) and what builds on it), ` (second order)` that they
    /// are those of the backward and were compared with Hessian-vector products
    /// ([`Check::twice`](crate::Check::twice), [`Check::hessian`](crate::Check::hessian),
    /// [`Check::hessian_of`](crate::Check::hessian_of)), and ` (symmetry)` that differences of the
    /// backward were compared with each other ([`Check::symmetry`](crate::Check::symmetry)). What is called
    /// analytic there is what the rule returned.
    pub case: String,
    /// With what differences were looked at; none where there are none.
    pub settings: Option<Settings>,
    /// Differentiable inputs and parameters by name.
    pub tensors: Vec<String>,
    /// Those whose gradient is zero in every element compared. That can be right (attention over
    /// one token does not depend on its scores), but proves little.
    pub all_zero: Vec<String>,
    /// One entry per comparison.
    pub comparisons: Vec<Comparison>,
    /// For each tensor whose gradient is not 0 everywhere, the smallest error of one element that would have
    /// been seen.
    pub resolves: Vec<Resolved>,
    /// For each tensor and element the smallest error that a comparison would have seen.
    #[serde(skip)]
    pub(super) seen: Vec<Vec<f64>>,
    /// Tensors of whole numbers alone.
    #[serde(skip)]
    pub(super) whole: Vec<String>,
    /// Deviation of the round-off of each gradient.
    #[serde(skip)]
    pub(super) noise: Vec<Vec<f64>>,
    /// The largest gradient of each tensor.
    #[serde(skip)]
    pub(super) largest: Vec<f64>,
    /// The largest error of one element that a pass may overlook, relative to the largest gradient.
    pub limit: f64,
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
    /// Equations between two rules of the same function ([`crate::Check::forward_and_reverse`] and others);
    /// empty where there is one rule.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub identities: Vec<Identity>,
    /// Ladders over all steps, at least one for each tensor, where [`Settings::curves`] asks for them.
    pub curves: Vec<VCurve>,
    /// Largest probability with which the random projections miss a fault of several elements that is
    /// above their bounds ([`mod@super::gradients`]); 0 where every element was compared by itself.
    pub miss_probability: f64,
    /// Seconds that the check took; not serialized, since all else is the same in every run.
    #[serde(skip)]
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
            settings: None,
            tensors: Vec::new(),
            all_zero: Vec::new(),
            comparisons: Vec::new(),
            resolves: Vec::new(),
            seen: Vec::new(),
            whole: Vec::new(),
            noise: Vec::new(),
            largest: Vec::new(),
            limit: f64::INFINITY,
            exact: Vec::new(),
            certificate: None,
            exact_alone: false,
            f32_of_bound: None,
            taylor: None,
            identities: Vec::new(),
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

    /// States what would have been seen.
    pub(super) fn resolve(&mut self) {
        let all = self.tensors.iter().zip(&self.seen).zip(&self.largest);
        self.resolves = all
            .filter(|((tensor, seen), largest)| {
                !seen.is_empty() && **largest > 0.0 && !self.all_zero.contains(tensor)
            })
            .map(|((tensor, seen), largest)| Resolved {
                tensor: tensor.clone(),
                error: seen.iter().fold(0.0, |m: f64, s| m.max(*s)) / largest,
            })
            .collect();
    }

    /// Deviation of the round-off of each gradient, tensor by tensor.
    pub fn noise(&self) -> &[Vec<f64>] {
        &self.noise
    }

    /// The smallest error of element i of tensor t, both counted from 0, that would have been seen: in the
    /// units of the gradient; infinite where nothing was compared to the end.
    pub fn visible(&self, t: usize, i: usize) -> f64 {
        let seen = self.seen.get(t).and_then(|seen| seen.get(i));
        seen.copied().unwrap_or(f64::INFINITY)
    }

    /// The tensor in which the largest error could hide.
    pub fn coarsest(&self) -> Option<&Resolved> {
        self.resolves.iter().max_by(|a, b| a.error.total_cmp(&b.error))
    }

    /// Tensors in which an error could hide that is too large for a pass.
    pub(super) fn unresolved(&self) -> impl Iterator<Item = &Resolved> {
        self.resolves.iter().filter(|r| r.error.is_nan() || r.error > self.limit)
    }

    /// The worst of all: of the comparisons with differences and with exact derivatives, of the
    /// remainder, and [`Verdict::Fail`] where there are faults. Where too large an error could hide, it is
    /// inconclusive. A case without differentiable tensors is judged by its other properties alone.
    pub fn verdict(&self) -> Verdict {
        if !self.faults.is_empty() || !self.exact.iter().all(Projection::agrees) {
            return Verdict::Fail;
        }
        let hidden = self.unresolved().map(|_| Verdict::Inconclusive);
        let certificate = self.certificate.iter().map(Certificate::verdict);
        let numeric = self.comparisons.iter().map(|c| c.verdict).chain(certificate);
        // A second opinion: it can object, but an unclear one is no reason to doubt the first.
        let objection = self.taylor.iter().map(|t| t.verdict).filter(|v| *v == Verdict::Fail);
        let identities = self.identities.iter().map(|i| i.verdict);
        let others = objection.chain(hidden).chain(identities);
        numeric.chain(others).max().unwrap_or(Verdict::Pass)
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
            && self.unresolved().next().is_none()
            && open.into_iter().all(|c| c.cause == Some(Cause::Kink))
    }

    /// Whether a tensor of whole numbers looks like ids: its gradients are 0, and the function jumps at it.
    fn ids(&self, tensor: &str) -> bool {
        let own = || self.comparisons.iter().filter(|c| c.tensor == tensor);
        let jumps = |c: &Comparison| {
            let beside = c.redrawn > 0 && c.choice.is_none();
            c.verdict != Verdict::Pass || beside || c.choice.is_some_and(|choice| choice.jump)
        };
        own().all(|c| c.analytic == 0.0) && own().any(jumps)
    }

    /// What is not wrong and should be known: gradients that are zero, tensors without elements or of ids,
    /// choices at kinks, points that were drawn anew, tolerances that decided, digits that the forward cancels.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if !self.all_zero.is_empty() {
            notes.push(format!(
                "the gradient is zero in every element of {}",
                self.all_zero.join(", ")
            ));
        }
        let compared = |t: &&String| self.comparisons.iter().any(|c| c.tensor == **t);
        if self.faults.is_empty() && !self.exact_alone {
            let empty: Vec<&str> =
                self.tensors.iter().filter(|t| !compared(t)).map(String::as_str).collect();
            if !empty.is_empty() {
                notes.push(format!(
                    "nothing was compared of {}, which has no elements",
                    empty.join(", ")
                ));
            }
        }
        for tensor in self.whole.iter().filter(|tensor| self.ids(tensor)) {
            notes.push(format!(
                "{tensor} has whole numbers, gradients of 0, and the function jumps there: ids, a mask and \
                 targets belong into the closures, not among the arrays"
            ));
        }
        let mut choices = self.comparisons.iter().filter(|c| c.verdict == Verdict::Pass);
        let chosen: Vec<String> = choices
            .by_ref()
            .filter_map(|c| Some(format!("{}{} {}", c.tensor, c.place, c.choice?)))
            .collect();
        if let Some(first) = chosen.first() {
            let others = match chosen.len() {
                1 => String::new(),
                n => format!("; so are {} more", n - 1),
            };
            notes.push(format!("{first}{others}"));
        }
        let redrawn = self.comparisons.iter().filter(|c| c.redrawn > 0).count();
        if redrawn > 0 {
            notes.push(format!(
                "{redrawn} redrawn: compared beside the given point, which has a kink or a jump"
            ));
        }
        let tolerated: Vec<String> = (self.comparisons.iter().filter(|c| c.tolerated))
            .map(|c| format!("{c}, passes by a tolerance"))
            .collect();
        notes.extend(tolerated);
        let lost = self.exact.iter().filter_map(|p| p.cancelled).fold(0.0, f64::max);
        if lost > exact::LIMIT {
            notes.push(format!(
                "the forward cancels digits: exact derivatives in f64 are off by {lost:.1e}, \
                 double-double was asked"
            ));
        }
        notes
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
        if let Some(coarsest) = self.coarsest().filter(|c| c.error.is_finite()) {
            let (error, tensor) = (coarsest.error, &coarsest.tensor);
            write!(f, "; resolves {error:.0e} of the largest element of {tensor}")?;
        }
        self.notes().iter().try_for_each(|line| write!(f, "\n  {line}"))?;
        let failures = self.failures(usize::MAX);
        failures.iter().take(20).try_for_each(|line| write!(f, "\n  {line}"))?;
        match failures.len().saturating_sub(20) {
            0 => Ok(()),
            more => write!(f, "\n  ... and {more} more"),
        }
    }
}
