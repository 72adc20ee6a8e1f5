//! Case 14 but for its operators: windows, counts and means, the schedule, labels that are one less.

use crate::fixture::{Fixture, Precision};
use beit::apply::segment::{PixelConfusion, SegmentFigures, windows};
use beit::data::Labels;
use beit::optim::Poly;
use libtest_mimic::{Failed, Trial};
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;

const CASE: &str = "14_segops";

/// One trial for each of them.
pub fn trials(dir: &Path) -> Vec<Trial> {
    let fx = match Fixture::open(dir, CASE) {
        Ok(fx) => Arc::new(fx),
        Err(missing) => return vec![Trial::test(format!("{CASE}::data_files"), || Err(missing))],
    };
    type Check = fn(&Fixture) -> Result<(), Failed>;
    let checks: [(&str, Check); 4] =
        [("windows", slid), ("miou", counted), ("poly", scheduled), ("reduce_zero", reduced)];
    let trial = |(name, check): (&str, Check)| {
        let fx = fx.clone();
        Trial::test(format!("{CASE}::{name}"), move || check(&fx))
    };
    checks.into_iter().map(trial).collect()
}

fn whole(json: &Value) -> usize {
    json.as_u64().expect("a whole number") as usize
}

fn slid(fx: &Fixture) -> Result<(), Failed> {
    for case in fx.json["windows"].as_array().expect("windows") {
        let image = (whole(&case["image"][0]), whole(&case["image"][1]));
        let (crop, stride) = (whole(&case["crop"]), whole(&case["stride"]));
        let got = windows(image, (crop, crop), (stride, stride));
        let got: Vec<_> =
            got.into_iter().map(|w| [w.top, w.top + w.height, w.left, w.left + w.width]).collect();
        if serde_json::to_value(&got)? != case["windows_y0_y1_x0_x1"] {
            return Err(format!("{case}: {got:?}").into());
        }
    }
    Ok(())
}

fn bytes(fx: &Fixture, name: &str) -> Vec<u8> {
    fx.f64(name).into_iter().map(|x| x as u8).collect()
}

/// A fixture's NaN is none.
fn same(fx: &Fixture, name: &str, got: impl Iterator<Item = Option<f64>>) -> Result<(), Failed> {
    let got: Vec<_> = got.collect();
    let want: Vec<_> = fx.f64(name).into_iter().map(|x| (!x.is_nan()).then_some(x)).collect();
    let close = |(a, b): (&Option<f64>, &Option<f64>)| match (a, b) {
        (Some(a), Some(b)) => (a - b).abs() <= <f64 as Precision>::RELATIVE,
        _ => a == b,
    };
    if got.len() == want.len() && got.iter().zip(&want).all(close) {
        return Ok(());
    }
    Err(format!("{name}: {got:?}, stored {want:?}").into())
}

fn counted(fx: &Fixture) -> Result<(), Failed> {
    let (predictions, labels) = (bytes(fx, "miou/in/pred"), bytes(fx, "miou/in/label"));
    let pixels: usize = fx.shape("miou/in/label")[1..].iter().product();
    let classes = fx.shape("miou/out/iou")[0];
    // All in one go, and in two that are put together.
    let count = |from: usize| {
        let mut count = PixelConfusion::new(classes);
        let images = predictions.chunks(pixels).zip(labels.chunks(pixels));
        images.skip(from).for_each(|(predictions, labels)| count.add(predictions, labels));
        count
    };
    let mut all = PixelConfusion::new(classes);
    all.add(&predictions[..pixels], &labels[..pixels]);
    all.merge(count(1));
    assert_eq!(all, count(0));
    for (name, got) in [
        ("miou/out/intersect", all.intersect()),
        ("miou/out/pred", all.predicted()),
        ("miou/out/label", all.labelled()),
    ] {
        let got: Vec<f64> = got.into_iter().map(|n| n as f64).collect();
        fx.compare_exact(name, &got)?;
    }
    let names: Vec<_> = (0..classes).map(|i| i.to_string()).collect();
    let figures = SegmentFigures::of(&all, &names)?;
    same(fx, "miou/out/iou", figures.classes.iter().map(|class| class.iou))?;
    same(fx, "miou/out/acc", figures.classes.iter().map(|class| class.acc))?;
    fx.compare::<f64>("miou/out/summary", &[figures.miou, figures.macc, figures.aacc])
}

fn scheduled(fx: &Fixture) -> Result<(), Failed> {
    let poly = Poly { base: 1.0, end: 0.0, power: 1.0, warmup: 6, ratio: 1e-6, total: 40 };
    let got: Vec<_> = (0..poly.total).map(|step| poly.at(step)).collect();
    fx.compare::<f64>("poly/out", &got)
}

fn reduced(fx: &Fixture) -> Result<(), Failed> {
    let values = bytes(fx, "reduce_zero/in");
    let mut labels = Labels::new(1, values.len(), values);
    labels.reduce_zero();
    let got: Vec<f64> = labels.values.into_iter().map(f64::from).collect();
    fx.compare_exact("reduce_zero/out", &got)
}
