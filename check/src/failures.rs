//! What did not pass, in lines.

use super::certificate;
use super::comparison::Comparison;
use super::report::Report;
use super::verdict::{Location, Verdict};

impl Report {
    /// One line for everything that failed or is inconclusive, at most `most`, the worst first: what failed,
    /// then what is open. In both, faults come first, then equations, exact derivatives, single elements,
    /// directions and the remainder, each of these with the largest error first; then tensors in which an
    /// error could hide, and at last a certificate that is missing.
    pub fn failures(&self, most: usize) -> Vec<String> {
        let failed = self.lines(Verdict::Fail);
        let open = self.lines(Verdict::Inconclusive);
        let all = failed.into_iter().chain(open).chain(self.hidden()).chain(self.uncertified());
        all.take(most).map(|line| format!("{}: {line}", self.case)).collect()
    }

    /// What has this verdict.
    fn lines(&self, verdict: Verdict) -> Vec<String> {
        let fails = verdict == Verdict::Fail;
        let faults = self.faults.iter().filter(|_| fails).cloned();
        let mut identities: Vec<_> =
            self.identities.iter().filter(|i| i.verdict == verdict).collect();
        identities.sort_by(|a, b| b.error.total_cmp(&a.error));
        let mut exact: Vec<_> = self.exact.iter().filter(|p| fails && !p.agrees()).collect();
        exact.sort_by(|a, b| b.error.total_cmp(&a.error));
        let mut compared: Vec<_> =
            self.comparisons.iter().filter(|c| c.verdict == verdict).collect();
        let alone = |c: &Comparison| matches!(c.place, Location::Element(_));
        compared.sort_by(|a, b| alone(b).cmp(&alone(a)).then(b.error.total_cmp(&a.error)));
        let taylor = self.taylor.iter().filter(|t| fails && t.verdict == verdict);
        faults
            .chain(identities.into_iter().map(ToString::to_string))
            .chain(exact.into_iter().map(ToString::to_string))
            .chain(compared.into_iter().map(ToString::to_string))
            .chain(taylor.map(ToString::to_string))
            .collect()
    }

    /// Tensors in which an error could hide; what was not compared to the end has its own line.
    fn hidden(&self) -> impl Iterator<Item = String> {
        let closed = self.comparisons.iter().all(|c| c.verdict == Verdict::Pass);
        self.unresolved().filter(move |_| closed).map(|r| {
            format!(
                "an error of {:.1e} of the largest gradient of {} could hide in one of its elements \
                 (limit {:.0e})",
                r.error, r.tensor, self.limit
            )
        })
    }

    /// A certificate that double-double could not give, and what to do.
    fn uncertified(&self) -> Option<String> {
        let certificate = self.certificate.filter(|c| c.verdict() != Verdict::Pass)?;
        Some(format!(
            "double-double differences are certain to {:.1e} alone (limit {:e}): move the point away from \
             kinks, the edge of the domain and digits that cancel, and let the forward compute in its scalar \
             throughout, without `value()`; or check it by differences alone (`gradients`)",
            certificate.uncertainty,
            certificate::LIMIT,
        ))
    }
}
