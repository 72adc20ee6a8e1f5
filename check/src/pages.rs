//! Reports written down: as JSON, as JUnit for CI, and as pages with V-curves.
//!
//! `index.html` has a row for every case, what failed first, and shows what did not pass with its curves as
//! far as there is room below 1 MB. All curves of a case, what each of its tensors resolves, and how it was
//! judged are on a page of its own below `curves/`. No file holds a date, and but for the seconds in
//! `junit.xml` two runs of the same program write the same bytes.
//!
//! ```
//! use beit_check::{Arrays, pages};
//! use ndarray::array;
//!
//! let at = Arrays::new().with("x", array![0.5, -0.25]);
//! let report = beit_check::gradients(
//!     "sine",
//!     &at,
//!     |a| a["x"].mapv(f64::sin),
//!     |a, dy| Arrays::new().with("x", dy * a["x"].mapv(f64::cos)),
//! );
//! let folder = std::env::temp_dir().join("beit-check-pages");
//! pages::write(&[report], &folder).unwrap();
//! assert!(folder.join("index.html").exists() && folder.join("junit.xml").exists());
//! assert!(folder.join("gradcheck.json").exists() && folder.join("curves/sine.html").exists());
//! ```

mod case;
mod index;
mod json;
mod junit;

use crate::curve::{VCurve, Why, worst};
use crate::report::{Report, Verdict};
use crate::shapes::ShapesReport;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeSet;
use std::io;
use std::path::Path;

/// Letters of a case in the name of its page.
const NAME: usize = 100;

/// Which program was checked, and where it ran.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Origin {
    /// Its name.
    pub program: Option<String>,
    /// Its version.
    pub version: Option<String>,
    /// The commit it was built from.
    pub commit: Option<String>,
    /// What computed the functions.
    pub device: Option<String>,
}

impl Origin {
    fn rows(&self) -> Vec<(&'static str, Option<String>)> {
        vec![
            ("program", self.program.clone()),
            ("version", self.version.clone()),
            ("commit", self.commit.clone()),
            ("device", self.device.clone()),
        ]
    }
}

/// Another check of the same run, which is no report.
#[derive(Clone, Debug, Serialize)]
pub struct Aside {
    /// One word for it.
    pub name: String,
    /// What was asked.
    pub title: String,
    /// Whether it passed.
    pub passed: bool,
    /// What came out, in lines; the first says it all.
    pub lines: Vec<String>,
    /// The same as data.
    pub data: Value,
}

/// Whether a run may go on after this report: it passed, or it is open because of kinks alone and its settings
/// do not refuse them.
pub fn accepted(report: &Report) -> bool {
    let refuses = report.settings.is_some_and(|s| s.refuse_kinks);
    report.passed() || (report.only_kinks() && !refuses)
}

/// Writes `index.html`, `gradcheck.json`, `junit.xml` and one page per case into a folder.
pub fn write(reports: &[Report], folder: &Path) -> io::Result<()> {
    Pages::new(reports).write(folder)
}

/// Reports, and what else their pages say.
pub struct Pages<'a> {
    reports: &'a [Report],
    /// Names of their pages.
    names: Vec<String>,
    origin: Origin,
    shapes: Vec<&'a ShapesReport>,
    asides: Vec<Aside>,
}

impl<'a> Pages<'a> {
    /// Pages of these reports.
    pub fn new(reports: &'a [Report]) -> Self {
        let (names, origin) = (names(reports), Origin::default());
        Self { reports, names, origin, shapes: Vec::new(), asides: Vec::new() }
    }

    /// Says which program was checked and where.
    pub fn origin(self, origin: Origin) -> Self {
        Self { origin, ..self }
    }

    /// Adds what generated sizes found, passed or not: how many combinations were tried, which values each
    /// size took, and at which it is not right. For its curves the report at the smallest sizes goes among the
    /// reports.
    ///
    /// ```
    /// use beit_check::pages::Pages;
    /// use beit_check::{Arrays, Check, Shapes};
    ///
    /// let found = Shapes::new("squares").size("n", 1..=20).check(|n| {
    ///     let at = Arrays::new().with("x", n.normal("x", n["n"]));
    ///     Check::new("squares").at(at).gradients(
    ///         |a| a["x"].mapv(|x| x * x),
    ///         |a, dy| Arrays::new().with("x", &a["x"] * dy * 2.0),
    ///     )
    /// });
    /// let json = Pages::new(&[]).shapes(&found).json();
    /// assert!(json.contains("\"shapes\":[{\"name\":\"squares\",\"cases\":"), "{json}");
    /// ```
    pub fn shapes(mut self, found: &'a ShapesReport) -> Self {
        self.shapes.push(found);
        self
    }

    /// Adds another check of the same run.
    pub fn aside(mut self, aside: Aside) -> Self {
        self.asides.push(aside);
        self
    }

