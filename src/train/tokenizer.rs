//! `beit train-tokenizer`: the discrete VAE by its relaxed evidence lower bound (arXiv
//! 2102.12092, §2.1).
//!
//! `Deviation:` schedules end after a share of the run, not after a fixed number of updates, so that a
//! short run sees all of them; "cosine", which the paper does not define, is a half cosine.

use crate::apply::frozen::{broken_parameter, views};
use crate::apply::hard_codes::{HardCodes, add_hard_codes, hard_codes, mapped};
use crate::apply::reconstruct::{Reconstruction, reconstruction_picture};
use crate::config::{Crops, Recipe, Replace, TokenizerRun};
use crate::data::augment::token_view;
use crate::data::pixels::Normalise;
use crate::data::{AugmentConfig, Image, Labelled, Source, Split, Subset};
use crate::error::Result;
use crate::models::dvae::{Dvae, DvaeLosses, Likelihood};
use crate::models::kind::ModelConfig;
use crate::ops::Backend;
use crate::ops::gumbel_softmax::Noise;
use crate::optim::state::State;
use crate::params::{Ctx, Grad, Layout, Params};
use crate::real::Float;
use crate::report::page::Page;
use crate::report::picture::Picture;
use crate::rng::{Philox, Purpose};
use crate::storage::Later;
use crate::tensor::Master;
use crate::train::annealing::dvae_step;
use crate::train::from_file;
use crate::train::length::Length;
use crate::train::summary::TokenizerSummary;
use crate::train::task::{At, Part, Schedules, Task, Trained, Validation};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Sums since the last line of metrics; part of a checkpoint, so that a resumed run logs the same.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct TokenizerWindow {
    reconstruction: f64,
    kl: f64,
    unused: f64,
    images: u64,
    counts: Vec<u64>,
}

/// The views of a run that trains on images of this size.
pub(super) fn token_views(
    image: (usize, usize),
    recipe: &Recipe,
    crops: &Crops,
) -> Result<AugmentConfig> {
    let augment = AugmentConfig {
        flip: recipe.flip,
        crop_scale: (crops.crop_min, 1.0),
        ..views(image, image, Normalise::Half)
    };
    augment.validate()?;
    Ok(augment)
}

/// What the loader's threads make of an item in an epoch.
pub(super) fn token_sampler(
    augment: &AugmentConfig,
    seed: u64,
) -> impl Fn(Labelled, u32) -> Image + Send + Sync + 'static {
    let augment = augment.clone();
    move |item, epoch| {
        let mut rng = Philox::new(seed, Purpose::Augment, epoch, item.index as u32);
        token_view(&augment, &item.image, &mut rng)
    }
}

/// Model and settings of a run.
pub struct TokenizerTraining {
    config: TokenizerRun,
    dvae: Dvae,
    augment: AugmentConfig,
}

impl TokenizerTraining {
    /// Adds the gradients of a micro-batch to `g`; its losses.
    fn losses<B: Backend>(
        &self,
        bk: &B,
        weights: &Params<B>,
        part: &Part<Image>,
        g: &mut Params<B>,
    ) -> DvaeLosses<B> {
        let target = mapped(bk, part.samples);
        let x = bk.to_elem(&target, 1.0);
        // Every micro-batch has its own noise.
        let noise = Noise::Philox { seed: self.config.common.seed, step: part.stream };
        let step = dvae_step(&self.config, part.at, part.scale);
        let grad = &mut Grad::new(Ctx::new(bk, weights), g);
        self.dvae.loss_and_gradients(grad, &x, &target, &noise, &step, false)
    }
}

/// What a micro-batch saw, on its way to the host.
pub struct Reconstructed<B: Backend> {
    reconstruction: Later<B::Master>,
    kl: Later<B::Master>,
    unused: Later<B::Master>,
    tokens: Later<u32>,
    images: usize,
}

impl<B: Backend> Task<B> for TokenizerTraining {
    type Config = TokenizerRun;
    type Data = Source;
    /// A view `[H,W,3]`.
    type Sample = Image;
    type Seen = Reconstructed<B>;
    type Window = TokenizerWindow;
    type Extra = ();
    type Summary = TokenizerSummary;

    /// The usage term sees the codes of a whole micro-batch, and its noise is numbered there.
    const WHOLE: bool = true;

    const FEWEST: u64 = 300;

    fn new(_: &B, config: &TokenizerRun) -> Result<Self> {
        let sizes = config.dvae();
        let augment = token_views(sizes.image, &config.recipe, &config.crops)?;
        Ok(Self { config: config.clone(), dvae: Dvae::new(&sizes), augment })
    }

    fn layout(&self) -> &Layout {
        &self.dvae.layout
    }

    fn start(&self, random: Vec<f32>) -> Result<Vec<f32>> {
        from_file(&self.config.init, Task::<B>::layout(self), random)
    }

    fn open(&self, source: &str, split: Split) -> Result<Source> {
        Source::open_aloud(source, &self.config.common.source(split))
    }

    fn extra(&self, _: &B, _: &Params<B>) {}

