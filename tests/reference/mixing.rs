//! Case 11 and `mix/*` of case 08: mixup and cutmix with their targets, to 1e-6; the running average of
//! weights. The losses are in `loss.rs`.

use crate::fixture::{Fixture, Precision};
use crate::replay::Replay;
use beit::cpu::Cpu;
use beit::data::geometry::CropBox;
use beit::data::mixing::{BoxRule, ImageMix, MixConfig, mix_images, soft_targets};
use beit::ops::adamw::AdamWOp;
use beit::params::{Decay, Init, Params, Registry, arena_len, expand};
use beit::real::Real;
use libtest_mimic::{Failed, Trial};
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;

const CASE: &str = "11_mixup";
const GIVEN: &str = "08_augment";
const LIMIT: f64 = 1e-6;

/// One trial per mixed batch, and the running average in both precisions.
pub fn trials(dir: &Path) -> Vec<Trial> {
    let open = |case: &str| Fixture::open(dir, case).map(Arc::new);
    let (fx, given) = match (open(CASE), open(GIVEN)) {
        (Ok(fx), Ok(given)) => (fx, given),
        (Err(missing), _) | (_, Err(missing)) => {
            return vec![Trial::test(format!("{CASE}::files"), || Err(missing))];
        }
    };
    let mut trials = Vec::new();
    for i in 0..fx.json["cases"].as_array().expect("cases").len() {
        let fx = fx.clone();
        trials.push(Trial::test(format!("{CASE}::mix_{i}"), move || drawn(&fx, i)));
    }
    for i in 0..given.json["mixup"]["cases"].as_array().expect("cases").len() {
        let fx = given.clone();
        trials.push(Trial::test(format!("{GIVEN}::mix_{i}"), move || by_lambda(&fx, i)));
    }
    let again = fx.clone();
    trials.push(Trial::test(format!("{CASE}::average::f64"), move || average::<f64>(&fx)));
    trials.push(Trial::test(format!("{CASE}::average::f32"), move || average::<f32>(&again)));
    trials
}

fn number(json: &Value) -> f64 {
    json.as_f64().expect("a number")
}

/// A stored batch mixed, its targets and the stored results compared.
fn compare(
    fx: &Fixture,
    inputs: [&str; 2],
    outputs: [String; 2],
    mixes: &[ImageMix],
    smoothing: f64,
) -> Result<(), Failed> {
    let shape = fx.shape(inputs[0]);
    let (pixels, width) = (shape[2] * shape[3], shape[3]);
    let x = Fixture::to_nhwc(&fx.f64(inputs[0]), &shape);
    let image = |x: &[f64]| x.iter().map(|&x| x as f32).collect();
    let mut images: Vec<Vec<f32>> = x.chunks(pixels * shape[1]).map(image).collect();
    mix_images(mixes, &mut images, width);
    let got: Vec<f64> = images.concat().into_iter().map(f64::from).collect();
    fx.compare_within(&outputs[0], &Fixture::to_nchw(&got, &shape), LIMIT)?;
    let labels: Vec<u32> = fx.f64(inputs[1]).into_iter().map(|label| label as u32).collect();
    let classes = fx.shape(&outputs[1])[1];
    let targets = soft_targets(mixes, &labels, classes, smoothing);
    let targets: Vec<f64> = targets.into_iter().map(f64::from).collect();
    fx.compare_within(&outputs[1], &targets, LIMIT)
}

/// A batch from its recorded draws, all of which must be used.
fn drawn(fx: &Fixture, i: usize) -> Result<(), Failed> {
    let case = &fx.json["cases"][i];
    let shape = fx.shape("in/x");
    let (height, width) = (shape[2], shape[3]);
    let minmax = case["cutmix_minmax"].as_array().map(|m| (number(&m[0]), number(&m[1])));
    let cfg = MixConfig {
        mode: case["mode"].as_str().expect("mode").parse()?,
        mixup_alpha: number(&case["mixup_alpha"]),
        cutmix_alpha: number(&case["cutmix_alpha"]),
        cutmix_minmax: minmax,
        prob: number(&case["prob"]),
        switch_prob: number(&case["switch_prob"]),
        box_rule: match case["box"].as_str().expect("box") {
            "0.3.2" => BoxRule::EvenSide,
            "new" => BoxRule::FullSide,
            other => panic!("unknown box rule {other}"),
        },
    };
    cfg.validate()?;
    // Sides between bounds were drawn from the lower one on: two of four integers.
    let least = |n: usize| match (minmax, n % 4) {
        (Some((low, _)), 0) => (height as f64 * low).trunc(),
        (Some((low, _)), 1) => (width as f64 * low).trunc(),
        _ => 0.0,
    };
    let mut replay = Replay::listed(&case["draws"]).integers_from(least);
    let mixes = cfg.draw(shape[0], height, width, &mut replay);
    assert_eq!(replay.left(), 0, "{case}");
    let outputs = ["x", "targets"].map(|what| format!("out/{i}/{what}"));
    compare(fx, ["in/x", "in/labels"], outputs, &mixes, number(&case["smoothing"]))
}

/// A batch from its λ and box.
fn by_lambda(fx: &Fixture, i: usize) -> Result<(), Failed> {
    let case = &fx.json["mixup"]["cases"][i];
    let mix = match case["box_top_bottom_left_right"].as_array() {
        None => ImageMix { lambda: number(&case["lam"]), window: None },
        Some(ends) => {
            let [top, bottom, left, right] =
                std::array::from_fn(|k| ends[k].as_u64().expect("an end") as usize);
            let window = CropBox { top, left, height: bottom - top, width: right - left };
            ImageMix { lambda: number(&case["lam_corrected"]), window: Some(window) }
        }
    };
    let mixes = vec![mix; fx.shape("mix/x")[0]];
    let outputs = ["x", "targets"].map(|what| format!("mix/{i}/{what}"));
    compare(fx, ["mix/x", "mix/labels"], outputs, &mixes, number(&case["smoothing"]))
}

fn average<T: Real + Precision>(fx: &Fixture) -> Result<(), Failed> {
    let bk = Cpu::<T>::new();
    let shape = fx.shape("ema/in/0");
    let mut registry = Registry::new();
    registry.add("w", &shape, Decay::No, Init::Constant(0.0));
    let layout = registry.finish();
    let read = |step: usize| {
        let values = expand(&layout, &fx.f64(&format!("ema/in/{step}")));
        Params::<Cpu<T>>::from_host(&bk, &layout, &values)
    };
    let mut average = read(0);
    let steps = (1..).take_while(|step| fx.has(&format!("ema/in/{step}")));
    let mut done = 0;
    for step in steps {
        bk.ema_update(&mut average, &read(step), 0.9999, 0..arena_len(&layout));
        let got: Vec<f64> = average.to_host(&bk).iter().map(|x| x.to_f64()).collect();
        let p = layout.iter().next().expect("one parameter");
        fx.compare::<T>(&format!("ema/out/{step}"), &got[p.range.clone()])?;
        done = step;
    }
    assert!(done > 0, "no step is stored");
    Ok(())
}
