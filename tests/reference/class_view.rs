//! Cases 12 and 13: random erasing and the whole training transform from recorded draws and noise, to 1e-6.

use crate::augment::image;
use crate::fixture::Fixture;
use crate::replay::Replay;
use beit::data::ClassViewConfig;
use beit::data::class_view::train_view;
use beit::data::erasing::{EraseFill, Erasing};
use libtest_mimic::{Failed, Trial};
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;

const LIMIT: f64 = 1e-6;

/// One trial per image.
pub fn trials(dir: &Path) -> Vec<Trial> {
    let mut trials = Vec::new();
    type Check = fn(&Fixture, usize) -> Result<(), Failed>;
    let checks: [(&str, Check); 2] = [("12_erasing", erased), ("13_pipeline", viewed)];
    for (case, check) in checks {
        let fx = match Fixture::open(dir, case) {
            Ok(fx) => Arc::new(fx),
            Err(missing) => {
                trials.push(Trial::test(format!("{case}::files"), || Err(missing)));
                continue;
            }
        };
        for i in 0..fx.json["cases"].as_array().expect("cases").len() {
            let fx = fx.clone();
            trials.push(Trial::test(format!("{case}::image_{i}"), move || check(&fx, i)));
        }
    }
    trials
}

fn whole(json: &Value) -> usize {
    json.as_u64().expect("a whole number") as usize
}

/// The recorded draws, followed by the noise of all boxes.
fn replay(fx: &Fixture, i: usize) -> Replay {
    let names = (0..).map(|k| format!("noise/{i}/{k}")).take_while(|name| fx.has(name));
    let draws = Replay::listed(&fx.json["cases"][i]["draws"]);
    names.fold(draws, |draws, name| draws.then_noise(fx, &name))
}

/// Pixels `[H,W,3]` against a stored `[3,H,W]`.
fn compare(fx: &Fixture, name: &str, pixels: &[f32]) -> Result<(), Failed> {
    let shape = [&[1], &fx.shape(name)[..]].concat();
    let pixels: Vec<f64> = pixels.iter().map(|&x| f64::from(x)).collect();
    fx.compare_within(name, &Fixture::to_nchw(&pixels, &shape), LIMIT)
}

fn erased(fx: &Fixture, i: usize) -> Result<(), Failed> {
    let case = &fx.json["cases"][i];
    let (least, most) = (whole(&case["min_count"]), whole(&case["max_count"]));
    let erasing = Erasing {
        probability: case["probability"].as_f64().expect("a probability"),
        fill: case["mode"].as_str().expect("mode").parse()?,
        count: least..=most,
    };
    erasing.validate()?;
    let source = format!("in/{i}");
    let shape = [&[1], &fx.shape(&source)[..]].concat();
    let x = Fixture::to_nhwc(&fx.f64(&source), &shape);
    let mut pixels: Vec<f32> = x.into_iter().map(|x| x as f32).collect();
    let mut replay = match erasing.fill {
        // Nothing is drawn to fill it with.
        EraseFill::Const => Replay::listed(&case["draws"]),
        EraseFill::Rand | EraseFill::Pixel => replay(fx, i),
    };
    if least != most {
        // The count is the first integer, drawn from the least on.
        replay = replay.integers_from(|n| if n == 0 { least as f64 } else { 0.0 });
    }
    let boxes = erasing.draw(shape[2], shape[3], &mut replay);
    assert_eq!(boxes.len(), whole(&case["boxes"]), "{case}");
    erasing.fill(&mut pixels, shape[3], &boxes, &mut replay);
    assert_eq!(replay.left(), 0, "{case}");
    compare(fx, &format!("out/{i}"), &pixels)
}

fn viewed(fx: &Fixture, i: usize) -> Result<(), Failed> {
    let case = &fx.json["cases"][i];
    let side = whole(&case["size"]);
    let probability = case["erase_prob"].as_f64().expect("a probability");
    let cfg = ClassViewConfig {
        erasing: Some(Erasing::pixels(probability)),
        ..ClassViewConfig::original(side, side)
    };
    assert_eq!(cfg.pad.is_some(), case["transforms"][0] == "RandomCrop", "{case}");
    let mut replay = replay(fx, i);
    let view = train_view(&cfg, &image(fx, &format!("in/{}", case["image"])), &mut replay);
    assert_eq!(replay.left(), 0, "{case}");
    compare(fx, &format!("out/{i}"), &view)
}