    fn sampler(&self) -> impl Fn(Labelled, u32) -> Image + Send + Sync + 'static {
        token_sampler(&self.augment, self.config.common.seed)
    }

    fn bytes(&self, sample: &Image) -> usize {
        sample.pixels.len()
    }

    /// Sub-pixels.
    fn terms(&self, samples: &[Image], _: At) -> Result<usize> {
        let (h, w) = self.dvae.config.image;
        Ok(samples.len() * h * w * 3)
    }

    fn gradients(
        &self,
        bk: &B,
        w: &Params<B>,
        (): &(),
        part: &Part<Image>,
        g: &mut Params<B>,
    ) -> Option<Reconstructed<B>> {
        let losses = self.losses(bk, w, part, g);
        Some(Reconstructed {
            reconstruction: losses.reconstruction.read_later(bk),
            kl: losses.kl.read_later(bk),
            unused: losses.unused.read_later(bk),
            tokens: bk.argmax(&losses.logits).read_later(bk),
            images: part.samples.len(),
        })
    }

    fn absorb(&self, seen: Reconstructed<B>, window: &mut TokenizerWindow) -> bool {
        let sum = |x: Later<B::Master>| x.wait().into_iter().map(Float::to_f64).sum::<f64>();
        let (reconstruction, kl) = (sum(seen.reconstruction), sum(seen.kl));
        let tokens = seen.tokens.wait();
        window.reconstruction += reconstruction;
        window.kl += kl;
        window.unused += tokens.len() as f64 * sum(seen.unused);
        window.images += seen.images as u64;
        window.counts.resize(self.dvae.config.vocab, 0);
        tokens.iter().for_each(|&t| window.counts[t as usize] += 1);
        (reconstruction + kl).is_finite()
    }

    fn diagnose(&self, bk: &B, w: &Params<B>, (): &(), part: &Part<Image>) -> String {
        let losses = self.losses(bk, w, part, &mut Params::zeros(bk, &w.layout));
        if let Some(name) = broken_parameter(bk, w) {
            return format!("parameter {name}");
        }
        let tensors =
            [("the encoder's logits", &losses.logits), ("the decoder's output", &losses.out)];
        let broken = |x: &Master<B>| x.to_f64(bk).iter().any(|x| !x.is_finite());
        let first = tensors.into_iter().find(|(_, x)| broken(x));
        first.map_or("the loss", |(name, _)| name).into()
    }

    fn schedules(&self, length: Length) -> Schedules {
        let c = &self.config;
        Schedules::cosines(c, c.recipe.warmup_steps as u64, c.common.weight_decay, length)
    }

    fn metrics(
        &self,
        bk: &B,
        state: &State<B>,
        samples: &[Image],
        window: &TokenizerWindow,
        at: At,
    ) -> (Vec<(&'static str, f64)>, String) {
        let step = dvae_step(&self.config, at, 1.0);
        let sub_pixels = window.images as f64
            * (self.augment.token_height * self.augment.token_width * 3) as f64;
        let mut hard = HardCodes::default();
        add_hard_codes(bk, &self.dvae, &state.w, samples, &mut hard);
        let seen = HardCodes { counts: window.counts.clone(), ..HardCodes::default() };
        let relaxed = window.reconstruction / sub_pixels;
        let kl = window.kl / seen.positions();
        let regularisers = step.kl_weight * window.kl + step.usage_weight * window.unused;
        let mut line = vec![
            ("loss", relaxed + regularisers / sub_pixels),
            ("reconstruction", relaxed),
            ("kl", kl),
            ("kl_aggregate", window.unused / seen.positions()),
            ("psnr_db", hard.psnr_db()),
            ("codebook_usage", seen.usage()),
            ("codebook_perplexity", seen.perplexity()),
            ("temperature", step.temperature),
            ("kl_weight", step.kl_weight),
        ];
        if step.likelihood == Likelihood::LogitLaplace {
            // Relaxed minus hard evidence, in nats per sub-pixel: 0 is the aim of the annealing.
            line.push(("relaxed_minus_hard", hard.nll / hard.sub_pixels - relaxed));
        }
        let (psnr, perplexity) = (hard.psnr_db(), seen.perplexity());
        (line, format!("PSNR {psnr:.2} dB, perplexity {perplexity:.1}, KL {kl:.2}"))
    }

    fn validate(
        &self,
        bk: &B,
        w: &Params<B>,
        (): &(),
        data: &Subset<Source>,
    ) -> Result<Validation> {
        let hard = hard_codes(bk, &self.dvae, w, &self.augment, data)?;
        let figures = vec![
            ("val_nll", hard.nll / hard.sub_pixels),
            ("val_psnr_db", hard.psnr_db()),
            ("val_codebook_perplexity", hard.perplexity()),
        ];
        Ok(Validation { figures, score: None })
    }

    fn evaluate(&self, bk: &B, trained: &Trained<B, Self>) -> Result<TokenizerSummary> {
        let hard = hard_codes(bk, &self.dvae, trained.w, &self.augment, trained.data)?;
        Ok(TokenizerSummary::new(trained, &hard, self.dvae.config.vocab))
    }

    fn page(&self, summary: &TokenizerSummary) -> Page {
        summary.page()
    }

    fn model(&self) -> (ModelConfig, Option<Normalise>) {
        (ModelConfig::Dvae(self.dvae.config.clone()), None)
    }

    fn pictures(&self, bk: &B, out: &Path) -> Result<Vec<(&'static str, Picture)>> {
        let picture = reconstruction_picture(
            bk,
            &Reconstruction {
                tokenizer: out,
                model: None,
                data: &self.config.recipe.data,
                images: 6,
                seed: self.config.common.seed,
                split: Split::Train,
                normalise: None,
                masks: None,
                replace: Replace::MaskToken,
                ratios: &[],
            },
        )?;
        Ok(vec![("original | tokens decoded", picture)])
    }
}
