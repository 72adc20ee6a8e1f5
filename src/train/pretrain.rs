//! `beit pretrain`: masked image modelling on the tokens of a frozen tokenizer (arXiv
//! 2106.08254, §2.3), and its ablations (§3.3): pixels as targets, a loss over all patches, nothing masked,
//! other patches in the masked places.

use crate::apply::frozen::{Tokenizer, views};
use crate::apply::masked::{MaskedSample, PatchAnswers, PatchPrediction, PatchTarget};
use crate::apply::reconstruct::{Reconstruction, reconstruction_picture};
use crate::config::{LossOver, PretrainRun, Replace};
use crate::data::augment::{Views, two_views};
use crate::data::pixels::Normalise;
use crate::data::{AugmentConfig, Labelled, Masking, Source, SourceOptions, Split, Subset};
use crate::error::{Error, Result};
use crate::models::beit::MaskedImageModel;
use crate::models::config::{BeitConfig, PatchHead};
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
use crate::weights::{load_model, load_weights};
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

/// Model, target and settings of a run on one backend.
pub struct Pretraining<B: Backend> {
    config: PretrainRun,
    predict: PatchPrediction<B>,
}

/// What the model said about the patches of some images that the loss is over, on its way to the host.
pub struct Predicted<B: Backend> {
    losses: Later<B::Master>,                 // [M]
    tokens: Option<(Later<u32>, Later<u32>)>, // said and right [M]
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

    /// Loads the tokenizer, where there is one, and checks that it fits the encoder.
    fn new(bk: &B, config: &PretrainRun) -> Result<Self> {
        let sizes = config.beit();
        let (target, own) = match sizes.head {
            PatchHead::Tokens(_) => {
                let tokenizer = tokenizer(bk, config, &sizes)?;
                let own = tokenizer.dvae.config.image;
                (PatchTarget::Tokens(Box::new(tokenizer)), own)
            }
            PatchHead::Pixels(values) => (PatchTarget::Pixels(values), (0, 0)),
        };
        let mut model = MaskedImageModel::new(bk, &sizes);
        model.encoder.recompute = config.sizes.recompute;
        let masks = config.masks();
        masks.validate()?;
        let augment = AugmentConfig {
            jitter: config.jitter,
            flip: config.recipe.flip,
            crop_scale: (config.crops.crop_min, 1.0),
            ..views(sizes.encoder.image, own, config.normalise)
        };
        augment.validate()?;
        let PretrainRun { loss_over, replace, .. } = *config;
        let seed = config.common.seed;
        let predict = PatchPrediction { model, target, loss_over, masks, replace, augment, seed };
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
        match &self.predict.target {
            PatchTarget::Tokens(tokenizer) => vec![("tokenizer", tokenizer.checksum)],
            PatchTarget::Pixels(_) => Vec::new(),
        }
    }

    fn extra(&self, _: &B, _: &Params<B>) {}

