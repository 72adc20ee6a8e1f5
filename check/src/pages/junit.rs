//! The form in which CI servers read results: `testsuites`, one `testsuite`, a `testcase` per case.

use super::{Pages, accepted, lines};
use crate::escape;
use crate::random::SEED;
use crate::report::{Report, Verdict};
use crate::shapes::ShapesReport;
use std::fmt::Write;

/// Lines in the text of a test that did not pass.
const LINES: usize = 20;

/// What a test case holds.
enum Inside {
    Nothing,
    Failure(&'static str, Vec<String>),
    Skipped(Vec<String>),
}

impl Inside {
    /// A verdict that is open fails a run unless kinks alone are the reason: then nothing was tested.
    fn of(report: &Report) -> Self {
        let lines = || report.failures(LINES);
        match report.verdict() {
            Verdict::Pass => Self::Nothing,
            Verdict::Fail => Self::Failure("fail", lines()),
            Verdict::Inconclusive if accepted(report) => Self::Skipped(lines()),
            Verdict::Inconclusive => Self::Failure("inconclusive", lines()),
        }
    }

    fn xml(&self) -> String {
        let (tag, kind, lines) = match self {
            Self::Nothing => return String::new(),
            Self::Failure(kind, lines) => ("failure", *kind, lines),
            Self::Skipped(lines) => ("skipped", "kinks", lines),
        };
        let first = lines.first().map_or("", String::as_str);
        let (message, text) = (escape(first), escape(&lines.join("\n")));
        format!("<{tag} type=\"{kind}\" message=\"{message}\">{text}</{tag}>")
    }
}

/// One `testcase`.
struct Tested {
    class: String,
    name: String,
    seconds: f64,
    inside: Inside,
}

impl Tested {
    fn of(report: &Report) -> Self {
        let (class, name) = report.case.split_once('/').unwrap_or((&report.case, &report.case));
        let (class, name) = (format!("gradcheck.{class}"), name.into());
        Self { class, name, seconds: report.seconds, inside: Inside::of(report) }
    }

    fn at_sizes(found: &&ShapesReport) -> Self {
        let inside = match found.report.as_ref().map_or(Inside::Nothing, Inside::of) {
            Inside::Nothing => Inside::Nothing,
            Inside::Failure(kind, _) => Inside::Failure(kind, lines(found)),
            Inside::Skipped(_) => Inside::Skipped(lines(found)),
        };
        Self { class: "gradcheck.sizes".into(), name: found.name.clone(), seconds: 0.0, inside }
    }
}

impl Pages<'_> {
    /// JUnit's XML, as Jenkins' xUnit plug-in and others read it.
    pub fn junit(&self) -> String {
        let asides = self.asides.iter().map(|aside| Tested {
            class: format!("gradcheck.{}", aside.name),
            name: aside.title.clone(),
            seconds: 0.0,
            inside: match aside.passed {
                true => Inside::Nothing,
                false => Inside::Failure("fail", aside.lines.clone()),
            },
        });
        let tests =
            self.reports.iter().map(Tested::of).chain(self.shapes.iter().map(Tested::at_sizes));
        let tests: Vec<Tested> = tests.chain(asides).collect();
        let count = |is: fn(&Inside) -> bool| tests.iter().filter(|t| is(&t.inside)).count();
        let failures = count(|inside| matches!(inside, Inside::Failure(..)));
        let skipped = count(|inside| matches!(inside, Inside::Skipped(_)));
        let time = format!("{:.3}", tests.iter().map(|t| t.seconds).sum::<f64>());
        let numbers = format!("tests=\"{}\" failures=\"{failures}\" errors=\"0\"", tests.len());
        let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
        xml += &format!("<testsuites name=\"gradcheck\" {numbers} time=\"{time}\">\n");
        xml += &format!(
            "<testsuite name=\"gradcheck\" {numbers} skipped=\"{skipped}\" time=\"{time}\">\n"
        );
        xml += &self.properties();
        for Tested { class, name, seconds, inside } in &tests {
            let (class, name, inside) = (escape(class), escape(name), inside.xml());
            writeln!(
                xml,
                "<testcase classname=\"{class}\" name=\"{name}\" time=\"{seconds:.3}\">{inside}</testcase>"
            )
            .expect("memory takes everything");
        }
        xml + "</testsuite>\n</testsuites>\n"
    }

    fn properties(&self) -> String {
        let checker = Some(env!("CARGO_PKG_VERSION").to_owned());
        let mut rows = self.origin.rows();
        rows.extend([("checker", checker), ("seed", Some(SEED.to_string()))]);
        let known = rows.into_iter().filter_map(|(name, value)| Some((name, value?)));
        let lines = known.map(|(name, value)| {
            format!("<property name=\"{name}\" value=\"{}\"/>\n", escape(&value))
        });
        format!("<properties>\n{}</properties>\n", lines.collect::<String>())
    }
}
