//! `beit train-tokenizer --kind vae`: the Gaussian VAE by its evidence lower bound (arXiv 1312.6114, eq. 10), on the
//! images and with the networks of the discrete one.

use crate::apply::frozen::{broken_parameter, load_all, spread};
use crate::apply::hard_codes::mapped;
use crate::apply::latents::{LatentFigures, Latents};
use crate::config::{Recon, VaeRun};
use crate::data::augment::eval_views;
use crate::data::pixels::Normalise;
use crate::data::{AugmentConfig, Image, Labelled, Source, Split, Subset};
use crate::error::Result;
use crate::models::kind::ModelConfig;
use crate::models::vae::{Vae, VaeLosses};
use crate::ops::Backend;
use crate::ops::gumbel_softmax::Noise;
use crate::optim::state::State;
use crate::params::{Ctx, Grad, Layout, Params};
use crate::real::Float;
use crate::report::page::Page;
use crate::report::picture::Picture;
use crate::storage::Later;
use crate::tensor::Master;
use crate::train::annealing::vae_step;
use crate::train::from_file;
use crate::train::length::Length;
use crate::train::summary::VaeSummary;
use crate::train::task::{At, Part, Schedules, Task, Trained, Validation};
use crate::train::tokenizer::{token_sampler, token_views};
use crate::weights::{load_model, load_weights};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Sums since the last line of metrics; part of a checkpoint, so that a resumed run logs the same.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct VaeWindow {
    reconstruction: f64,
    kl: f64,
    images: u64,
}

/// Model and settings of a run.
pub struct VaeTraining {
    config: VaeRun,
    vae: Vae,
    augment: AugmentConfig,
}

/// What a micro-batch saw, on its way to the host.
pub struct SeenByVae<B: Backend> {
    reconstruction: Later<B::Master>,
    kl: Later<B::Master>,
    images: usize,
}

impl VaeTraining {
    /// Adds the gradients of a micro-batch to `g`; its losses.
    fn losses<B: Backend>(
        &self,
        bk: &B,
        weights: &Params<B>,
        part: &Part<Image>,
        g: &mut Params<B>,
    ) -> VaeLosses<B> {
        let target = mapped(bk, part.samples);
        let x = bk.to_elem(&target, 1.0);
        let noise = Noise::Philox { seed: self.config.common.seed, step: part.stream };
        let step = vae_step(&self.config, part.at, part.scale);
        let grad = &mut Grad::new(Ctx::new(bk, weights), g);
        self.vae.loss_and_gradients(grad, &x, &target, &noise, &step, false)
    }

    fn latents<'a, B: Backend>(&'a self, w: &'a Params<B>) -> Latents<'a, B> {
        Latents { vae: &self.vae, w }
    }

    /// Bits per sub-pixel, where there is a likelihood.
    fn bits_per_dim(&self, seen: &LatentFigures) -> Option<f64> {
        let likelihood = self.config.coding.recon == Recon::LogitLaplace;
        likelihood.then(|| seen.bits_per_dim())
    }
}

impl<B: Backend> Task<B> for VaeTraining {
    type Config = VaeRun;
    type Data = Source;
    /// A view `[H,W,3]`.
    type Sample = Image;
    type Seen = SeenByVae<B>;
    type Window = VaeWindow;
    type Extra = ();
    type Summary = VaeSummary;

    /// Noise is numbered over a whole micro-batch.
    const WHOLE: bool = true;

    const FEWEST: u64 = 300;

    fn new(_: &B, config: &VaeRun) -> Result<Self> {
        let sizes = config.vae();
        let augment = token_views(sizes.trunk.image, &config.recipe, &config.crops)?;
        Ok(Self { config: config.clone(), vae: Vae::new(&sizes), augment })
    }

    fn layout(&self) -> &Layout {
        &self.vae.networks.layout
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
        let (h, w) = self.vae.config.trunk.image;
        Ok(samples.len() * h * w * 3)
    }

    fn gradients(
        &self,
        bk: &B,
        w: &Params<B>,
        (): &(),
        part: &Part<Image>,
        g: &mut Params<B>,
    ) -> Option<SeenByVae<B>> {
        let losses = self.losses(bk, w, part, g);
        Some(SeenByVae {
            reconstruction: losses.reconstruction.read_later(bk),
            kl: losses.kl.read_later(bk),
            images: part.samples.len(),
        })
    }