    /// Whether every report is [`accepted`], those of generated sizes among them, and every other check passed.
    pub fn passed(&self) -> bool {
        let found = self.shapes.iter().filter_map(|s| s.report.as_ref());
        self.asides.iter().all(|a| a.passed) && self.reports.iter().chain(found).all(accepted)
    }

    /// The worst of all.
    pub fn verdict(&self) -> Verdict {
        let others = self.asides.iter().filter(|a| !a.passed).map(|_| Verdict::Fail);
        let found = self.shapes.iter().map(|s| s.verdict);
        let all = self.reports.iter().map(Report::verdict).chain(found).chain(others);
        all.max().unwrap_or(Verdict::Pass)
    }

    /// All files, by their paths in the folder.
    pub fn files(&self) -> impl Iterator<Item = (String, String)> {
        let cases = (0..self.reports.len()).map(|i| (self.path(i), self.case(i)));
        let json = std::iter::once_with(|| ("gradcheck.json".into(), self.json()));
        let junit = std::iter::once_with(|| ("junit.xml".into(), self.junit()));
        let index = std::iter::once_with(|| ("index.html".into(), self.index()));
        // The index at last: what it links to is there.
        json.chain(junit).chain(cases).chain(index)
    }

    /// Writes all files; each appears complete or not at all.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        let named = |path: &Path, e: io::Error| {
            io::Error::new(e.kind(), format!("cannot write {}: {e}", path.display()))
        };
        let curves = folder.join("curves");
        std::fs::create_dir_all(&curves).map_err(|e| named(&curves, e))?;
        for (name, text) in self.files() {
            let (path, part) = (folder.join(&name), folder.join(format!("{name}.part")));
            let written = std::fs::write(&part, text).and_then(|()| std::fs::rename(&part, &path));
            written.map_err(|e| named(&path, e))?;
        }
        Ok(())
    }

    /// The page of case i.
    fn path(&self, i: usize) -> String {
        format!("curves/{}.html", self.names[i])
    }
}

/// One name for each page, of letters that mean nothing to any file system or address.
fn names(reports: &[Report]) -> Vec<String> {
    let mut taken = BTreeSet::new();
    let letter = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '.' };
    reports
        .iter()
        .map(|report| {
            let plain: String = report.case.chars().take(NAME).map(letter).collect();
            let numbered = (2..).map(|n| format!("{plain}-{n}"));
            let mut names = std::iter::once(plain.clone()).chain(numbered);
            // Some file systems do not tell capitals from small letters.
            names.find(|name| taken.insert(name.to_lowercase())).expect("one is free")
        })
        .collect()
}

/// The curves of a report; where it has none of what did not pass, those of the steps taken for it.
fn curves(report: &Report) -> Vec<VCurve> {
    let mut tensors: Vec<&str> = Vec::new();
    for c in report.comparisons.iter().filter(|c| c.verdict != Verdict::Pass) {
        if !tensors.contains(&&*c.tensor) {
            tensors.push(&c.tensor);
        }
    }
    let drawn =
        |tensor: &str| report.curves.iter().any(|c| c.tensor == tensor && c.why == Why::Worst);
    let others = tensors.into_iter().filter(|tensor| !drawn(tensor));
    let others = others.filter_map(|tensor| {
        let own = report.comparisons.iter().filter(|c| c.tensor == tensor);
        worst(own).map(|c| VCurve::of(c, Why::Worst))
    });
    others.chain(report.curves.iter().cloned()).collect()
}

/// What generated sizes found, in lines; the first says it all.
fn lines(found: &ShapesReport) -> Vec<String> {
    let text = found.to_string();
    let first = text.lines().next().unwrap_or_default().to_owned();
    let failures = found.report.iter().flat_map(|report| report.failures(20));
    let tried = found.tried.iter().map(ToString::to_string);
    std::iter::once(first).chain(tried).chain(failures).collect()
}

/// Why a run does not go on after this report, or what it goes on with.
fn word(report: &Report) -> (&'static str, &'static str) {
    match report.verdict() {
        Verdict::Fail => ("fail", "FAIL"),
        Verdict::Inconclusive if accepted(report) => ("open", "kinks alone"),
        Verdict::Inconclusive => ("open", "INCONCLUSIVE"),
        Verdict::Pass => ("", "ok"),
    }
}

/// The first letters of a text.
fn clip(text: &str, letters: usize) -> String {
    match text.char_indices().nth(letters) {
        Some((end, _)) => format!("{} …", &text[..end]),
        None => text.into(),
    }
}

/// A number as tables show it.
fn number(x: Option<f64>) -> String {
    match x {
        None => "-".into(),
        Some(x) if x.is_infinite() => "∞".into(),
        Some(x) => format!("{x:.1e}"),
    }
}
