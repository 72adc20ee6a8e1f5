//! What a run of the checker leaves in a folder: every number as JSON, a JUnit file for CI, and a page with
//! a V-curve for every tensor.

use super::run::Summary;
use crate::error::{Error, Result};
use crate::report::page::{Cell, Page, Table, escape};
use crate::run::write_atomic;
use beit_check::curve::VCurve;
use beit_check::plot::standalone;
use beit_check::report::{Report, Verdict};
use std::fmt::Write;
use std::path::Path;

/// Writes `gradcheck.json`, `junit.xml`, `index.html` and the V-curves below `curves/` into a folder.
pub fn write(summary: &Summary, folder: &Path) -> Result<()> {
    let curves = folder.join("curves");
    std::fs::create_dir_all(&curves).map_err(Error::io("cannot create", &curves))?;
    summary.write_json(&folder.join("gradcheck.json"))?;
    write_atomic(&folder.join("junit.xml"), junit(summary).as_bytes())?;
    page(summary).write(&folder.join("index.html"))?;
    let safe = |name: &str| -> String {
        let letter = |c: char| if c.is_alphanumeric() || "._-".contains(c) { c } else { '.' };
        name.chars().map(letter).collect()
    };
    for report in &summary.reports {
        for (i, curve) in report.curves.iter().enumerate() {
            let svg = curve.svg();
            if !svg.is_empty() {
                let name = format!("{}.{i}.{}.svg", safe(&report.case), safe(&curve.tensor));
                write_atomic(&curves.join(name), standalone(&svg).as_bytes())?;
            }
        }
    }
    Ok(())
}

/// The page.
pub fn page(summary: &Summary) -> Page {
    let mut page = Page::new("Gradient check").with_contents().section("Result").text(&format!(
        "{} comparisons of analytic with numeric derivatives in {} cases: {} pass, {} fail, {} are \
         inconclusive.",
        summary.comparisons(),
        summary.reports.len(),
        summary.count(Verdict::Pass),
        summary.count(Verdict::Fail),
        summary.count(Verdict::Inconclusive)
    ));
    if let Some(control) = &summary.control {
        page = page.text(&control.score()).list(&control.survivors());
    }
    let failures: Vec<String> = summary.reports.iter().flat_map(|r| r.failures(20)).collect();
    if !failures.is_empty() {
        page = page.list(&failures);
    }
    page = page
        .text(
            "Error: largest |analytic − numeric|, relative to the scale of the comparison. Of bound: the \
             same as a share of what truncation and round-off of that comparison allow. Exact: largest \
             disagreement with dual numbers, relative to the sum of the magnitudes of all terms; large \
             cases have nothing else. F32 of bound: the largest share of what rounding can do that f32 is \
             off. Certain \
             to: uncertainty of the double-double difference that certifies the dual numbers. Slope: power \
             of the step with which the remainder of the first-order expansion falls, 2 where the gradient \
             is right.",
        )
        .table(table(&summary.reports))
        .section("V-curves")
        .text(
            "One chart per tensor, for the element with its largest gradient. From the right, distances \
             fall along the dashed powers of the step; from the left rises the round-off, whose bound, \
             measured for each function, is dashed, too. Where a difference is exact there is nothing to \
             draw, and the chart is left out.",
        );
    for report in &summary.reports {
        let charts: Vec<String> =
            report.curves.iter().map(VCurve::svg).filter(|svg| !svg.is_empty()).collect();
        if !charts.is_empty() {
            page = page.subsection(&report.case).charts(charts);
        }
    }
    page
}

fn table(reports: &[Report]) -> Table {
    let columns = [
        "",
        "case",
        "tensors",
        "pass",
        "fail",
        "open",
        "error",
        "of bound",
        "exact",
        "f32 of bound",
        "certain to",
        "slope",
    ];
    let some = |x: Option<f64>| x.map_or("-".into(), |x| format!("{x:.1e}"));
    reports.iter().fold(Table::new(&columns, 2), |table, r| {
        let shares = r.comparisons.iter().filter(|c| c.bound() > 0.0);
        let shares = shares.map(|c| (c.analytic - c.numeric).abs() / c.bound());
        let slope = r.taylor.as_ref().and_then(|t| t.slope);
        let count = |verdict| r.count(verdict).to_string();
        table.row(
            [
                r.verdict().word().into(),
                r.case.clone(),
                r.tensors.len().to_string(),
                count(Verdict::Pass),
                count(Verdict::Fail),
                count(Verdict::Inconclusive),
                some(r.worst().map(|c| c.error)),
                some(shares.max_by(f64::total_cmp)),
                some(r.worst_exact()),
                some(r.f32_of_bound),
                some(r.certificate.map(|c| c.uncertainty)),
                slope.map_or("-".into(), |slope| format!("{slope:.2}")),
            ]
            .map(Cell::from),
        )
    })
}

