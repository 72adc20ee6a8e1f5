//! The words of a result: passed or not, why it is open, and where it was seen.

use serde::{Serialize, Serializer};
use std::fmt;

/// Outcome of a comparison, a case, a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Analytic and numeric derivative agree within a bound that is small enough to mean something.
    Pass,
    /// Nothing can be said, for a [`Cause`].
    Inconclusive,
    /// They differ by more than both errors together.
    Fail,
}

impl Verdict {
    /// `ok`, `?`, `FAIL`
    pub fn word(self) -> &'static str {
        match self {
            Self::Pass => "ok",
            Self::Inconclusive => "?",
            Self::Fail => "FAIL",
        }
    }
}

/// Why a comparison is inconclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The function has a kink within the smallest step that means anything.
    Kink,
    /// The function jumps there, or its slope has no bound: there is no derivative to compare with.
    Jump,
    /// Round-off of function or gradient is above the difference that should be seen.
    RoundOff,
    /// The function is not finite beside the point.
    DomainEdge,
    /// The steps that were allowed are too long: their truncation error is above what should be seen.
    Steps,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kink => "a kink inside the step",
            Self::Jump => {
                "a jump or an infinite slope at the point, which has no derivative; move the point"
            }
            Self::RoundOff => "the round-off floor is above the difference",
            Self::DomainEdge => "the edge of the domain is inside the step",
            Self::Steps => "the steps are too long",
        })
    }
}

/// What was compared.
#[derive(Clone, Debug, PartialEq)]
pub enum Location {
    /// One element, by its index along each axis.
    Element(Vec<usize>),
    /// Many elements of the tensor at once, along seeded random direction number n.
    Direction(usize),
    /// All elements of all tensors at once, along a seeded random direction.
    All,
    /// An element at a kink and so many others with it.
    Tied(Vec<usize>, usize),
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Element(index) => {
                let index: Vec<String> = index.iter().map(usize::to_string).collect();
                write!(f, "[{}]", index.join(","))
            }
            Self::Direction(n) => write!(f, " along direction {n}"),
            Self::All => f.write_str(" and all other elements along a random direction"),
            Self::Tied(index, others) => {
                write!(f, "{} together with {others} more at kinks", Self::Element(index.clone()))
            }
        }
    }
}

impl Serialize for Location {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(&self.to_string().trim_start())
    }
}
