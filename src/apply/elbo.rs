//! `beit elbo`: the bound of the two stages as a number (arXiv 2106.08254, eq. 2; 2102.12092, eq. 1).
//!
//! ```text
//! ln p(x | x̃) ≥ E_{z~q(z|x)}[ln p(x|z)] − KL(q(z|x) ‖ p(z|x̃))
//! ```
//! x are the bytes of the tokenizer's view, q the softmax of its logits, p(x|z) its decoder, and the prior is
//! uniform or what the encoder predicts from the masked image x̃, at masked positions or at all of them. The
//! page says what each figure is.

pub mod byte_masses;
mod figures;
mod summary;
mod terms;
#[cfg(test)]
mod toy;

pub use byte_masses::ByteMasses;
pub use figures::{BoundFigure, BoundSizes};
pub use summary::{BoundSummary, ImageBound};
pub use terms::{BoundTerms, Chances, Seen, TwoStages};

use super::frozen::{Tokenizer, predicts_tokens, spread, views};
use super::masked::usual_masks;
use crate::config::{Layers, Recon, TokenizerRun};
use crate::data::augment::eval_views;
use crate::data::loader::map_items;
use crate::data::pixels::Normalise;
use crate::data::{AugmentConfig, Labelled, Source, SourceOptions, Split};
use crate::error::{Error, Result};
use crate::models::beit::MaskedImageModel;
use crate::ops::Backend;
use crate::params::Params;
use crate::run::{Progress, interrupted, is_news};
use crate::weights::{load_model, load_weights};
use std::path::Path;

/// Numbers of a batch's logits, at most: 16 MiB in f32, of which a few copies are held at once.
const BATCH_LOGITS: usize = 1 << 22;

/// What is measured.
pub struct BoundTask<'a> {
    /// Run folder or file of the tokenizer.
    pub tokenizer: &'a Path,
    /// Run folder or file of the encoder.
    pub model: &'a Path,
    /// Images, as on the command line.
    pub data: &'a str,
    /// Images measured, at most, spread over the source.
    pub images: usize,
    /// Seed of codes and masks.
    pub seed: u64,
    /// Codes drawn for each image.
    pub draws: u32,
    /// Masks of each image.
    pub masks: u32,
    /// τ of the relaxed codes; where `None`, the one that the tokenizer's run ended with.
    pub temperature: Option<f64>,
    /// Mean and deviation of the encoder's view; where `None`, those that the encoder was trained with.
    pub normalise: Option<Normalise>,
}

/// The models and images of a task, found to fit each other.
pub struct OpenedBound<'a, B: Backend> {
    task: &'a BoundTask<'a>,
    tokenizer: Tokenizer<B>,
    model: MaskedImageModel<B>,
    w: Params<B>,
    temperature: f64,
    augment: AugmentConfig,
    source: Source,
}

impl BoundTask<'_> {
    /// Reads the models and lists the images.
    pub fn open<B: Backend>(&self, bk: &B) -> Result<OpenedBound<'_, B>> {
        let tokenizer = Tokenizer::load(bk, self.tokenizer)?;
        let file = load_model(self.model)?;
        let model = MaskedImageModel::new(bk, predicts_tokens(&file)?);
        let tokenizer = tokenizer.fitted(&model.config)?;
        let w = load_weights(bk, &file, &model.layout)?;
        let normalise = self.normalise.or(file.normalise).unwrap_or(Normalise::Half);
        Ok(OpenedBound {
            task: self,
            temperature: temperature(self)?,
            augment: views(model.config.encoder.image, tokenizer.dvae.config.image, normalise),
            source: Source::open_aloud(self.data, &SourceOptions::new(Split::Test, self.seed))?,
            tokenizer,
            model,
            w,
        })
    }
}

