//! The page with a row for every case.

use super::{Pages, accepted, clip, curves, lines, number, word};
use crate::escape;
use crate::html::document;
use crate::random::SEED;
use crate::report::{Report, Verdict};

/// Bytes of charts on the page; what is beyond is on the page of its case.
const CHARTS: usize = 400_000;
/// Lines about a case that did not pass.
const LINES: usize = 4;
/// Letters of each.
const LETTERS: usize = 240;
/// Cases that are shown below the table.
const SHOWN: usize = 100;
/// Layers at generated sizes ...
const LAYERS: usize = 50;
/// ... and lines about each.
const SIZES: usize = 10;
/// Names in a remark.
const NAMES: usize = 3;

/// What the columns are.
const COLUMNS: [(&str, &str); 13] = [
    ("", "FAIL; INCONCLUSIVE, which fails the run, too; kinks alone, which does not; ok"),
    ("case", "its tensors and curves"),
    ("remarks", "what is not wrong and should be known"),
    ("tensors", "differentiable inputs and parameters"),
    ("pass", "comparisons with differences that passed"),
    ("fail", "that failed"),
    ("open", "that are inconclusive"),
    ("error", "largest |analytic − numeric|, relative to the scale of its comparison"),
    ("of bound", "the same as a share of what truncation and round-off of that comparison allow"),
    (
        "resolves",
        "the smallest error that would have been seen in any element, relative to the largest gradient of its tensor",
    ),
    (
        "exact",
        "largest disagreement with exact derivatives, relative to the sum of the magnitudes of all terms",
    ),
    ("f32", "the largest share of what rounding can do that f32 is off"),
    (
        "slope",
        "power of the step with which the remainder of the first-order expansion falls, 2 where the gradient is right",
    ),
];

impl Pages<'_> {
    /// The page.
    pub fn index(&self) -> String {
        let mut order: Vec<usize> = (0..self.reports.len()).collect();
        order.sort_by_key(|&i| {
            let report = &self.reports[i];
            (accepted(report), std::cmp::Reverse(report.verdict()))
        });
        let mut body = self.result();
        body += &self.about();
        body += &self.table(&order);
        body += &self.shown(&order);
        document("Gradient check", &body)
    }

    fn result(&self) -> String {
        let (class, said) = match (self.passed(), self.verdict()) {
            (true, _) => ("", "passed"),
            (false, Verdict::Fail) => ("fail", "FAILED"),
            (false, _) => ("open", "INCONCLUSIVE"),
        };
        let comparisons: usize = self.reports.iter().map(|r| r.comparisons.len()).sum();
        let [pass, open, fail] =
            [Verdict::Pass, Verdict::Inconclusive, Verdict::Fail].map(|v| self.count(v));
        let wrong = self.reports.iter().filter(|r| !accepted(r)).count();
        let mut body = format!(
            "<p><strong class=\"{class}\">{said}</strong>: {comparisons} comparisons of analytic with numeric \
             derivatives in {} cases, {pass} pass, {fail} fail, {open} inconclusive; {wrong} cases fail the \
             run.</p>\n",
            self.reports.len()
        );
        for aside in &self.asides {
            let class = if aside.passed { "" } else { "fail" };
            body += &said_in_lines(class, &aside.title, &aside.lines);
        }
        for found in self.shapes.iter().take(LAYERS) {
            let class = match found.verdict {
                Verdict::Pass => "",
                Verdict::Inconclusive => "open",
                Verdict::Fail => "fail",
            };
            let lines: Vec<String> = lines(found).into_iter().take(SIZES).collect();
            body += &said_in_lines(class, "generated sizes", &lines);
        }
        match self.shapes.len().saturating_sub(LAYERS) {
            0 => body,
            more => body + &format!("<p>Generated sizes of {more} more are in the data.</p>\n"),
        }
    }

    /// Where it comes from and what the columns are.
    fn about(&self) -> String {
        let mut rows = self.origin.rows();
        rows.push(("seed", Some(SEED.to_string())));
        let known = rows.into_iter().filter_map(|(name, value)| Some((name, value?)));
        let known = known.map(|(name, value)| format!("{name} {}", escape(&value)));
        let known: Vec<String> = known.collect();
        let columns = COLUMNS.iter().filter(|c| !c.0.is_empty());
        let columns = columns.map(|(name, what)| format!("<li>{name}: {}", escape(what)));
        format!(
            "<p>{}. <a href=\"gradcheck.json\">All numbers</a></p>\n<details><summary>The columns</summary>\
             <ul>{}</ul></details>\n",
            known.join(", "),
            columns.collect::<String>()
        )
    }

    fn table(&self, order: &[usize]) -> String {
        let class = |i: usize| if i > 2 { " class=n" } else { "" };
        let heads = COLUMNS.iter().enumerate();
        let heads = heads.map(|(i, (name, what))| {
            format!("<th{} title=\"{}\">{name}</th>", class(i), escape(what))
        });
        let rows = order.iter().enumerate().map(|(place, &i)| {
            let report = &self.reports[i];
            let (kind, said) = word(report);
            let shown = place < SHOWN && !report.passed();
            let link = if shown { format!("#c{i}") } else { self.path(i) };
            let case = escape(&clip(&report.case, LETTERS));
            let case = format!("<a href=\"{link}\">{case}</a>");
            let remarks = escape(&clip(&remarks(report), LETTERS));
            let cells = [said.to_owned(), case, remarks].into_iter().chain(numbers(report));
            let cells = cells.enumerate().map(|(i, c)| format!("<td{}>{c}</td>", class(i)));
            let kind = if kind.is_empty() { String::new() } else { format!(" class={kind}") };
            format!("<tr{kind}>{}</tr>\n", cells.collect::<String>())
        });
        format!(
            "<div class=scroll><table><thead><tr>{}</tr></thead>\n<tbody>{}</tbody></table></div>\n",
            heads.collect::<String>(),
            rows.collect::<String>()
        )
    }

    /// What did not pass, with its curves as far as there is room.
    fn shown(&self, order: &[usize]) -> String {
        let (mut body, mut left) = (String::new(), CHARTS);
        for &i in order.iter().take(SHOWN).filter(|i| !self.reports[**i].passed()) {
            if body.is_empty() {
                body += "<h2>What did not pass</h2>\n";
            }
            let (report, (kind, said)) = (&self.reports[i], word(&self.reports[i]));
            let (name, link) = (escape(&clip(&report.case, LETTERS)), self.path(i));
            let lines = report.failures(LINES).into_iter().map(|l| clip(&l, LETTERS));
            let lines: String = lines.map(|l| format!("<li>{}", escape(&l))).collect();
            let charts = curves(report).into_iter().map(|c| c.svg());
            let charts: Vec<String> = charts
                .take_while(|svg| {
                    let room = svg.len() <= left;
                    left -= if room { svg.len() } else { 0 };
                    room
                })
                .collect();
            body += &format!(
                "<h3 id=c{i}><strong class={kind}>{said}</strong> {name}</h3><ul>{lines}</ul>\
                 <p><a href=\"{link}\">Everything about this case</a></p>\n<div class=charts>{}</div>\n",
                charts.concat()
            );
        }
        body
    }
}

