//! Cases 01 (names of the Hugging Face port) and 04 (names of the original): the masked-image model
//! with everything that can be compared: hidden states, attention probabilities, logits, loss, every
//! gradient. So does `mim_hidden`, which `tests/fixtures/mim_hidden.py` made: the hidden width of its MLP
//! is no multiple of the width.

use crate::fixture::{Fixture, Precision};
use crate::hf;
use beit::cpu::Cpu;
use beit::models::beit::{MaskedBatch, MaskedImageModel, masked_rows};
use beit::models::encoder::EncoderInput;
use beit::ops::cross_entropy::{CrossEntropyOp, Target};
use beit::params::{Ctx, Grad, Params};
use beit::real::Real;
use beit::tensor::{Ids, Tensor};
use libtest_mimic::{Failed, Trial};
use std::path::Path;

/// One trial per case and precision.
pub fn trials(dir: &Path) -> Vec<Trial> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut trials = Vec::new();
    for (case, dir) in [
        ("01_mim_hf", dir),
        ("04a_mim_orig", dir),
        ("04b_mim_orig", dir),
        ("mim_hidden", own.as_path()),
    ] {
        let at = dir.to_path_buf();
        trials.push(Trial::test(format!("{case}::f64"), move || run::<f64>(&at, case)));
        let at = dir.to_path_buf();
        trials.push(Trial::test(format!("{case}::f32"), move || run::<f32>(&at, case)));
    }
    trials
}

fn run<T: Real + Precision>(dir: &Path, case: &str) -> Result<(), Failed> {
    let fx = Fixture::open(dir, case)?;
    let bk = Cpu::<T>::new();
    let vocab = fx.json["config"]["vocab_size"].as_u64().expect("vocab_size") as usize;
    let config = hf::encoder_config(&fx).with_vocab(vocab);
    let model = MaskedImageModel::new(&bk, &config);
    let values = hf::weights(&fx, &model.layout)?;
    let w = Params::from_host(&bk, &model.layout, &values);
    let mut g = Params::zeros(&bk, &model.layout);

    // Inputs, from channels-first to channels-last.
    let shape = fx.shape("in/pixel_values");
    let (b, (ih, iw)) = (shape[0], config.encoder.image);
    let images = Fixture::to_nhwc(&fx.f64("in/pixel_values"), &shape);
    let mask: Vec<bool> = fx.f64("in/bool_masked_pos").iter().map(|&x| x != 0.0).collect();
    let labels: Vec<u32> = fx.f64("in/labels").iter().map(|&x| x as u32).collect();
    let np = config.encoder.patches();
    let rows = masked_rows(&mask, np);
    let all = masked_rows(&vec![true; b * np], np);
    let mut batch = MaskedBatch {
        images: Tensor::from_f64(&bk, &images, &[b, ih, iw, 3]),
        mask: Ids::from_vec(&bk, mask.iter().map(|&m| u32::from(m)).collect(), &[b, np]),
        rows: Ids::from_vec(&bk, all, &[b * np]),
        keep: None,
    };

    // All patches: hidden states, attention, logits.
    let ctx = Ctx::new(&bk, &w);
    let input = EncoderInput { images: &batch.images, mask: Some(&batch.mask), keep: None };
    let taps: Vec<usize> = (0..=config.encoder.depth).collect();
    let hidden = model.encoder.features(ctx, &input, &taps).taps;
    for (l, s) in hidden.iter().enumerate() {
        fx.compare_if_present::<T>(&format!("out/hidden/{l}"), &s.to_f64(&bk))?;
    }
    let attention = model.encoder.attention_probs(ctx, &input, &taps[..config.encoder.depth]);
    for (l, probs) in attention.iter().enumerate() {
        fx.compare_if_present::<T>(&format!("out/attn/{l}"), &probs.to_f64(&bk))?;
    }
    let logits_all = model.logits(ctx, &batch);
    let logits_name = if fx.has("out/logits_all") { "out/logits_all" } else { "out/logits" };
    fx.compare::<T>(logits_name, &logits_all.to_f64(&bk))?;

    // Masked patches: logits, loss and gradients.
    batch.rows = Ids::from_vec(&bk, rows.clone(), &[rows.len()]);
    let (logits, cache) = model.forward(ctx, &batch);
    if fx.has("out/logits_all") {
        fx.compare::<T>("out/logits", &logits.to_f64(&bk))?;
    }
    let ids = Ids::from_vec(&bk, labels, &[rows.len()]);
    let target = Target::Hard { labels: &ids, ignore: None };
    let scale = 1.0 / rows.len() as f64;
    let (losses, dlogits) = bk.cross_entropy_backward(logits, &target, scale);
    let loss = losses.rows.to_f64(&bk).iter().sum::<f64>() * scale;
    fx.compare_loss::<T>("out/loss", loss)?;
    let dx = model.backward(&mut Grad::new(ctx, &mut g), &batch, cache, dlogits, true);
    if fx.has("grad_in/pixel_values") {
        let got = Fixture::to_nchw(&dx.expect("asked for").to_f64(&bk), &shape);
        fx.compare::<T>("grad_in/pixel_values", &got)?;
    }
    let exact: Vec<f64> = g.to_host(&bk).into_iter().map(|x| x.to_f64()).collect();
    hf::compare_gradients::<T>(&fx, &model.layout, &exact, "grad")
}
