//! `beit bench report`: what its files hold, what is struck out, what it refuses, and when it fails. No
//! time decides a test.

use beit::bench::report::ChangeVerdict;
use beit::bench::report::against::changes;
use beit::bench::report::{BenchReport, page};
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::OnceLock;
use tempfile::TempDir;

fn beit(folder: &Path, line: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_beit"))
        .args(line.split_whitespace())
        .current_dir(folder)
        .output()
        .unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A folder whose `r` holds a report of the smallest size, made once.
fn folder() -> &'static Path {
    static MADE: OnceLock<TempDir> = OnceLock::new();
    let made = MADE.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let done = beit(folder.path(), "bench report --out r --quick --device cpu");
        assert!(done.status.success(), "{}", stderr(&done));
        folder
    });
    made.path()
}

fn text(name: &str) -> String {
    std::fs::read_to_string(folder().join("r").join(name)).unwrap()
}

fn value() -> Value {
    serde_json::from_str(&text("report.json")).unwrap()
}

fn report() -> BenchReport {
    serde_json::from_value(value()).unwrap()
}

/// Every object with a median below `value`.
fn timings(value: &Value) -> Vec<&Value> {
    match value {
        Value::Object(map) if map.contains_key("median_s") => vec![value],
        Value::Object(map) => map.values().flat_map(timings).collect(),
        Value::Array(all) => all.iter().flat_map(timings).collect(),
        _ => Vec::new(),
    }
}

#[test]
fn the_json_holds_every_part() {
    let report = report();
    let threads = report.machine.threads;
    let ceilings: Vec<_> = report.ceilings.iter().map(|c| (c.name.as_str(), c.threads)).collect();
    for name in ["sgemm", "dgemm", "triad"] {
        assert!(ceilings.contains(&(name, Some(1))), "{ceilings:?}");
        assert!(ceilings.contains(&(name, Some(threads))), "{ceilings:?}");
    }
    for op in beit::ops::NAMES {
        let found = report.ops.iter().any(|r| r.case.split('/').next() == Some(*op));
        assert!(found, "no row of {op}");
    }
    assert!(report.ops.iter().any(|r| r.direction == "backward"));
    for row in &report.ops {
        assert!(row.accuracy.holds(), "{} {}: {:?}", row.case, row.direction, row.accuracy);
        assert!(row.timing.is_some() && row.of_roof.is_some() && row.bytes > 0.0, "{}", row.case);
    }
    let step = &report.steps[0];
    let sections: Vec<_> = step.sections.iter().map(|s| s.name.as_str()).collect();
    for name in ["data", "tokenizer", "copies", "forward", "loss and backward", "clip and AdamW"] {
        assert!(sections.contains(&name), "{sections:?}");
    }
    assert!(step.accuracy.holds() && step.mfu.is_some(), "{step:?}");
    assert!(step.predicted_bytes > 0.0 && step.measured_bytes.unwrap() > 0.0);
    assert_eq!(report.sweep.len(), report.plan.batches.len());
    assert_eq!(report.scaling.len(), report.plan.threads.len());
}

#[test]
fn intervals_hold_their_median_and_no_run_is_missing() {
    let value = value();
    let all = timings(&value);
    assert!(all.len() > 50);
    for t in all {
        let number = |key: &str, i: usize| t[key][i].as_f64().unwrap();
        let order = [
            number("range_s", 0),
            number("interval_s", 0),
            t["median_s"].as_f64().unwrap(),
            number("interval_s", 1),
            number("range_s", 1),
        ];
        assert!(order.is_sorted() && order[0] > 0.0, "{t}");
        let (count, coverage) = (t["count"].as_u64().unwrap(), t["coverage"].as_f64().unwrap());
        assert!(count >= 3 && coverage >= if count >= 6 { 0.95 } else { 0.75 }, "{t}");
    }
}

#[test]
fn the_page_needs_no_network_and_both_forms_say_the_same() {
    let (html, markdown) = (text("report.html"), text("report.md"));
    for part in
        ["Roofline, CPU f32", "Share of the roof", "Where the time goes", "Memory of a step"]
    {
        assert!(html.contains(part), "no {part}");
    }
    assert!(!html.contains("http") && !html.contains("<script") && html.contains("<svg"));
    for heading in ["Ceilings", "Ops", "Training steps", "Thread scaling", "Batch size"] {
        assert!(html.contains(&format!(">{heading}</h2>")), "no {heading}");
        assert!(markdown.contains(&format!("\n## {heading}\n")), "no {heading}");
    }
    assert!(html.contains("none: --device cpu"));
    assert!(!html.contains("<del>") && !markdown.contains("~~"));
}

#[test]
fn a_wrong_result_is_struck_out_and_has_no_rates() {
    let mut value = value();
    value["ops"][0]["accuracy"]["error"] = json!(0.5);
    value["steps"][0]["accuracy"]["error"] = json!(0.5);
    let broken: BenchReport = serde_json::from_value(value).unwrap();
    let page = page(&broken, "beit bench report");
    let (html, markdown) = (page.html(), page.markdown());
    // Both names and the time of each.
    assert_eq!(html.matches("<del>").count(), 6);
    assert_eq!(markdown.matches("~~").count(), 12);
    assert!(markdown.contains("error 5.0e-1, allowed"));
    let right = beit::bench::report::page(&report(), "").markdown();
    let row = |text: &str| {
        let case = &broken.ops[0].case;
        text.lines().find(|l| l.contains(case) && l.contains("forward")).unwrap().to_string()
    };
    let empty = |text: &str| row(text).split('|').filter(|cell| cell.trim().is_empty()).count();
    assert_eq!(empty(&markdown), empty(&right) + 3, "GFLOP/s, GB/s and share of the roof");
    // And it is no point of the charts.
    assert!(
        html.matches("class=mark").count()
            < self::page(&report(), "").html().matches("class=mark").count()
    );
    let broke = changes(&report(), &broken);
    assert_eq!(broke.iter().filter(|c| c.verdict == ChangeVerdict::Broken).count(), 2);
    assert_eq!(changes(&broken, &report()).len(), broke.len() - 2, "compared with nothing");
}