    /// Both views of a random crop and its mask.
    fn sampler(&self) -> impl Fn(Labelled, u32) -> MaskedSample + Send + Sync + 'static {
        let PatchPrediction { augment, masks, seed, .. } = &self.predict;
        let (augment, masks, seed) = (augment.clone(), *masks, *seed);
        move |item, epoch| {
            let stream = |purpose| Philox::new(seed, purpose, epoch, item.index as u32);
            MaskedSample {
                views: two_views(&augment, &item.image, &mut stream(Purpose::Augment)),
                shown: None,
                mask: masks.draw(&mut stream(Purpose::Mask)),
            }
        }
    }

    fn bytes(&self, sample: &MaskedSample) -> usize {
        let Views { patch, tokens } = &sample.views;
        let shown = sample.shown.as_ref().map_or(0, |image| image.pixels.len());
        patch.pixels.len() + tokens.pixels.len() + shown + sample.mask.len()
    }

    /// Puts other patches of the batch into the hidden places, where that is asked for.
    fn collate(&self, mut samples: Vec<MaskedSample>, at: At) -> Vec<MaskedSample> {
        let (lo, hi) = (at.step as u32, (at.step >> 32) as u32);
        let rng = Philox::new(self.predict.seed, Purpose::Replace, lo, hi);
        self.predict.replace(&mut samples, rng);
        samples
    }

    /// Patches that the loss is over.
    fn terms(&self, samples: &[MaskedSample], at: At) -> Result<usize> {
        if self.predict.loss_over == LossOver::All {
            return Ok(samples.iter().map(|sample| sample.mask.len()).sum());
        }
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
        let PatchPrediction { model, seed, .. } = &self.predict;
        let (mut batch, answers) = self.predict.batch(bk, part.samples);
        if answers.count() == 0 {
            return None;
        }
        let Part { range, whole, stream, scale, .. } = part;
        batch.keep = Some(drop_path(bk, &model.config.encoder, *whole, range, *seed, *stream));
        let grad = &mut Grad::new(Ctx::new(bk, w), g);
        Some(match answers {
            PatchAnswers::Tokens(labels) => {
                let losses = model.loss_and_gradients(grad, &batch, &labels, *scale);
                let tokens = (losses.argmax.read_later(bk), labels.read_later(bk));
                Predicted { losses: losses.rows.read_later(bk), tokens: Some(tokens) }
            }
            PatchAnswers::Pixels(targets) => {
                let scale = scale / model.config.outputs() as f64;
                let errors = model.squared_errors_and_gradients(grad, &batch, &targets, scale);
                Predicted { losses: errors.read_later(bk), tokens: None }
            }
        })
    }

    fn absorb(&self, seen: Predicted<B>, window: &mut PretrainWindow) -> bool {
        let losses = seen.losses.wait();
        window.masked += losses.len() as u64;
        let mut loss = losses.into_iter().map(Float::to_f64).sum::<f64>();
        match seen.tokens {
            Some((argmax, labels)) => {
                let (argmax, labels) = (argmax.wait(), labels.wait());
                let same = argmax.iter().zip(&labels).filter(|(a, b)| a == b);
                window.correct += same.count() as u64;
                labels.iter().for_each(|&l| *window.tokens.entry(l).or_default() += 1);
            }
            // The mean over the values of a patch.
            None => loss /= self.predict.model.config.outputs() as f64,
        }
        window.loss += loss;
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
        let PatchHead::Tokens(vocab) = self.predict.model.config.head else {
            let loss = window.loss / masked;
            return (vec![("loss", loss)], format!("squared error {loss:.4}"));
        };
        let (loss, accuracy) = (window.loss / masked, window.correct as f64 / masked);
        let most = window.tokens.values().copied().max().unwrap_or(0) as f64 / masked;
        let line = vec![
            ("loss", loss),
            match self.predict.loss_over {
                LossOver::Masked => ("masked_accuracy", accuracy),
                LossOver::All => ("patch_accuracy", accuracy),
            },
            ("majority_accuracy", most),
            ("chance", 1.0 / vocab as f64),
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
        Ok(Validation { figures: seen.figures.logged(), score: None })
    }

    fn evaluate(&self, bk: &B, trained: &Trained<B, Self>) -> Result<PretrainSummary> {
        let seen = self.predict.evaluate(bk, trained.w, trained.data)?;
        Ok(PretrainSummary::new(trained, seen))
    }

    fn page(&self, summary: &PretrainSummary) -> Page {
        summary.page()
    }

    fn model(&self) -> (ModelConfig, Option<Normalise>) {
        let sizes = self.predict.model.config.clone();
        (ModelConfig::Beit(sizes), Some(self.config.normalise))
    }

    fn pictures(&self, bk: &B, out: &Path) -> Result<Vec<(&'static str, Picture)>> {
        if let PatchTarget::Pixels(values) = self.predict.target {
            let w = load_weights(bk, &load_model(out)?, Task::<B>::layout(self))?;
            let options = SourceOptions::new(Split::Train, self.config.common.seed);
            let source = Source::open_aloud(&self.config.recipe.data, &options)?;
            let picture = self.predict.pixel_picture(bk, &w, &source, (values, 6))?;
            return Ok(vec![("original | shown | predicted pixels", picture)]);
        }
        let own_law =
            self.config.masking == Masking::None || self.config.replace == Replace::RandomPatch;
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
                masks: own_law.then_some(self.predict.masks),
                replace: self.config.replace,
                ratios: &[],
            },
        )?;
        Ok(vec![("original | masked | tokens decoded | predicted tokens decoded", picture)])
    }
}

/// The tokenizer that the settings name.
fn tokenizer<B: Backend>(bk: &B, config: &PretrainRun, sizes: &BeitConfig) -> Result<Tokenizer<B>> {
    if config.tokenizer.is_empty() {
        return Err(Error::config(
            "target=tokens needs a tokenizer: give --tokenizer RUN|FILE, or --set target=pixels, which needs none",
        ));
    }
    Tokenizer::load(bk, Path::new(&config.tokenizer))?.fitted(sizes)
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
        let masks = config.masks();
        masks.validate().unwrap();
        for index in 0..200 {
            let mask = masks.draw(&mut Philox::new(0, Purpose::Mask, 0, index));
            assert_eq!(masked([&mask[..]].into_iter(), 0).unwrap(), config.masked_patches);
        }
    }
}
