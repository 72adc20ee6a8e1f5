//! Everything as data. `docs/gradcheck.md` of beit lists the fields.

use super::{Aside, Origin, Pages, accepted};
use crate::random::SEED;
use crate::report::{Report, Verdict};
use crate::shapes::ShapesReport;
use serde::Serialize;

/// The number of the form below, raised when a field changes its meaning or goes.
const FORM: u32 = 1;

#[derive(Serialize)]
struct Whole<'a> {
    form: u32,
    #[serde(flatten)]
    origin: &'a Origin,
    checker: &'static str,
    seed: u64,
    verdict: Verdict,
    passed: bool,
    counts: Counts,
    reports: Vec<Judgement<'a>>,
    shapes: &'a [&'a ShapesReport],
    asides: &'a [Aside],
}

/// Comparisons by verdict.
#[derive(Serialize)]
struct Counts {
    pass: usize,
    fail: usize,
    inconclusive: usize,
}

#[derive(Serialize)]
struct Judgement<'a> {
    verdict: Verdict,
    passed: bool,
    notes: Vec<String>,
    failures: Vec<String>,
    #[serde(flatten)]
    report: &'a Report,
}

impl Pages<'_> {
    /// All numbers of all reports, in one line. What is not finite is `null`.
    pub fn json(&self) -> String {
        let whole = Whole {
            form: FORM,
            origin: &self.origin,
            checker: env!("CARGO_PKG_VERSION"),
            seed: SEED,
            verdict: self.verdict(),
            passed: self.passed(),
            counts: Counts {
                pass: self.count(Verdict::Pass),
                fail: self.count(Verdict::Fail),
                inconclusive: self.count(Verdict::Inconclusive),
            },
            reports: self.reports.iter().map(Judgement::of).collect(),
            shapes: &self.shapes,
            asides: &self.asides,
        };
        serde_json::to_string(&whole).expect("plain data") + "\n"
    }

    /// Comparisons of all reports with this verdict.
    pub(super) fn count(&self, verdict: Verdict) -> usize {
        self.reports.iter().map(|r| r.count(verdict)).sum()
    }
}

impl<'a> Judgement<'a> {
    fn of(report: &'a Report) -> Self {
        Self {
            verdict: report.verdict(),
            passed: accepted(report),
            notes: report.notes(),
            failures: report.failures(usize::MAX),
            report,
        }
    }
}
