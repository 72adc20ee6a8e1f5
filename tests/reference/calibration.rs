//! Case 16: negative log-likelihood, Brier score, calibration error and top-5 accuracy of a classifier.

use crate::fixture::Fixture;
use beit::apply::classify::{ClassifierFigures, Judgement};
use libtest_mimic::{Failed, Trial};
use std::path::Path;

/// One trial: the figures are computed in f64 alone.
pub fn trials(dir: &Path) -> Vec<Trial> {
    let dir = dir.to_path_buf();
    vec![Trial::test("16_baselines::ece", move || run(&dir))]
}

fn run(dir: &Path) -> Result<(), Failed> {
    let fx = Fixture::open(dir, "16_baselines")?;
    let classes = fx.shape("ece/in/logits")[1];
    let (logits, labels) = (fx.f64("ece/in/logits"), fx.f64("ece/in/labels"));
    let rows = logits.chunks_exact(classes).zip(&labels).enumerate();
    let judged: Vec<Judgement> = rows
        .map(|(i, (row, label))| {
            let row: Vec<f32> = row.iter().map(|&x| x as f32).collect();
            Judgement::of(i, *label as u32, &row)
        })
        .collect();
    let names: Vec<String> = (0..classes).map(|c| c.to_string()).collect();
    let got = ClassifierFigures::new(&judged, &names);
    for (name, got) in [("ece", got.ece), ("nll", got.nll), ("brier", got.brier)] {
        fx.compare::<f64>(&format!("ece/out/{name}"), &[got])?;
    }
    // Shares whose class is among the first 1, 2 and 5.
    let second = judged.iter().filter(|j| j.before < 2).count() as f64 / judged.len() as f64;
    fx.compare::<f64>("ece/out/top5", &[got.top1, second, got.top5])
}
