//! Case 10: the operations of RandAugment, their levels and whole draws. The bytes are those of
//! Pillow 13.0.0 and must be equal; without bits left, Pillow 13 refuses, and earlier versions and
//! the case make a black image.

use crate::augment::{image, same};
use crate::fixture::Fixture;
use crate::replay::Replay;
use beit::data::randaugment::{Interpolation, RandAugment, RandOp, Retouch, Sampling};
use libtest_mimic::{Failed, Trial};
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;

const CASE: &str = "10_randaug";

/// One trial per operation and per recorded draw.
pub fn trials(dir: &Path) -> Vec<Trial> {
    let fx = match Fixture::open(dir, CASE) {
        Ok(fx) => Arc::new(fx),
        Err(missing) => return vec![Trial::test(format!("{CASE}::files"), || Err(missing))],
    };
    let mut trials = Vec::new();
    let ops = list(&fx.json["config"]["ops_in_order"]).iter().map(text).map(String::from);
    for (i, name) in ops.collect::<Vec<_>>().into_iter().enumerate() {
        let fx = fx.clone();
        let label = format!("{CASE}::{name}");
        trials.push(Trial::test(label, move || operation(&fx, RandOp::ALL[i], &name)));
    }
    for i in 0..list(&fx.json["traces"]).len() {
        let fx = fx.clone();
        trials.push(Trial::test(format!("{CASE}::trace_{i}"), move || trace(&fx, i)));
    }
    trials
}

fn list(json: &Value) -> &[Value] {
    json.as_array().expect("a list")
}

fn text(json: &Value) -> &str {
    json.as_str().expect("a text")
}

fn fill(fx: &Fixture) -> [u8; 3] {
    std::array::from_fn(|c| fx.json["config"]["fill"][c].as_u64().expect("fill") as u8)
}

/// Its levels, and its stored outputs from their magnitudes.
fn operation(fx: &Fixture, op: RandOp, name: &str) -> Result<(), Failed> {
    let levels = format!("level/{name}");
    if fx.has(&levels) {
        let argument = |m: f64| [false, true].map(|negated| op.argument(m, negated, true));
        let got = fx.f64("level/magnitudes").into_iter().flat_map(argument).collect::<Vec<_>>();
        let got: Vec<f64> = match op.is_signed(true) {
            true => got,
            false => got.chunks(2).flat_map(|pair| [pair[0]; 2]).collect(),
        };
        fx.compare_exact(&levels, &got)?;
    }
    let signed = list(&fx.json["config"]["signed_ops"]).iter().any(|o| text(o) == name);
    assert_eq!(op.is_signed(true), signed);
    let mut count = 0;
    for case in list(&fx.json["cases"]).iter().filter(|case| text(&case["op"]) == name) {
        let negated = case["sign"].as_i64().expect("sign") < 0;
        let magnitude = case["magnitude"].as_f64().unwrap_or(0.0);
        let argument = op.argument(magnitude, negated, true);
        assert_eq!(argument, case["arg"].as_f64().unwrap_or(0.0), "{case}");
        let sampling = match text(&case["resample"]) {
            "bilinear" => Sampling::Bilinear,
            "bicubic" => Sampling::Bicubic,
            other => panic!("unknown resampling {other}"),
        };
        let mut got = image(fx, &format!("in/{}", case["image"]));
        Retouch { op, argument, sampling }.apply(&mut got, fill(fx));
        same(&got, &image(fx, text(&case["out"]))).map_err(|e| failure(case, &e))?;
        count += 1;
    }
    assert!(count > 0, "no output of {name} is stored");
    Ok(())
}

fn failure(case: &Value, failed: &Failed) -> Failed {
    format!("{case}: {}", failed.message().unwrap_or("differs")).into()
}

/// A whole draw.
fn trace(fx: &Fixture, i: usize) -> Result<(), Failed> {
    let trace = &fx.json["traces"][i];
    let law: RandAugment = text(&fx.json["config"]["policy"]).parse()?;
    let mut replay = Replay::listed(&trace["draws"]);
    let retouches = law.draw(Interpolation::Bicubic, &mut replay);
    assert_eq!(replay.left(), 0, "{trace}");
    let mut got = image(fx, &format!("in/{}", trace["image"]));
    retouches.iter().for_each(|retouch| retouch.apply(&mut got, fill(fx)));
    same(&got, &image(fx, text(&trace["out"]))).map_err(|e| failure(trace, &e))
}
