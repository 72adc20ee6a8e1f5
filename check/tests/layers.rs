//! Realistic layers, right and wrong, and what must be said of each.

#[path = "layers/choices.rs"]
mod choices;
#[path = "layers/forty.rs"]
mod forty;
#[path = "layers/l1.rs"]
mod l1;
#[path = "layers/odd.rs"]
mod odd;
#[path = "layers/right.rs"]
mod right;
#[path = "layers/single.rs"]
mod single;
#[path = "layers/waves.rs"]
mod waves;
#[path = "layers/zeros.rs"]
mod zeros;

use beit_check::report::{Report, Verdict};
use forty::{Layer, Must};
use std::collections::BTreeSet;

/// Whether a verdict is one of those allowed.
fn allows(must: Must, verdict: Verdict) -> bool {
    match must {
        Must::Pass => verdict == Verdict::Pass,
        Must::Fail => verdict == Verdict::Fail,
        Must::NotFail | Must::Same => verdict != Verdict::Fail,
        Must::NotPass => verdict != Verdict::Pass,
    }
}

/// Panics unless the report says what it must.
#[track_caller]
fn must(must: Must, report: &Report) {
    assert!(allows(must, report.verdict()), "should be {must:?}: {report}");
}

/// Checks all layers of a list, and names those of which something else is said than what must be.
#[track_caller]
fn judge(layers: &[Layer]) {
    let mut all = Vec::new();
    for layer in layers {
        for (wrong, must) in [(false, layer.right), (true, layer.wrong)] {
            let report = (layer.check)(wrong);
            if !allows(must, report.verdict()) {
                let twin = if wrong { "wrong" } else { "right" };
                all.push(format!("{twin} one should be {must:?}: {report}"));
            }
        }
    }
    assert!(all.is_empty(), "{} of {}:\n{}", all.len(), 2 * layers.len(), all.join("\n"));
}

#[test]
fn activations() {
    judge(forty::activations::LAYERS);
}

#[test]
fn attention() {
    judge(forty::attention::LAYERS);
}

#[test]
fn grids() {
    judge(forty::grids::LAYERS);
}

#[test]
fn kinks() {
    judge(forty::kinks::LAYERS);
}

#[test]
fn losses() {
    judge(forty::losses::LAYERS);
}

#[test]
fn norms() {
    judge(forty::norms::LAYERS);
}

#[test]
fn precision() {
    judge(forty::precision::LAYERS);
}

#[test]
fn scales() {
    judge(forty::scales::LAYERS);
}

#[test]
fn there_are_forty_of_different_names() {
    let names: BTreeSet<_> = forty::forty().iter().map(|l| l.name).collect();
    assert_eq!((names.len(), forty::forty().len()), (40, 40));
}

/// How many checks pass, are inconclusive and fail.
fn count(reports: impl IntoIterator<Item = Report>) -> [usize; 3] {
    let mut all = [0; 3];
    for report in reports {
        all[match report.verdict() {
            Verdict::Pass => 0,
            Verdict::Inconclusive => 1,
            Verdict::Fail => 2,
        }] += 1;
    }
    all
}
