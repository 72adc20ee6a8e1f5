//! The table of `beit gradcheck`, and the faults that it plants beside its checks.

use beit::check::report::Report;
use beit::ops::case::Inputs;
use beit::selfcheck::AnyCase;
use beit::selfcheck::chosen;
use beit::selfcheck::control::{FAULTS, Fault, Outcome, damaged, plant};
use beit::selfcheck::run::{WIDTH, gradcheck};
use beit::selfcheck::subject::{Run, Start};
use std::sync::Mutex;

#[test]
fn the_table_fits_and_ends_with_the_worst() {
    let mut out = Vec::new();
    let summary = gradcheck(Some("odd"), false, &mut out).expect("cases match");
    let text = String::from_utf8(out).expect("utf-8");
    assert!(summary.passed(), "{text}");
    assert!(text.lines().all(|l| l.chars().count() <= WIDTH), "{text}");
    assert!(text.contains("ok   layer_norm/odd"), "{text}");
    let ending: Vec<&str> = text.lines().rev().take(10).collect();
    assert!(ending[0].contains("mutation score: 100 %"), "{text}");
    for part in [
        "least certain difference in double-double",
        "worst disagreement with an exact derivative",
        "worst relative error",
        "is missed with p <= 6.2e-2",
        "0 of them at a point drawn anew",
    ] {
        assert!(ending.iter().any(|line| line.contains(part)), "{part}: {text}");
    }
    let checks = summary.comparisons();
    assert!(text.contains(&format!("{checks} checks")) && text.contains("0 fail"), "{text}");
}

#[test]
fn a_filter_without_match_lists_what_there_is() {
    let error = gradcheck(Some("no such op"), false, &mut Vec::new()).expect_err("nothing matches");
    assert!(error.to_string().contains("layer_norm, linear, linear_gelu"), "{error}");
}

#[test]
fn a_checker_that_passes_everything_scores_nothing() {
    let entries = chosen(Some("layer_norm/")).expect("cases match");
    let blind = |case: &AnyCase, _: &Inputs, _: &Run| Report::new(&case.name);
    let control = plant(&entries, &blind);
    assert!(!control.passed());
    assert_eq!(control.count(Outcome::Caught), 0);
    assert_eq!(control.survivors().len(), control.count(Outcome::Survived));
    assert!(control.score().starts_with("mutation score: 0 %"), "{}", control.score());
    // x, weight and bias: all faults but transposed vectors and an input that is added to.
    assert_eq!(control.count(Outcome::Equivalent), 2);
    assert_eq!(control.mutants.len(), 3 * FAULTS.len() - 1);
}

#[test]
fn the_checker_catches_all() {
    let entries = chosen(Some("layer_norm/")).expect("cases match");
    let control = plant(&entries, &AnyCase::check);
    assert!(control.passed(), "{:?}", control.survivors());
}

#[test]
fn what_changes_nothing_passes() {
    let entries = chosen(Some("layer_norm/odd")).expect("a case matches");
    let (case, inputs) = (&entries[0], entries[0].inputs());
    let stale = Mutex::default();
    let run = |start: &Start| damaged(case, start, "weight", Fault::Transposed, &stale);
    let report = case.check(&inputs, &run);
    assert!(report.passed(), "{:?}", report.failures(8));
}
