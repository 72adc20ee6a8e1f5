//! What is written of reports: the page, the data, and what CI reads.

#[path = "pages/schema.rs"]
mod schema;

use beit_check::gradients::{Variable, check_with};
use beit_check::pages::{Aside, Origin, Pages};
use beit_check::{Arrays, Cause, Check, Report, Settings, Shapes, Verdict};
use serde_json::Value;
use std::collections::BTreeMap;

/// The sine of nine numbers, of which backward gets one wrong by a factor.
fn sine(case: &str, factor: f64, settings: Settings) -> Report {
    let values = (0..9).map(|i| 0.25 * f64::from(i) - 0.8).collect();
    let x = Variable::new("weight<T>", &[3, 3], values);
    let forward = |v: &[Vec<f64>]| v[0].iter().map(|x| x.sin()).collect();
    let backward = |v: &[Vec<f64>], dy: &[f64]| {
        let mut dx: Vec<f64> = v[0].iter().zip(dy).map(|(x, dy)| dy * x.cos()).collect();
        dx[4] *= factor;
        vec![dx]
    };
    check_with(&settings, case, &[x], &forward, &backward)
}

fn drawn() -> Settings {
    Settings { curves: true, ..Settings::default() }
}

/// One that is open for this cause.
fn open(case: &str, cause: Cause) -> Report {
    let mut report = sine(case, 1.0, drawn());
    let first = &mut report.comparisons[0];
    (first.verdict, first.cause) = (Verdict::Inconclusive, Some(cause));
    report
}

fn mixed() -> Vec<Report> {
    let mut panicked = Report::new("op/panics");
    panicked.faults.push("panicked: \u{1b}[31m<&>\u{fffe}\"\u{0}".into());
    vec![
        sine("op/right", 1.0, drawn()),
        open("op/kinks", Cause::Kink),
        sine("op/wrong", 1.001, drawn()),
        open("layer/rough", Cause::RoundOff),
        panicked,
    ]
}

fn control(passed: bool) -> Aside {
    let lines = vec!["1 of 2 planted faults caught".into(), "a sign passed".into()];
    let (name, title) = ("control".into(), "planted faults are caught".into());
    Aside { name, title, passed, lines, data: serde_json::json!({"caught": 1}) }
}

fn origin() -> Origin {
    let [program, version, commit, device] =
        ["tool", "1.2.3", "0123abc", "a <device>"].map(|text| Some(text.to_owned()));
    Origin { program, version, commit, device }
}

fn files(pages: &Pages) -> BTreeMap<String, String> {
    pages.files().collect()
}

#[test]
fn what_fails_stands_first_and_out() {
    let reports = mixed();
    let html = Pages::new(&reports).index();
    let rows: Vec<&str> = html.split("<tr").skip(2).collect();
    fn between<'a>(text: &'a str, from: &str, to: &str) -> &'a str {
        text.split_once(from).unwrap().1.split_once(to).unwrap().0
    }
    let cases: Vec<(&str, &str)> = rows
        .iter()
        .map(|row| {
            let (_, link) = row.split_once("<a href=\"").unwrap();
            (between(row, "<td>", "</td>"), between(link, "\">", "</a>"))
        })
        .collect();
    assert_eq!(
        cases,
        [
            ("FAIL", "op/wrong"),
            ("FAIL", "op/panics"),
            ("INCONCLUSIVE", "layer/rough"),
            ("kinks alone", "op/kinks"),
            ("ok", "op/right"),
        ]
    );
    let kinds: Vec<bool> = rows.iter().map(|row| row.starts_with(" class=fail")).collect();
    assert_eq!(kinds, [true, true, false, false, false]);
    // By weight and a bar besides the colour, which has a dark form.
    assert!(html.contains(".fail td:first-child{color:var(--bad);border-left:.4rem solid"));
    assert!(html.contains("font-weight:800"));
    assert_eq!(html.matches("--bad-back:#").count(), 2, "light and dark");
    assert!(html.contains("<strong class=\"fail\">FAILED</strong>"));
    assert!(!html.contains("http") && !html.contains("<script"));
}

#[test]
fn every_link_leads_somewhere() {
    let mut reports = mixed();
    // Names that meet on some file system, and such as none takes.
    reports.extend(["OP/right", "op right", "..", "", "ä/ö"].map(|case| sine(case, 1.0, drawn())));
    let files = files(&Pages::new(&reports));
    assert_eq!(files.len(), reports.len() + 3);
    for (name, html) in files.iter().filter(|(name, _)| name.ends_with(".html")) {
        for link in html.split("href=\"").skip(1).map(|rest| rest.split('"').next().unwrap()) {
            let found = match link.strip_prefix('#') {
                Some(id) => html.contains(&format!("id={id}>")),
                None => files.contains_key(link.trim_start_matches("../")),
            };
            assert!(found, "{name}: {link}");
        }
    }
    for (i, report) in reports.iter().enumerate().filter(|(_, r)| !r.curves.is_empty()) {
        let svg = report.curves[0].svg();
        let on_page = files.iter().filter(|(name, _)| name.starts_with("curves/"));
        assert!(
            on_page.filter(|(_, html)| html.contains(&svg)).count() > 0,
            "{i}: {}",
            report.case
        );
    }
    let index = &files["index.html"];
    assert!(index.contains("FAIL: weight&lt;T&gt;[1,1]") && index.contains("[1,0] (beside it)"));
    assert!(!index.contains("ok: weight&lt;T&gt;[0,0] (largest)"), "curves on demand");
}