impl<B: Backend> OpenedBound<'_, B> {
    /// The bound on each image, batch by batch. [`Error::Interrupted`] once somebody wants the process to end.
    pub fn measure(&self, bk: &B) -> Result<BoundSummary> {
        let BoundTask { tokenizer, model, data, seed, draws, masks, .. } = *self.task;
        let (per_image, unreadable) = self.per_image(bk)?;
        let terms: Vec<_> = per_image.iter().map(|image| image.terms).collect();
        let hidden: f64 = terms.iter().map(|t| t.hidden).sum();
        let sizes = self.sizes();
        Ok(BoundSummary {
            tokenizer: tokenizer.display().to_string(),
            model: model.display().to_string(),
            data: data.to_owned(),
            images: terms.len(),
            figures: figures::figures(&terms, &sizes),
            sizes,
            seed,
            draws,
            masks,
            masked_positions: hidden / terms.len() as f64,
            temperature: self.temperature,
            per_image,
            unreadable,
        })
    }

    fn sizes(&self) -> BoundSizes {
        let config = &self.tokenizer.dvae.config;
        let (height, width) = config.image;
        let (positions, vocab) = (config.tokens(), config.vocab);
        BoundSizes { dimensions: 3 * height * width, positions, vocab }
    }

    fn stages(&self) -> TwoStages<'_, B> {
        let BoundTask { seed, draws, masks, .. } = *self.task;
        TwoStages {
            tokenizer: (&self.tokenizer.dvae, &self.tokenizer.w),
            encoder: (&self.model, &self.w),
            normalise: self.augment.normalise(),
            masks: usual_masks(self.model.config.encoder.grid()),
            chances: Chances { seed, draws, masks, temperature: self.temperature },
        }
    }

    /// Each readable image's terms, and why the others cannot be read.
    fn per_image(&self, bk: &B) -> Result<(Vec<ImageBound>, Vec<String>)> {
        let (stages, BoundSizes { positions, vocab, .. }) = (self.stages(), self.sizes());
        let indices = spread(&self.source, self.task.images);
        let batch = (BATCH_LOGITS / (positions * vocab)).clamp(1, 64);
        let mut progress = Progress::new("bound", indices.len() as u64, 0, "images");
        let (mut images, mut unreadable) = (Vec::new(), Vec::new());
        for chunk in indices.chunks(batch) {
            if interrupted() {
                return Err(Error::Interrupted(
                    "stopped; a bound cannot be continued, only measured again".into(),
                ));
            }
            let views = |item: Labelled| eval_views(&self.augment, &item.image);
            let (seen, bad) = map_items(&self.source, chunk, views);
            let lines = bad.values().map(|reason| format!("skipped: {reason}"));
            lines.filter(|line| is_news(line)).for_each(|line| progress.note(&line));
            unreadable.extend(bad.into_values());
            if !seen.is_empty() {
                for ((i, _), terms) in seen.iter().zip(stages.measure(bk, &seen)) {
                    images.push(self.checked(*i, terms)?);
                }
            }
            progress.advance(chunk.len() as u64, "");
        }
        progress.finish();
        if images.is_empty() {
            let (data, count) = (self.task.data, indices.len());
            return Err(Error::config(format!("{data}: none of {count} images can be read")));
        }
        Ok((images, unreadable))
    }

    fn checked(&self, image: usize, terms: BoundTerms) -> Result<ImageBound> {
        let name = self.source.name(image);
        if terms.is_finite() {
            return Ok(ImageBound { name, terms });
        }
        Err(Error::config(format!(
            "{name}: its bound is not finite: the tokenizer or the encoder overflows on it"
        )))
    }
}

/// τ as given, or as the tokenizer's run ended. A tokenizer that its run trained without a likelihood is
/// refused.
fn temperature(task: &BoundTask) -> Result<f64> {
    let tokenizer = task.tokenizer;
    let settings = match tokenizer.is_file() {
        true => tokenizer.with_file_name("config.toml"),
        false => tokenizer.join("config.toml"),
    };
    if settings.exists() {
        let folder = settings.parent().unwrap_or(Path::new(""));
        let run: TokenizerRun = Layers::default().resolve_in(folder)?;
        if run.coding.recon != Recon::LogitLaplace {
            let text = "recon = mse leaves ln b untrained, so that there is no likelihood: train the tokenizer with \
                        recon = logit_laplace";
            return Err(Error::format(&settings, text));
        }
        return Ok(task.temperature.unwrap_or(run.temperature_end));
    }
    task.temperature.ok_or_else(|| {
        let text = "has no config.toml beside it that says which temperature its training ended with: give \
                    --temperature (1/16 = 0.0625 in DALL-E)";
        Error::format(tokenizer, text)
    })
}
