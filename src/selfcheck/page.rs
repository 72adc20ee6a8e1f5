//! What a run of `beit gradcheck` leaves in a folder: the pages of the checker ([`mod@beit_check::pages`]), which
//! say which beit was checked on which device and whether planted faults were caught.

use super::run::Summary;
use crate::error::{Error, Result};
use crate::report::about::VERSION;
use crate::run::write_atomic;
use beit_check::pages::{Aside, Origin, Pages};
use std::path::Path;

/// Writes `gradcheck.json`, `junit.xml`, `index.html` and a page per case below `curves/` into a folder.
pub fn write(summary: &Summary, folder: &Path) -> Result<()> {
    let curves = folder.join("curves");
    std::fs::create_dir_all(&curves).map_err(Error::io("cannot create", &curves))?;
    let pages = pages(summary);
    pages.files().try_for_each(|(name, text)| write_atomic(&folder.join(name), text.as_bytes()))
}

/// Writes every comparison of every case as JSON.
pub fn write_json(summary: &Summary, path: &Path) -> Result<()> {
    write_atomic(path, pages(summary).json().as_bytes())
}

/// The pages.
pub fn pages(summary: &Summary) -> Pages<'_> {
    let (version, commit) = match VERSION.split_once(" (") {
        Some((version, commit)) => (version, Some(commit.trim_end_matches(')').to_owned())),
        None => (VERSION, None),
    };
    let pages = Pages::new(&summary.reports).origin(Origin {
        program: Some("beit".into()),
        version: Some(version.into()),
        commit,
        device: Some(summary.device.clone()),
    });
    match &summary.control {
        None => pages,
        Some(control) => pages.aside(Aside {
            name: "control".into(),
            title: "planted faults are caught".into(),
            passed: control.passed(),
            lines: std::iter::once(control.score()).chain(control.survivors()).collect(),
            data: serde_json::to_value(control).expect("plain data"),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::selfcheck::control::{Control, Fault, Mutant, Outcome};
    use beit_check::gradients::{Variable, check_with};
    use beit_check::{Settings, Shapes};
    use serde_json::Value;

    fn summary(outcome: Outcome) -> Summary {
        let x = Variable::new("x<1>", &[2], vec![0.5, -0.25]);
        let settings = Settings { curves: true, ..Settings::default() };
        let forward = |v: &[Vec<f64>]| v[0].iter().map(|x| x.sin()).collect();
        let backward = |v: &[Vec<f64>], dy: &[f64]| {
            vec![v[0].iter().zip(dy).map(|(x, dy)| dy * x.cos()).collect()]
        };
        let report = check_with(&settings, "sin/two", &[x], &forward, &backward);
        let (case, tensor) = ("gelu/odd".into(), "x".into());
        let mutants = vec![Mutant { case, tensor, fault: Fault::Sign, outcome }];
        let (device, control) = ("the CPU in f64".into(), Some(Control { mutants }));
        Summary { reports: vec![report], control, device }
    }

    #[test]
    fn the_pages_say_what_was_checked_where() {
        let summary = summary(Outcome::Caught);
        let files: Vec<(String, String)> = pages(&summary).files().collect();
        let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["gradcheck.json", "junit.xml", "curves/sin.two.html", "index.html"]);
        let svg = summary.reports[0].curves[0].svg();
        assert!(files[2].1.contains(&svg) && files[3].1.contains("curves/sin.two.html"));
        for (_, text) in [&files[1], &files[3]] {
            assert!(text.contains("the CPU in f64"), "{text}");
            assert!(text.contains(env!("CARGO_PKG_VERSION")), "{text}");
        }
        let json: Value = serde_json::from_str(&files[0].1).unwrap();
        assert_eq!((&json["passed"], &json["program"]), (&true.into(), &"beit".into()));
        let commit = json["commit"].as_str().map(|c| format!(" ({c})")).unwrap_or_default();
        assert_eq!(format!("{}{commit}", json["version"].as_str().unwrap()), VERSION);
        assert_eq!(json["asides"][0]["data"]["mutants"][0]["outcome"], "caught");
    }

    #[test]
    fn a_planted_fault_that_passes_fails_everywhere() {
        let summary = summary(Outcome::Survived);
        let pages = pages(&summary);
        assert!(!summary.passed() && !pages.passed());
        assert!(pages.junit().contains("<failure type=\"fail\" message=\"mutation score: 0 %"));
        assert!(pages.index().contains("<strong class=\"fail\">FAILED</strong>"));
    }

    /// Names in the first column of the tables of a section of `docs/gradcheck.md`.
    fn documented() -> Vec<String> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/gradcheck.md");
        let text = std::fs::read_to_string(path).unwrap();
        let section = text.split("\n## ").find(|s| s.starts_with("The data")).expect("a section");
        let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
        rows.map(|row| row.split('`').next().unwrap().to_owned()).collect()
    }

    #[test]
    fn every_field_of_the_data_is_documented() {
        let summary = summary(Outcome::Caught);
        let found = Shapes::new("sin").size("n", 1..=2).check(|_| summary.reports[0].clone());
        let json = pages(&summary).shapes(&found).json();
        let json: Value = serde_json::from_str(&json).unwrap();
        let mut fields = Vec::new();
        let mut add = |prefix: &str, value: &Value| {
            let own = value.as_object().expect(prefix).keys();
            fields.extend(own.map(|key| format!("{prefix}{key}")));
        };
        add("", &json);
        let report = &json["reports"][0];
        add("reports[].", report);
        add("shapes[].", &json["shapes"][0]);
        add("reports[].comparisons[].", &report["comparisons"][0]);
        add("reports[].curves[].", &report["curves"][0]);
        add("reports[].resolves[].", &report["resolves"][0]);
        let mut documented = documented();
        documented.sort();
        fields.sort();
        // There is one rule of a derivative here.
        documented.retain(|field| field != "reports[].identities");
        assert_eq!(fields, documented);
    }
}