#[test]
fn the_page_is_below_a_megabyte() {
    let long = "a_rather_long_name_of_an_op_and_its_shapes/";
    for (factor, svgs) in [(1.0, 0..1), (1.001, 20..1200)] {
        let report = sine("x", factor, drawn());
        let mut reports = vec![report; 300];
        for (i, report) in reports.iter_mut().enumerate() {
            report.case = format!("{long}{i}");
        }
        let html = Pages::new(&reports).origin(origin()).aside(control(false)).index();
        assert!(html.len() < 1_000_000, "{} bytes", html.len());
        let drawn = html.matches("<svg").count();
        assert!(svgs.contains(&drawn), "{drawn}");
        assert_eq!(html.matches("<tr").count(), 301);
    }
}

#[test]
fn long_faults_have_no_room_on_the_page() {
    let mut report = Report::new(&"n".repeat(10_000));
    report.faults = vec!["<".repeat(10_000); 8];
    let reports = vec![report; 300];
    let html = Pages::new(&reports).index();
    assert!(html.len() < 1_500_000, "{} bytes", html.len());
}

#[test]
fn what_should_be_known_is_on_the_pages() {
    let kink = |case: &str| {
        let x = Variable::new("x", &[2], vec![0.0, 1.0]);
        let forward = |v: &[Vec<f64>]| v[0].iter().map(|x| x.abs()).collect();
        let backward = |v: &[Vec<f64>], dy: &[f64]| {
            let sign = |x: f64| if x == 0.0 { 0.0 } else { x.signum() };
            vec![v[0].iter().zip(dy).map(|(x, dy)| dy * sign(*x)).collect()]
        };
        check_with(&drawn(), case, &[x], &forward, &backward)
    };
    let zero = check_with(
        &drawn(),
        "floor",
        &[Variable::new("x", &[2], vec![0.5, 1.5])],
        &|v| v[0].iter().map(|x| x.floor()).collect(),
        &|v, _| vec![vec![0.0; v[0].len()]],
    );
    let tolerant = sine("near", 1.001, Settings { rtol: 0.01, ..drawn() });
    let mut alone = Report::new("large");
    (alone.exact_alone, alone.f32_of_bound) = (true, Some(0.25));
    let reports = [kink("abs"), zero, tolerant, alone];
    let files = files(&Pages::new(&reports));
    let index = &files["index.html"];
    for remark in [
        "1 choices at kinks",
        "1 redrawn",
        "all zero: x",
        "1 by tolerance",
        "exact derivatives alone",
    ] {
        assert!(index.contains(remark), "{remark}: {index}");
    }
    let resolves = format!("<td class=n>{:.1e}</td>", reports[0].resolves[0].error);
    assert!(index.contains(&resolves) && files["curves/abs.html"].contains(&resolves));
    assert!(index.contains("<td class=n>0.25</td>"));
    for report in &reports {
        let page = &files[&format!("curves/{}.html", report.case)];
        for note in report.notes() {
            assert!(page.contains(&beit_check::escape(&note)), "{note}: {page}");
        }
    }
}

#[test]
fn the_data_reads_back() {
    let (first, second) = (mixed(), mixed());
    let json = Pages::new(&first).origin(origin()).aside(control(true)).json();
    let again = Pages::new(&second).origin(origin()).aside(control(true)).json();
    assert_eq!(json, again, "nothing in it depends on the time");
    let read: Value = serde_json::from_str(&json).unwrap();
    for (key, want) in
        [("program", "tool"), ("version", "1.2.3"), ("commit", "0123abc"), ("device", "a <device>")]
    {
        assert_eq!(read[key], want);
    }
    assert_eq!((&read["verdict"], &read["passed"]), (&"fail".into(), &false.into()));
    assert!(read["seed"].is_u64() && read["checker"].is_string() && read["form"] == 1);
    assert_eq!(read["asides"][0]["data"]["caught"], 1);
    let verdicts: Vec<(String, bool)> = read["reports"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| (r["verdict"].as_str().unwrap().into(), r["passed"].as_bool().unwrap()))
        .collect();
    let want = [
        ("pass", true),
        ("inconclusive", true),
        ("fail", false),
        ("inconclusive", false),
        ("fail", false),
    ];
    assert_eq!(verdicts, want.map(|(v, passed)| (v.to_owned(), passed)));
    for (read, report) in read["reports"].as_array().unwrap().iter().zip(&first) {
        assert_eq!(read["case"], *report.case);
        for (read, c) in read["comparisons"].as_array().unwrap().iter().zip(&report.comparisons) {
            assert_eq!(read["analytic"].as_f64().unwrap().to_bits(), c.analytic.to_bits());
            assert_eq!(read["place"], c.place.to_string().trim_start());
        }
    }
    assert_eq!(read["reports"][0]["settings"]["resolution"], 1e-6);
    let counts = |of: &str| read["counts"][of].as_u64().unwrap() as usize;
    let all: usize = first.iter().map(|r| r.comparisons.len()).sum();
    assert_eq!(counts("pass") + counts("fail") + counts("inconclusive"), all);
}

