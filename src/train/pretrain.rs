//! `beit pretrain`: masked image modelling on the tokens of a frozen tokenizer (arXiv
//! 2106.08254, §2.3).

use crate::apply::frozen::{Tokenizer, views};
use crate::apply::masked::{MaskedSample, TokenPrediction};
use crate::apply::reconstruct::{Reconstruction, reconstruction_picture};
use crate::config::PretrainRun;
use crate::data::augment::{Views, two_views};
use crate::data::pixels::Normalise;
use crate::data::{AugmentConfig, Labelled, MaskConfig, Source, Split, Subset};
use crate::error::{Error, Result};
use crate::models::beit::MaskedImageModel;
use crate::models::config::BeitConfig;
use crate::models::kind::ModelConfig;
use crate::ops::Backend;
use crate::optim::state::State;
use crate::params::{Ctx, Grad, Layout, Params};
use crate::real::Float;
use crate::report::page::Page;
use crate::report::picture::Picture;
use crate::rng::{Philox, Purpose};
use crate::storage::Later;
use crate::train::drop_path;
use crate::train::from_file;
use crate::train::length::Length;
use crate::train::summary::PretrainSummary;
use crate::train::task::{At, Part, Schedules, Task, Trained, Validation};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// Sums since the last line of metrics; part of a checkpoint, so that a resumed run logs the same.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct PretrainWindow {
    loss: f64,
    correct: u64,
    masked: u64,
    tokens: BTreeMap<u32, u64>,
}

/// Model, tokenizer and settings of a run on one backend.
pub struct Pretraining<B: Backend> {
    config: PretrainRun,
    predict: TokenPrediction<B>,
}

/// What the model said about the masked patches of some images, on its way to the host.
pub struct Predicted<B: Backend> {
    losses: Later<B::Master>, // [M]
    argmax: Later<u32>,       // [M]
    labels: Later<u32>,       // [M]
}

impl<B: Backend> Task<B> for Pretraining<B> {
    type Config = PretrainRun;
    type Data = Source;
    type Sample = MaskedSample;
    type Seen = Predicted<B>;
    type Window = PretrainWindow;
    type Extra = ();
    type Summary = PretrainSummary;

    const FEWEST: u64 = 300;

    /// Loads the tokenizer and checks that it fits the encoder.
    fn new(bk: &B, config: &PretrainRun) -> Result<Self> {
        let sizes = config.beit();
        let tokenizer = Tokenizer::load(bk, Path::new(&config.tokenizer))?;
        tokenizer.fits(&sizes)?;
        let mut model = MaskedImageModel::new(bk, &sizes);
        model.encoder.recompute = config.recompute;
        let masks = mask_config(config, &sizes);
        masks.validate()?;
        let own = tokenizer.dvae.config.image;
        let augment = AugmentConfig {
            jitter: config.jitter,
            flip: config.recipe.flip,
            crop_scale: (config.recipe.crop_min, 1.0),
            ..views(sizes.encoder.image, own, config.normalise)
        };
        augment.validate()?;
        let seed = config.common.seed;
        let predict = TokenPrediction { model, tokenizer, masks, augment, seed };
        Ok(Self { config: config.clone(), predict })
    }

    fn layout(&self) -> &Layout {
        &self.predict.model.layout
    }

    fn start(&self, random: Vec<f32>) -> Result<Vec<f32>> {
        from_file(&self.config.init, Task::<B>::layout(self), random)
    }

    fn open(&self, source: &str, split: Split) -> Result<Source> {
        Source::open_aloud(source, &self.config.common.source(split))
    }

    fn inputs(&self) -> Vec<(&'static str, u32)> {
        vec![("tokenizer", self.predict.tokenizer.checksum)]
    }

    fn extra(&self, _: &B, _: &Params<B>) {}

