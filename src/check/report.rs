//! What a check found: every comparison, and what is wrong beside the numbers.

use super::exact::Projection;
use serde::{Serialize, Serializer};
use std::fmt;

/// Largest relative error that passes.
pub const LIMIT: f64 = 1e-6;

/// What was compared.
#[derive(Clone, Debug, PartialEq)]
pub enum Place {
    /// One element, by its index along each axis.
    Element(Vec<usize>),
    /// All elements of the tensor at once, along seeded random direction number n.
    Direction(usize),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Element(index) => write!(f, "{index:?}"),
            Self::Direction(n) => write!(f, "along direction {n}"),
        }
    }
}

impl Serialize for Place {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

/// One comparison.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// Input or parameter.
    pub tensor: String,
    /// Where in it.
    pub place: Place,
    /// What backward returned.
    pub analytic: f64,
    /// What the differences say.
    pub numeric: f64,
    /// The smallest magnitude on whose scale the two are compared (see [`super::gradients`]).
    pub floor: f64,
    /// |a − n| / max(|a|, |n|, floor); infinite (`null` in JSON) where one is not finite.
    pub error: f64,
}

impl Comparison {
    /// Compares two numbers.
    pub fn new(tensor: &str, place: Place, analytic: f64, numeric: f64, floor: f64) -> Self {
        let error = if analytic.is_finite() && numeric.is_finite() {
            (analytic - numeric).abs() / analytic.abs().max(numeric.abs()).max(floor)
        } else {
            f64::INFINITY
        };
        // 0 against 0 above a floor of 0: nothing moved and nothing was claimed.
        let error = if analytic == 0.0 && numeric == 0.0 { 0.0 } else { error };
        Self { tensor: tensor.into(), place, analytic, numeric, floor, error }
    }

    /// Whether the two agree within [`LIMIT`].
    pub fn agrees(&self) -> bool {
        self.error <= LIMIT
    }
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

    /// Whether every tensor was compared, everything agrees and nothing else is wrong. A case
    /// without differentiable tensors passes on its other properties alone.
    pub fn passed(&self) -> bool {
        self.faults.is_empty()
            && self.tensors.iter().all(|t| self.comparisons.iter().any(|c| c.tensor == *t))
            && self.comparisons.iter().all(Comparison::agrees)
            && self.exact.iter().all(Projection::agrees)
    }

    /// One line per fault and failed comparison, at most `most`, the worst first.
    pub fn failures(&self, most: usize) -> Vec<String> {
        let mut wrong: Vec<_> = self.comparisons.iter().filter(|c| !c.agrees()).collect();
        wrong.sort_by(|a, b| b.error.total_cmp(&a.error));
        let lines = wrong.into_iter().map(|c| {
            format!(
                "{}: {} {}: analytic {:.9e}, numeric {:.9e}, relative error {:.1e}",
                self.case, c.tensor, c.place, c.analytic, c.numeric, c.error
            )
        });
        let uncompared = self
            .tensors
            .iter()
            .filter(|t| self.faults.is_empty() && self.comparisons.iter().all(|c| c.tensor != **t))
            .map(|t| format!("{}: nothing of {t} was compared (it is empty)", self.case));
        let faults = self.faults.iter().map(|f| format!("{}: {f}", self.case));
        let exact = self.exact.iter().filter(|p| !p.agrees()).map(|p| {
            let at = p.located.as_ref().map(|at| format!("; largest at {at}")).unwrap_or_default();
            format!(
                "{}: along the {} direction off by {:.1e} of the exact derivative{at}",
                self.case, p.direction, p.error
            )
        });
        faults.chain(uncompared).chain(exact).chain(lines).take(most).collect()
    }
}