/// Writes an earlier report with all times scaled, and something else changed.
fn earlier(name: &str, scale: f64, change: impl Fn(&mut Value)) {
    fn walk(value: &mut Value, scale: f64) {
        match value {
            Value::Object(map) => {
                for (key, value) in map {
                    let times = ["median_s", "interval_s", "range_s"].contains(&key.as_str());
                    match value {
                        Value::Array(all) if times => {
                            all.iter_mut().for_each(|t| *t = json!(t.as_f64().unwrap() * scale))
                        }
                        t if times => *t = json!(t.as_f64().unwrap() * scale),
                        other => walk(other, scale),
                    }
                }
            }
            Value::Array(all) => all.iter_mut().for_each(|value| walk(value, scale)),
            _ => {}
        }
    }
    let mut value = value();
    walk(&mut value, scale);
    change(&mut value);
    std::fs::write(folder().join(name), value.to_string()).unwrap();
}

#[test]
fn against_an_earlier_report_the_status_says_what_became_slower() {
    // A factor of 10,000 is beyond what any load does to a machine.
    for (name, scale, code, verdict) in
        [("quick", 1e-4, 1, ChangeVerdict::Slower), ("slow", 1e4, 0, ChangeVerdict::Faster)]
    {
        earlier(&format!("{name}.json"), scale, |_| {});
        let line = format!("bench report --out {name} --quick --device cpu --against {name}.json");
        let done = beit(folder(), &line);
        assert_eq!(done.status.code(), Some(code), "{}", stderr(&done));
        let json = std::fs::read_to_string(folder().join(name).join("report.json")).unwrap();
        let report: BenchReport = serde_json::from_str(&json).unwrap();
        assert!(report.changes.len() > 50);
        assert!(report.changes.iter().all(|c| c.verdict == verdict), "{:?}", report.changes);
        let page = std::fs::read_to_string(folder().join(name).join("report.md")).unwrap();
        assert!(page.contains("## Changes"));
        let said = String::from_utf8_lossy(&done.stdout).matches("Slower: ").count();
        assert_eq!(said, if code == 1 { report.changes.len() } else { 0 });
    }
}

#[test]
fn reports_that_cannot_be_compared_are_refused_before_measuring() {
    earlier("machine.json", 1.0, |v| v["machine"]["cpu"] = json!("another"));
    earlier("threads.json", 1.0, |v| v["machine"]["threads"] = json!(99));
    earlier("shapes.json", 1.0, |v| v["plan"]["steps"][0][1] = json!(3));
    earlier("size.json", 1.0, |v| v["plan"]["quick"] = json!(false));
    earlier("format.json", 1.0, |v| v["format"] = json!(0));
    std::fs::write(folder().join("other.json"), "{\"a\": 1}").unwrap();
    for (name, want) in [
        ("machine", "its processor: \"another\""),
        ("threads", "its threads: 99"),
        ("shapes", "its steps"),
        ("size", "its size (--quick): false; here: true"),
        ("format", "its format is 0"),
        ("other", "missing field `format`"),
        ("nowhere", "cannot read"),
    ] {
        let line = format!("bench report --out never --quick --device cpu --against {name}.json");
        let done = beit(folder(), &line);
        let text = stderr(&done);
        assert_eq!(done.status.code(), Some(1), "{name}: {text}");
        assert!(text.contains(want) && text.contains(name), "{name}: {text}");
        assert_eq!(text.lines().count(), 1, "{name}: {text}");
        assert!(!folder().join("never").exists(), "{name}");
    }
}

#[test]
fn pytorch_stands_beside_our_steps() {
    let report = report();
    let (step, threads) = (&report.steps[0], report.machine.threads);
    let line = json!({
        "torch": "2.0", "config": step.preset, "device": "cpu", "dtype": "float32",
        "compile": false, "batch": step.batch, "params": step.params,
        "steps_ms": [3.0, 1.0, 2.0], "peak_mem_mb": 9, "threads": threads
    });
    std::fs::write(folder().join("peer.json"), format!("{line}\n")).unwrap();
    let done = beit(folder(), "bench report --out with --quick --device cpu --peer peer.json");
    assert!(done.status.success(), "{}", stderr(&done));
    let page = std::fs::read_to_string(folder().join("with/report.md")).unwrap();
    let section = page.split("## PyTorch").nth(1).unwrap();
    assert!(section.contains("2.00 (1.00 to 3.00) ms, 2.0"), "{section}");
    let mut partial = line.clone();
    partial.as_object_mut().unwrap().remove("steps_ms");
    std::fs::write(folder().join("partial.json"), partial.to_string()).unwrap();
    let done = beit(folder(), "bench report --out never --quick --device cpu --peer partial.json");
    let text = stderr(&done);
    assert_eq!(done.status.code(), Some(1));
    assert!(text.contains("partial.json: line 1: missing field `steps_ms`"), "{text}");
    assert!(!folder().join("never").exists());
}

#[test]
fn a_folder_with_something_in_it_is_left_alone() {
    let before = text("report.json");
    let done = beit(folder(), "bench report --out r --quick --device cpu");
    assert_eq!(done.status.code(), Some(1));
    assert!(stderr(&done).contains("r is not empty"), "{}", stderr(&done));
    assert_eq!(text("report.json"), before);
}