/// A title with the first line beside it and the others below.
fn said_in_lines(class: &str, title: &str, lines: &[String]) -> String {
    let mut lines = lines.iter().map(|line| escape(&clip(line, LETTERS)));
    let first = lines.next().unwrap_or_default();
    let others: String = lines.take(SHOWN).map(|line| format!("<li>{line}")).collect();
    let title = escape(title);
    let list = if others.is_empty() { others } else { format!("<ul>{others}</ul>\n") };
    format!("<p><strong class=\"{class}\">{title}</strong>: {first}</p>\n{list}")
}

/// The columns from the fourth on.
fn numbers(report: &Report) -> [String; 10] {
    let count = |verdict| report.count(verdict).to_string();
    let slope = report.taylor.as_ref().and_then(|t| t.slope);
    [
        report.tensors.len().to_string(),
        count(Verdict::Pass),
        count(Verdict::Fail),
        count(Verdict::Inconclusive),
        number(report.worst().map(|c| c.error)),
        number(super::case::of_bound(report.comparisons.iter())),
        number(report.coarsest().map(|r| r.error)),
        number(report.worst_exact()),
        report.f32_of_bound.map_or("-".into(), |share| format!("{share:.2}")),
        slope.map_or("-".into(), |slope| format!("{slope:.2}")),
    ]
}

/// What is not wrong and should be known, in few words; the page of the case has the sentences.
fn remarks(report: &Report) -> String {
    let mut remarks = Vec::new();
    if report.exact_alone {
        remarks.push("exact derivatives alone".to_owned());
    }
    if let Some(names) = (!report.all_zero.is_empty()).then_some(&report.all_zero) {
        let more = match names.len().saturating_sub(NAMES) {
            0 => String::new(),
            n => format!(" and {n} more"),
        };
        remarks.push(format!("all zero: {}{more}", names[..names.len().min(NAMES)].join(", ")));
    }
    let passed = || report.comparisons.iter().filter(|c| c.verdict == Verdict::Pass);
    let counted = [
        (passed().filter(|c| c.choice.is_some()).count(), "choices at kinks"),
        (report.comparisons.iter().filter(|c| c.redrawn > 0).count(), "redrawn"),
        (report.comparisons.iter().filter(|c| c.tolerated).count(), "by tolerance"),
        (report.exact.iter().filter(|p| p.cancelled.is_some()).count(), "where digits cancel"),
    ];
    let counted = counted.iter().filter(|(n, _)| *n > 0);
    remarks.extend(counted.map(|(n, what)| format!("{n} {what}")));
    remarks.join("; ")
}
