//! Case 02: classifiers, with mean pooling and tables of relative positions, and with the class token and absolute
//! positions: hidden states, attention probabilities, logits, loss, every gradient.

use crate::fixture::{Fixture, Precision};
use crate::hf;
use beit::cpu::Cpu;
use beit::models::classifier::Classifier;
use beit::models::config::{ClassifierConfig, Pooling};
use beit::models::encoder::EncoderInput;
use beit::ops::cross_entropy::{CrossEntropyOp, Target};
use beit::params::{Ctx, Grad, Params};
use beit::real::Real;
use beit::tensor::{Ids, Tensor};
use libtest_mimic::{Failed, Trial};
use std::path::Path;

/// One trial per case and precision.
pub fn trials(dir: &Path) -> Vec<Trial> {
    let trial = |case: &'static str| {
        let (a, b) = (dir.to_path_buf(), dir.to_path_buf());
        [
            Trial::test(format!("{case}::f64"), move || run::<f64>(&a, case)),
            Trial::test(format!("{case}::f32"), move || run::<f32>(&b, case)),
        ]
    };
    ["02a_cls_hf", "02b_cls_hf"].into_iter().flat_map(trial).collect()
}

fn config(fx: &Fixture) -> ClassifierConfig {
    let c = &fx.json["config"];
    let mean = c["use_mean_pooling"].as_bool().expect("use_mean_pooling");
    ClassifierConfig {
        encoder: hf::encoder_config(fx),
        pooling: if mean { Pooling::Mean } else { Pooling::Class },
        head_scale: 1.0,
        classes: (0..c["num_labels"].as_u64().expect("num_labels"))
            .map(|i| i.to_string())
            .collect(),
    }
}

fn run<T: Real + Precision>(dir: &Path, case: &str) -> Result<(), Failed> {
    let fx = Fixture::open(dir, case)?;
    let (bk, config) = (Cpu::<T>::new(), config(&fx));
    let model = Classifier::new(&bk, &config);
    let w = Params::from_host(&bk, &model.layout, &hf::weights(&fx, &model.layout)?);
    let mut g = Params::zeros(&bk, &model.layout);

    // Inputs, from channels-first to channels-last.
    let shape = fx.shape("in/pixel_values");
    let (b, (ih, iw), depth) = (shape[0], config.encoder.image, config.encoder.depth);
    let pixels = Fixture::to_nhwc(&fx.f64("in/pixel_values"), &shape);
    let images = Tensor::from_f64(&bk, &pixels, &[b, ih, iw, 3]);
    let labels: Vec<u32> = fx.f64("in/labels").iter().map(|&x| x as u32).collect();

    let (ctx, input) = (Ctx::new(&bk, &w), EncoderInput::of(&images));
    let taps: Vec<usize> = (0..=depth).collect();
    for (l, s) in model.encoder.features(ctx, &input, &taps).taps.iter().enumerate() {
        fx.compare::<T>(&format!("out/hidden/{l}"), &s.to_f64(&bk))?;
    }
    let attention = model.encoder.attention_probs(ctx, &input, &taps[..depth]);
    for (l, probs) in attention.iter().enumerate() {
        fx.compare::<T>(&format!("out/attn/{l}"), &probs.to_f64(&bk))?;
    }
    fx.compare::<T>("out/logits", &model.logits(ctx, &input).to_f64(&bk))?;

    let (logits, cache) = model.forward(ctx, &input);
    fx.compare::<T>("out/logits", &logits.to_f64(&bk))?;
    let ids = Ids::from_vec(&bk, labels, &[b]);
    let target = Target::Hard { labels: &ids, ignore: None };
    let scale = 1.0 / b as f64;
    let (losses, dlogits) = bk.cross_entropy_backward(logits, &target, scale);
    fx.compare_loss::<T>("out/loss", losses.rows.to_f64(&bk).iter().sum::<f64>() * scale)?;
    model.backward(&mut Grad::new(ctx, &mut g), &input, cache, &dlogits, false);
    let exact: Vec<f64> = g.to_host(&bk).into_iter().map(|x| x.to_f64()).collect();
    hf::compare_gradients::<T>(&fx, &model.layout, &exact, "grad")
}