    /// Both views of a random crop and its mask.
    fn sampler(&self) -> impl Fn(Labelled, u32) -> MaskedSample + Send + Sync + 'static {
        let TokenPrediction { augment, masks, seed, .. } = &self.predict;
        let (augment, masks, seed) = (augment.clone(), *masks, *seed);
        move |item, epoch| {
            let stream = |purpose| Philox::new(seed, purpose, epoch, item.index as u32);
            MaskedSample {
                views: two_views(&augment, &item.image, &mut stream(Purpose::Augment)),
                mask: masks.draw(&mut stream(Purpose::Mask)),
            }
        }
    }

    fn bytes(&self, sample: &MaskedSample) -> usize {
        let Views { patch, tokens } = &sample.views;
        patch.pixels.len() + tokens.pixels.len() + sample.mask.len()
    }

    /// Masked patches.
    fn terms(&self, samples: &[MaskedSample], at: At) -> Result<usize> {
        masked(samples.iter().map(|sample| &sample.mask[..]), at.step)
    }

    fn gradients(
        &self,
        bk: &B,
        w: &Params<B>,
        (): &(),
        part: &Part<MaskedSample>,
        g: &mut Params<B>,
    ) -> Option<Predicted<B>> {
        let TokenPrediction { model, seed, .. } = &self.predict;
        let (mut batch, labels) = self.predict.batch(bk, part.samples);
        if labels.is_empty() {
            return None;
        }
        let Part { range, whole, stream, scale, .. } = part;
        batch.keep = Some(drop_path(bk, &model.config.encoder, *whole, range, *seed, *stream));
        let grad = &mut Grad::new(Ctx::new(bk, w), g);
        let losses = model.loss_and_gradients(grad, &batch, &labels, *scale);
        Some(Predicted {
            losses: losses.rows.read_later(bk),
            argmax: losses.argmax.read_later(bk),
            labels: labels.read_later(bk),
        })
    }

    fn absorb(&self, seen: Predicted<B>, window: &mut PretrainWindow) -> bool {
        let (argmax, labels) = (seen.argmax.wait(), seen.labels.wait());
        let loss = seen.losses.wait().into_iter().map(Float::to_f64).sum::<f64>();
        window.correct += argmax.iter().zip(&labels).filter(|(a, b)| a == b).count() as u64;
        window.loss += loss;
        window.masked += labels.len() as u64;
        labels.iter().for_each(|&l| *window.tokens.entry(l).or_default() += 1);
        loss.is_finite()
    }

    fn diagnose(&self, bk: &B, w: &Params<B>, (): &(), part: &Part<MaskedSample>) -> String {
        self.predict.first_non_finite(bk, w, &self.predict.batch(bk, part.samples).0)
    }

    fn schedules(&self, length: Length) -> Schedules {
        let c = &self.config;
        let warmup = match c.recipe.warmup_steps {
            0 => c.warmup_epochs as u64 * length.per_epoch,
            n => n as u64,
        };
        Schedules::cosines(c, warmup, c.weight_decay_end, length)
    }

    fn metrics(
        &self,
        _: &B,
        _: &State<B>,
        _: &[MaskedSample],
        window: &PretrainWindow,
        _: At,
    ) -> (Vec<(&'static str, f64)>, String) {
        let masked = window.masked as f64;
        let (loss, accuracy) = (window.loss / masked, window.correct as f64 / masked);
        let most = window.tokens.values().copied().max().unwrap_or(0) as f64 / masked;
        let line = vec![
            ("loss", loss),
            ("masked_accuracy", accuracy),
            ("majority_accuracy", most),
            ("chance", 1.0 / self.predict.model.config.vocab as f64),
        ];
        (line, format!("loss {loss:.3}, accuracy {accuracy:.3} (constant guess {most:.3})"))
    }

    fn validate(
        &self,
        bk: &B,
        w: &Params<B>,
        (): &(),
        data: &Subset<Source>,
    ) -> Result<Validation> {
        let seen = self.predict.evaluate(bk, w, data)?;
        let figures = vec![
            ("val_loss", seen.loss / seen.masked()),
            ("val_masked_accuracy", seen.correct as f64 / seen.masked()),
            ("val_majority_accuracy", seen.majority()),
        ];
        Ok(Validation { figures, score: None })
    }

    fn evaluate(&self, bk: &B, trained: &Trained<B, Self>) -> Result<PretrainSummary> {
        let seen = self.predict.evaluate(bk, trained.w, trained.data)?;
        Ok(PretrainSummary::new(trained, &seen, self.predict.model.config.vocab))
    }

    fn page(&self, summary: &PretrainSummary) -> Page {
        summary.page()
    }

    fn model(&self) -> (ModelConfig, Option<Normalise>) {
        let sizes = self.predict.model.config.clone();
        (ModelConfig::Beit(sizes), Some(self.config.normalise))
    }

    fn pictures(&self, bk: &B, out: &Path) -> Result<Vec<(&'static str, Picture)>> {
        let picture = reconstruction_picture(
            bk,
            &Reconstruction {
                tokenizer: Path::new(&self.config.tokenizer),
                model: Some(out),
                data: &self.config.recipe.data,
                images: 6,
                seed: self.config.common.seed,
                split: Split::Train,
                normalise: None,
                ratios: &[],
            },
        )?;
        Ok(vec![("original | masked | tokens decoded | predicted tokens decoded", picture)])
    }
}

/// Patches that the masks of a step hide; none would leave the step without a loss.
fn masked<'a>(masks: impl Iterator<Item = &'a [bool]>, step: u64) -> Result<usize> {
    match masks.flatten().filter(|hidden| **hidden).count() {
        0 => Err(Error::Training(format!(
            "step {}: no patch of the batch is masked, so there is no loss; set masking=block_exact, which \
             hides masked_patches of every image (with --resume, --allow-change masking, too)",
            step + 1
        ))),
        count => Ok(count),
    }
}

fn mask_config(config: &PretrainRun, sizes: &BeitConfig) -> MaskConfig {
    let (height, width) = sizes.encoder.grid();
    MaskConfig {
        masking: config.masking,
        max_block: config.mask_max_block,
        ..MaskConfig::block(height, width, config.masked_patches, config.mask_min_block)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Preset, RunConfig};
    use crate::data::Masking;

    #[test]
    fn a_step_without_a_masked_patch_names_what_helps() {
        let empty = vec![false; 64];
        let text = masked([&empty[..], &empty].into_iter(), 4).unwrap_err().to_string();
        assert!(text.contains("step 5") && text.contains("set masking=block_exact"), "{text}");
        assert!(!text.contains("mask_min_block"), "{text}");
        // What it names does help, with the smallest block, too.
        let config = PretrainRun {
            masking: Masking::BlockExact,
            mask_min_block: 1,
            ..PretrainRun::preset(Preset::Tiny)
        };
        let masks = mask_config(&config, &config.beit());
        masks.validate().unwrap();
        for index in 0..200 {
            let mask = masks.draw(&mut Philox::new(0, Purpose::Mask, 0, index));
            assert_eq!(masked([&mask[..]].into_iter(), 0).unwrap(), config.masked_patches);
        }
    }
}
