//! Ten training steps of the smallest encoder and tokenizer on two backends: what parity of single ops
//! cannot show, a sum, a copy of the weights or a random choice that goes wrong between steps.

use crate::models::beit::{MaskedBatch, MaskedImageModel, masked_rows};
use crate::models::config::{DvaeConfig, EncoderConfig};
use crate::models::dvae::{Dvae, DvaeStep, Likelihood};
use crate::ops::Backend;
use crate::ops::adamw::AdamW;
use crate::ops::gumbel_softmax::Noise;
use crate::optim::segments;
use crate::optim::state::State;
use crate::params::initial_values;
use crate::params::{Ctx, Grad};
use crate::rng::{Philox, Purpose};
use crate::tensor::{Ids, Master, Tensor};
use crate::train::drop_path;

const STEPS: u64 = 10;
const SEED: u64 = 3;
const IMAGES: usize = 4;

/// Losses of the steps.
#[derive(Clone, Debug, PartialEq)]
pub struct StepLosses {
    /// Masked image modelling, with drop path.
    pub beit: Vec<f64>,
    /// The tokenizer, with Gumbel noise drawn on the device.
    pub dvae: Vec<f64>,
}

/// Uniform numbers that every precision holds.
fn pixels(n: usize, stream: u32) -> Vec<f64> {
    let mut rng = Philox::new(SEED, Purpose::Check, 3, stream);
    (0..n).map(|_| (rng.unit() * 64.0).floor() / 64.0).collect()
}

fn adamw(step: u64) -> AdamW {
    AdamW { lr: 1e-3, beta1: 0.9, beta2: 0.98, eps: 1e-8, step, max_norm: Some(3.0) }
}

/// Trains both models from the same seed; the losses of each step, before its update.
pub fn ten_steps<B: Backend>(bk: &B) -> StepLosses {
    StepLosses { beit: beit(bk), dvae: dvae(bk) }
}

fn beit<B: Backend>(bk: &B) -> Vec<f64> {
    // Heads of 8, so that tensor cores take part where there are any.
    let config =
        EncoderConfig { drop_path: 0.3, ..EncoderConfig::test().with_width(16) }.with_vocab(11);
    let model = MaskedImageModel::new(bk, &config);
    let mut state = State::new(bk, &model.layout, &initial_values(&model.layout, SEED), 0.99);
    let groups = segments(&model.layout, 0.05);
    let ((h, w), np) = (config.encoder.image, config.encoder.patches());
    let mask: Vec<bool> = (0..IMAGES * np).map(|i| (i + i / np) % 3 == 0).collect();
    let rows = masked_rows(&mask, np);
    let labels: Vec<u32> = (0..rows.len()).map(|i| (7 * i % config.outputs()) as u32).collect();
    let (labels, m) = (Ids::from_vec(bk, labels, &[rows.len()]), rows.len());
    let mut losses = Vec::new();
    for step in 0..STEPS {
        let images = pixels(IMAGES * h * w * 3, step as u32);
        let batch = MaskedBatch {
            images: Tensor::from_f64(bk, &images, &[IMAGES, h, w, 3]),
            mask: Ids::from_vec(bk, mask.iter().map(|&m| m.into()).collect(), &[IMAGES, np]),
            rows: Ids::from_vec(bk, rows.clone(), &[m]),
            keep: Some(drop_path(bk, &config.encoder, IMAGES, &(0..IMAGES), SEED, step)),
        };
        let State { w, g, .. } = &mut state;
        let scale = 1.0 / m as f64;
        let seen =
            model.loss_and_gradients(&mut Grad::new(Ctx::new(bk, w), g), &batch, &labels, scale);
        losses.push(seen.rows.to_f64(bk).iter().sum::<f64>() * scale);
        state.update(bk, &groups, &adamw(step + 1)).expect("finite gradients");
    }
    losses
}

fn dvae<B: Backend>(bk: &B) -> Vec<f64> {
    let model = Dvae::new(&DvaeConfig::test());
    let mut state = State::new(bk, &model.layout, &initial_values(&model.layout, SEED), 0.0);
    let groups = segments(&model.layout, 0.0);
    let (h, w) = model.config.image;
    let (shape, count) = ([IMAGES, h, w, 3], IMAGES * h * w * 3);
    let settings = DvaeStep {
        temperature: 0.7,
        kl_weight: 0.1,
        usage_weight: 0.5,
        straight_through: false,
        likelihood: Likelihood::LogitLaplace,
        scale: 1.0 / count as f64,
    };
    let mut losses = Vec::new();
    for step in 0..STEPS {
        // From 0.125 to 0.859: mapped pixels.
        let x: Vec<f64> =
            pixels(count, 100 + step as u32).iter().map(|p| 0.125 + 0.75 * p).collect();
        let (input, target) = (Tensor::from_f64(bk, &x, &shape), Master::from_f64(bk, &x, &shape));
        let noise = Noise::Philox { seed: SEED, step };
        let State { w, g, .. } = &mut state;
        let grad = &mut Grad::new(Ctx::new(bk, w), g);
        let seen = model.loss_and_gradients(grad, &input, &target, &noise, &settings, false);
        let sum = |x: Vec<f64>| x.iter().sum::<f64>();
        let kl = settings.kl_weight * sum(seen.kl.to_f64(bk));
        losses.push((sum(seen.reconstruction.to_f64(bk)) + kl) * settings.scale);
        state.update(bk, &groups, &adamw(step + 1)).expect("finite gradients");
    }
    losses
}

/// Largest relative difference of two runs' losses; NaN where a loss is not a number.
pub fn difference(a: &StepLosses, b: &StepLosses) -> f64 {
    let pairs = a.beit.iter().zip(&b.beit).chain(a.dvae.iter().zip(&b.dvae));
    pairs.map(|(a, b)| (a - b).abs() / b.abs()).fold(0.0, |worst: f64, x| {
        if x.is_nan() || worst.is_nan() { f64::NAN } else { worst.max(x) }
    })
}