/// One test case per case and one for the negative control. An inconclusive case is skipped: it did not
/// pass.
pub fn junit(summary: &Summary) -> String {
    let mut cases = String::new();
    let mut add = |class: &str, name: &str, seconds: f64, inside: &str| {
        let (class, name) = (escape(class), escape(name));
        writeln!(
            cases,
            "  <testcase classname=\"gradcheck.{class}\" name=\"{name}\" time=\"{seconds:.3}\">\
             {inside}</testcase>"
        )
        .expect("memory takes everything");
    };
    let element = |tag: &str, lines: &[String]| {
        // XML has no place for control characters, which a panic's text may have.
        let printed = |text: &str| -> String {
            escape(text).chars().filter(|c| !c.is_control() || *c == '\n').collect()
        };
        let first = lines.first().map_or("", String::as_str);
        format!("<{tag} message=\"{}\">{}</{tag}>", printed(first), printed(&lines.join("\n")))
    };
    let (mut failed, mut skipped, mut seconds) = (0, 0, 0.0);
    for r in &summary.reports {
        let (class, name) = r.case.split_once('/').unwrap_or((&r.case, &r.case));
        let inside = match r.verdict() {
            Verdict::Pass => String::new(),
            Verdict::Inconclusive => {
                skipped += 1;
                element("skipped", &r.failures(20))
            }
            Verdict::Fail => {
                failed += 1;
                element("failure", &r.failures(20))
            }
        };
        seconds += r.seconds;
        add(class, name, r.seconds, &inside);
    }
    let mut tests = summary.reports.len();
    if let Some(control) = &summary.control {
        tests += 1;
        let mut lines = vec![control.score()];
        lines.extend(control.survivors());
        let inside = if control.passed() { String::new() } else { element("failure", &lines) };
        failed += usize::from(!control.passed());
        add("control", "planted faults are caught", 0.0, &inside);
    }
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuite name=\"beit gradcheck\" tests=\"{tests}\" \
         failures=\"{failed}\" errors=\"0\" skipped=\"{skipped}\" time=\"{seconds:.3}\">\n{cases}\
         </testsuite>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use beit_check::gradients::{Settings, Variable, check_with};

    fn summary(factor: f64) -> Summary {
        let x = Variable::new("x<1>", &[2], vec![0.5, -0.25]);
        let settings = Settings { curves: true, ..Settings::default() };
        let forward = |v: &[Vec<f64>]| v[0].iter().map(|x| x.sin()).collect();
        let backward = |v: &[Vec<f64>], dy: &[f64]| {
            vec![v[0].iter().zip(dy).map(|(x, dy)| factor * dy * x.cos()).collect()]
        };
        let report = check_with(&settings, "sin/two", &[x], &forward, &backward);
        Summary { reports: vec![report], control: None }
    }

    #[test]
    fn a_right_gradient_is_on_the_page_and_passes_in_junit() {
        let summary = summary(1.0);
        let html = page(&summary).html();
        let svg = summary.reports[0].curves[0].svg();
        assert!(html.contains("sin/two") && html.contains(&svg));
        let xml = junit(&summary);
        assert!(
            xml.contains("tests=\"1\" failures=\"0\"") && xml.contains("name=\"two\""),
            "{xml}"
        );
    }

    #[test]
    fn a_wrong_one_fails_in_junit() {
        let summary = summary(1.001);
        let xml = junit(&summary);
        assert!(xml.contains("failures=\"1\""), "{xml}");
        assert!(xml.contains("<failure message=\"sin/two: x&lt;1&gt;["), "{xml}");
    }
}