#[test]
fn ci_reads_the_result() {
    let reports = mixed();
    for passed in [true, false] {
        let xml = Pages::new(&reports).origin(origin()).aside(control(passed)).junit();
        assert_eq!(schema::broken(&xml), None, "{xml}");
        let document = roxmltree::Document::parse(&xml).unwrap();
        let all = |tag: &str| document.descendants().filter(|n| n.has_tag_name(tag)).count();
        let failures = if passed { 3 } else { 4 };
        assert_eq!((all("testcase"), all("failure"), all("skipped")), (6, failures, 1));
        for suite in ["testsuites", "testsuite"] {
            let suite = document.descendants().find(|n| n.has_tag_name(suite)).unwrap();
            assert_eq!(suite.attribute("tests"), Some("6"));
            assert_eq!(suite.attribute("failures"), Some(&*failures.to_string()));
        }
        let rough = document.descendants().find(|n| n.attribute("name") == Some("rough")).unwrap();
        let inside = rough.first_element_child().unwrap();
        assert!(inside.has_tag_name("failure") && inside.attribute("type") == Some("inconclusive"));
        let kinks = document.descendants().find(|n| n.attribute("name") == Some("kinks")).unwrap();
        assert!(kinks.first_element_child().unwrap().has_tag_name("skipped"));
        assert!(xml.contains("<property name=\"commit\" value=\"0123abc\"/>"));
    }
}

/// A layer at generated sizes is on the page, in the data and in what CI reads, whether it passed or not.
#[test]
fn generated_sizes_are_on_the_pages() {
    for (factor, passed) in [(1.0, true), (1.01, false)] {
        let found = Shapes::new("rows<T>").size("rows", 1..=9).size("cols", 2..=6).check(|n| {
            let at = Arrays::new().with("x", n.normal("x", (n["rows"], n["cols"])));
            let factor = if n["rows"] > 2 { factor } else { 1.0 };
            Check::new("rows").at(at).gradients(
                |a| a["x"].mapv(|x| x * x),
                |a, dy| Arrays::new().with("x", &a["x"] * dy * 2.0 * factor),
            )
        });
        assert_eq!(found.passed(), passed, "{found}");
        let reports = [sine("op/right", 1.0, drawn())];
        let pages = Pages::new(&reports).shapes(&found);
        assert_eq!(pages.passed(), passed);
        assert_eq!(pages.verdict(), found.verdict);
        let read: Value = serde_json::from_str(&pages.json()).unwrap();
        let data = &read["shapes"][0];
        assert_eq!((&read["passed"], &data["cases"]), (&passed.into(), &found.cases.into()));
        assert_eq!(data["tried"][0]["size"], "rows");
        let (html, xml) = (pages.index(), pages.junit());
        assert_eq!(schema::broken(&xml), None, "{xml}");
        assert!(xml.contains("classname=\"gradcheck.sizes\" name=\"rows&lt;T&gt;\""), "{xml}");
        assert_eq!(xml.contains("<failure type=\"fail\""), !passed);
        if passed {
            let values = serde_json::json!([1, 2, 3, 4, 5, 7, 8, 9]);
            assert_eq!(data["tried"][0]["values"], values);
            let all = format!("rows&lt;T&gt;: pass ({} combinations of sizes", found.cases);
            assert!(html.contains(&all), "{html}");
            let kinds = "rows: 8 sizes, 4 of them primes, 4 powers of two, 4 beside one: 1, 2, 3,";
            assert!(html.contains(kinds), "{html}");
        } else {
            assert_eq!(data["smallest"].as_array().unwrap().len(), 2);
            assert!(html.contains("smallest at rows = 3, cols = 2"), "{html}");
        }
    }
}

#[test]
fn a_refused_kink_fails_the_run() {
    let mut report = open("op/kinks", Cause::Kink);
    report.settings = Some(Settings { refuse_kinks: true, ..drawn() });
    let reports = [report];
    let pages = Pages::new(&reports);
    assert!(!pages.passed() && pages.junit().contains("<failure type=\"inconclusive\""));
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let file = std::env::temp_dir().join(format!("beit-check-no-folder-{}", std::process::id()));
    std::fs::write(&file, "").unwrap();
    let error = beit_check::pages::write(&[], &file).unwrap_err().to_string();
    std::fs::remove_file(&file).unwrap();
    assert!(error.contains("beit-check-no-folder"), "{error}");
}
