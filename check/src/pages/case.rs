//! The page of one case: its tensors, all its curves, and how it was judged.

use super::{Pages, curves, number, word};
use crate::comparison::Comparison;
use crate::escape;
use crate::html::document;
use crate::report::{Report, Verdict};

/// Lines about what did not pass; the JSON has all.
const LINES: usize = 100;

impl Pages<'_> {
    /// The page of case i.
    pub(super) fn case(&self, i: usize) -> String {
        let report = &self.reports[i];
        let (kind, said) = word(report);
        let mut body = format!(
            "<p><a href=\"../index.html\">All cases</a></p>\n<p><strong class=\"{kind}\">{said}</strong></p>\n"
        );
        body += &list(&report.failures(LINES));
        body += &list(&judges(report));
        body += &tensors(report);
        let charts: Vec<String> =
            curves(report).iter().map(|c| c.svg()).filter(|svg| !svg.is_empty()).collect();
        if !charts.is_empty() {
            body += &format!(
                "<h2>V-curves</h2>\n<p>Of a tensor that did not pass the worst element and those beside it, of \
                 each the one with the largest gradient. From the right, distances fall along the dashed \
                 powers of the step; from the left rises the round-off. Where the value that was compared \
                 lies above the bound, the gradient is wrong. Where a difference is exact there is nothing to \
                 draw.</p>\n<div class=charts>{}</div>\n",
                charts.concat()
            );
        }
        document(&report.case, &body)
    }
}

fn list(lines: &[String]) -> String {
    let items: String = lines.iter().map(|line| format!("<li>{}", escape(line))).collect();
    if items.is_empty() { items } else { format!("<ul>{items}</ul>\n") }
}

/// What each judge says, and what should be known.
fn judges(report: &Report) -> Vec<String> {
    let mut lines = report.notes();
    if report.exact_alone {
        lines.push(
            "too large for differences: exact derivatives along random directions stand alone"
                .into(),
        );
    }
    if let Some(error) = report.worst_exact() {
        let directions = report.exact.len();
        lines.push(format!(
            "exact derivatives along {directions} directions: off by {error:.1e} at most"
        ));
    }
    if let Some(certificate) = report.certificate {
        let uncertainty = certificate.uncertainty;
        lines.push(format!("double-double: certain to {uncertainty:.1e}"));
    }
    if let Some(share) = report.f32_of_bound {
        lines.push(format!("f32: off by {share:.2} of what rounding can do"));
    }
    if let Some(slope) = report.taylor.as_ref().and_then(|t| t.slope) {
        lines.push(format!(
            "remainder of the first-order expansion: falls with power {slope:.2} of the step"
        ));
    }
    lines.extend(report.identities.iter().map(ToString::to_string));
    if report.miss_probability > 0.0 {
        let missed = report.miss_probability;
        lines.push(format!(
            "a fault of several elements above the bounds is missed with p ≤ {missed:.1e}"
        ));
    }
    if let Some(settings) = report.settings {
        lines.push(format!("{settings:?}"));
    }
    lines
}

/// A row per tensor.
fn tensors(report: &Report) -> String {
    let heads = [
        "",
        "tensor",
        "pass",
        "fail",
        "open",
        "error",
        "of bound",
        "resolves",
        "at kinks",
        "redrawn",
        "by tolerance",
    ];
    let class = |i: usize| if i > 1 { " class=n" } else { "" };
    let cells = |tag: &str, cells: &[String]| -> String {
        let cells = cells.iter().enumerate();
        cells.map(|(i, c)| format!("<{tag}{}>{c}</{tag}>", class(i))).collect()
    };
    let rows = report.tensors.iter().map(|tensor| {
        let own: Vec<&Comparison> =
            report.comparisons.iter().filter(|c| c.tensor == *tensor).collect();
        let worst = own.iter().map(|c| c.verdict).max();
        let (kind, said) = match worst {
            Some(Verdict::Fail) => (" class=fail", "FAIL"),
            Some(Verdict::Inconclusive) => (" class=open", "open"),
            Some(Verdict::Pass) if report.all_zero.contains(tensor) => ("", "ok, all zero"),
            Some(Verdict::Pass) => ("", "ok"),
            None => ("", "-"),
        };
        let count =
            |is: &dyn Fn(&Comparison) -> bool| own.iter().filter(|c| is(c)).count().to_string();
        let resolves = report.resolves.iter().find(|r| r.tensor == *tensor).map(|r| r.error);
        let row = [
            said.into(),
            escape(tensor),
            count(&|c| c.verdict == Verdict::Pass),
            count(&|c| c.verdict == Verdict::Fail),
            count(&|c| c.verdict == Verdict::Inconclusive),
            number(own.iter().map(|c| c.error).max_by(f64::total_cmp)),
            number(of_bound(own.iter().copied())),
            number(resolves),
            count(&|c| c.choice.is_some()),
            count(&|c| c.redrawn > 0),
            count(&|c| c.tolerated),
        ];
        format!("<tr{kind}>{}</tr>\n", cells("td", &row))
    });
    let rows: String = rows.collect();
    let heads = cells("th", &heads.map(String::from));
    format!(
        "<div class=scroll><table><thead><tr>{heads}</tr></thead>\n<tbody>{rows}</tbody></table></div>\n"
    )
}

/// The largest share of its bound that a comparison is off.
pub(super) fn of_bound<'a>(compared: impl Iterator<Item = &'a Comparison>) -> Option<f64> {
    let bounded = compared.filter(|c| c.bound() > 0.0);
    bounded.map(|c| (c.analytic - c.numeric).abs() / c.bound()).max_by(f64::total_cmp)
}