    fn absorb(&self, seen: SeenByVae<B>, window: &mut VaeWindow) -> bool {
        let sum = |x: Later<B::Master>| x.wait().into_iter().map(Float::to_f64).sum::<f64>();
        let (reconstruction, kl) = (sum(seen.reconstruction), sum(seen.kl));
        window.reconstruction += reconstruction;
        window.kl += kl;
        window.images += seen.images as u64;
        (reconstruction + kl).is_finite()
    }

    fn diagnose(&self, bk: &B, w: &Params<B>, (): &(), part: &Part<Image>) -> String {
        let losses = self.losses(bk, w, part, &mut Params::zeros(bk, &w.layout));
        if let Some(name) = broken_parameter(bk, w) {
            return format!("parameter {name}");
        }
        let tensors =
            [("the encoder's moments", &losses.moments), ("the decoder's output", &losses.out)];
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
        window: &VaeWindow,
        at: At,
    ) -> (Vec<(&'static str, f64)>, String) {
        let (h, w) = self.vae.config.trunk.image;
        let images = window.images as f64;
        let sub_pixels = images * (h * w * 3) as f64;
        let step = vae_step(&self.config, at, 1.0);
        let mut seen = LatentFigures::default();
        self.latents(&state.w).add(bk, samples, self.config.common.seed, &mut seen);
        let kl = window.kl / (images * self.vae.config.positions() as f64);
        let reconstruction = window.reconstruction / sub_pixels;
        let mut line = vec![
            ("loss", reconstruction + step.kl_weight * window.kl / sub_pixels),
            ("reconstruction", reconstruction),
            ("kl", kl),
            ("psnr_db", seen.psnr_db()),
            ("silent_channels", seen.silent()),
            ("kl_weight", step.kl_weight),
        ];
        line.extend(self.bits_per_dim(&seen).map(|bits| ("bits_per_dim", bits)));
        let silent = seen.silent();
        (line, format!("PSNR {:.2} dB, KL {kl:.2}, silent channels {silent:.2}", seen.psnr_db()))
    }

    fn validate(
        &self,
        bk: &B,
        w: &Params<B>,
        (): &(),
        data: &Subset<Source>,
    ) -> Result<Validation> {
        let seed = self.config.common.seed;
        let seen = self.latents(w).figures(bk, &self.augment, data, seed)?;
        let mut figures = vec![("val_psnr_db", seen.psnr_db()), ("val_kl", seen.kl())];
        figures.extend(self.bits_per_dim(&seen).map(|bits| ("val_bits_per_dim", bits)));
        Ok(Validation { figures, score: None })
    }

    fn evaluate(&self, bk: &B, trained: &Trained<B, Self>) -> Result<VaeSummary> {
        let seed = self.config.common.seed;
        let seen = self.latents(trained.w).figures(bk, &self.augment, trained.data, seed)?;
        Ok(VaeSummary::new(trained, &seen, self.bits_per_dim(&seen)))
    }

    fn page(&self, summary: &VaeSummary) -> Page {
        summary.page()
    }

    fn model(&self) -> (ModelConfig, Option<Normalise>) {
        (ModelConfig::Vae(self.vae.config.clone()), None)
    }

    fn pictures(&self, bk: &B, out: &Path) -> Result<Vec<(&'static str, Picture)>> {
        let w = load_weights(bk, &load_model(out)?, Task::<B>::layout(self))?;
        let source = Task::<B>::open(self, &self.config.recipe.data, Split::Train)?;
        let view = |item: Labelled| eval_views(&self.augment, &item.image).tokens;
        let images = load_all(&source, &spread(&source, 6), view);
        let latents = self.latents(&w);
        let mut pictures = vec![
            ("original | means decoded", latents.reconstructions(bk, &images)),
            ("samples from the prior", latents.samples(bk, 12, self.config.common.seed)),
        ];
        if images.len() > 1 {
            let ways = latents.interpolations(bk, &images, 7);
            pictures.push(("from one image to another", ways));
        }
        Ok(pictures)
    }
}
