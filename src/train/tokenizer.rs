//! `beit train-tokenizer`: the discrete VAE by its relaxed evidence lower bound (arXiv
//! 2102.12092, §2.1).
//!
//! `Deviation:` schedules end after a share of the run, not after a fixed number of updates, so that a
//! short run sees all of them; "cosine", which the paper does not define, is a half cosine.

use crate::apply::frozen::{load_all, spread, views};
use crate::apply::reconstruct::{Reconstruction, reconstruction_picture};
use crate::config::TokenizerRun;
use crate::data::augment::{eval_views, token_view};
use crate::data::{AugmentConfig, Image, Split};
use crate::error::Result;
use crate::models::dvae::{Dvae, DvaeLosses, DvaeStep, Likelihood};
use crate::models::kind::ModelConfig;
use crate::ops::Backend;
use crate::ops::adamw::{AdamW, Segment};
use crate::ops::gumbel_softmax::Noise;
use crate::optim::state::State;
use crate::optim::{Cosine, half_cosine, segments};
use crate::params::{Ctx, Grad, Layout, Params};
use crate::real::Float;
use crate::report::page::{Page, Table};
use crate::rng::{Philox, Purpose};
use crate::run::RunDir;
use crate::storage::Later;
use crate::tensor::{Master, Tensor};
use crate::train::driver::{At, Pace, Task, Trained, train};
use crate::weights::save_weights;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::time::Instant;

/// Images that the figures of `summary.json` are measured on.
const EVALUATED: usize = 1024;

/// What a finished run reports; goes to `summary.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TokenizerSummary {
    /// Optimizer steps.
    pub steps: u64,
    /// Peak signal-to-noise ratio in dB of the mean squared error over all evaluation images, from
    /// hard codes (argmax, no noise).
    pub psnr_db: f64,
    /// Tokens that occur, as a share of the vocabulary.
    pub codebook_usage: f64,
    /// exp of the entropy of the tokens' frequencies.
    pub codebook_perplexity: f64,
    /// Mean KL to the uniform prior per position, in nats.
    pub kl: f64,
    /// Negative log-likelihood per sub-pixel from hard codes, in nats.
    pub nll: f64,
    /// Size of the vocabulary.
    pub vocab: usize,
    /// Images that were evaluated.
    pub images: usize,
    /// Wall-clock seconds of the process that finished the run.
    pub seconds: f64,
}

/// How hard codes do on some images.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct HardCodes {
    /// Squared error of pixels in 0..1, summed.
    pub squared_error: f64,
    /// Number of sub-pixels.
    pub sub_pixels: f64,
    /// Negative log-likelihood, summed over sub-pixels.
    pub nll: f64,
    /// KL to the uniform prior, summed over positions.
    pub kl: f64,
    /// How often each token occurs.
    pub counts: Vec<u64>,
    /// Number of images.
    pub images: usize,
}

impl HardCodes {
    /// −10 log₁₀ of the mean squared error.
    pub fn psnr_db(&self) -> f64 {
        -10.0 * (self.squared_error / self.sub_pixels).log10()
    }

    /// Share of the vocabulary that occurs.
    pub fn usage(&self) -> f64 {
        self.counts.iter().filter(|&&n| n > 0).count() as f64 / self.counts.len().max(1) as f64
    }

    /// exp(−Σ π ln π) of the frequencies π.
    pub fn perplexity(&self) -> f64 {
        let total = self.positions();
        let entropy =
            |&n: &u64| if n == 0 { 0.0 } else { -(n as f64 / total) * (n as f64 / total).ln() };
        self.counts.iter().map(entropy).sum::<f64>().exp()
    }

    /// Number of tokens counted.
    pub fn positions(&self) -> f64 {
        self.counts.iter().sum::<u64>() as f64
    }
}

/// Adds what hard codes do on mapped pixels `[B,H,W,3]` to `sums`.
pub fn add_hard_codes<B: Backend>(
    bk: &B,
    dvae: &Dvae,
    w: &Params<B>,
    pixels: &[f32],
    sums: &mut HardCodes,
) {
    let (h, wide) = dvae.config.image;
    let shape = [pixels.len() / (h * wide * 3), h, wide, 3];
    let x = Tensor::<B>::from_f32(bk, pixels, &shape);
    let (logits, _) = dvae.encode(Ctx::new(bk, w), &x);
    let tokens = bk.argmax(&logits);
    let (out, _) = dvae.decode(Ctx::new(bk, w), &dvae.one_hot(bk, &tokens));
    let target = Master::from_f32(bk, pixels, &shape);
    sums.nll += bk.logit_laplace_forward(&target, &out).to_f64(bk).iter().sum::<f64>();
    sums.kl += bk.kl_uniform_forward(&logits).to_f64(bk).iter().sum::<f64>();
    sums.counts.resize(dvae.config.vocab, 0);
    tokens.to_vec(bk).iter().for_each(|&t| sums.counts[t as usize] += 1);
    let shown = crate::models::dvae::pixels(&out.to_f64(bk));
    for (&x, p) in pixels.iter().zip(shown) {
        let p0 = ((f64::from(x) - 0.1) / 0.8).clamp(0.0, 1.0);
        sums.squared_error += (p - p0) * (p - p0);
    }
    sums.sub_pixels += pixels.len() as f64;
    sums.images += shape[0];
}

/// Sums since the last line of metrics; part of a checkpoint, so that a resumed run logs the same.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Window {
    reconstruction: f64,
    kl: f64,
    unused: f64,
    images: u64,
    counts: Vec<u64>,
}

/// Model and settings of a run.
struct TokenizerTraining {
    config: TokenizerRun,
    dvae: Dvae,
    augment: AugmentConfig,
}

impl TokenizerTraining {
    fn new(config: &TokenizerRun) -> Result<Self> {
        let sizes = config.dvae();
        let augment = AugmentConfig {
            flip: config.flip,
            crop_scale: (config.crop_min, 1.0),
            ..views(sizes.image, sizes.image, "half")
        };
        augment.validate()?;
        Ok(Self { config: config.clone(), dvae: Dvae::new(&sizes), augment })
    }

    /// Temperature and KL weight of a step, and what its loss is divided by.
    fn step(&self, at: At) -> DvaeStep {
        let c = &self.config;
        let (total, step) = (at.total as f64, at.step as f64);
        let (h, w) = self.dvae.config.image;
        let (cooling, warmup) = (c.temperature_fraction * total, c.kl_warmup * total);
        let kl_weight = if step < warmup {
            half_cosine(0.0, c.kl_weight, warmup, step)
        } else if step < cooling {
            c.kl_weight
        } else {
            half_cosine(c.kl_weight, c.kl_weight_end, total - cooling, step - cooling)
        };
        DvaeStep {
            temperature: half_cosine(c.temperature_start, c.temperature_end, cooling, step),
            kl_weight,
            usage_weight: c.usage_weight,
            straight_through: c.straight_through,
            likelihood: self.likelihood(),
            scale: 1.0 / (c.batch * h * w * 3) as f64,
        }
    }

    fn likelihood(&self) -> Likelihood {
        match self.config.recon.as_str() {
            "mse" => Likelihood::SquaredError,
            _ => Likelihood::LogitLaplace,
        }
    }
}

impl<B: Backend> Task<B> for TokenizerTraining {
    /// Mapped pixels `[H,W,3]`.
    type Sample = Vec<f32>;
    type Window = Window;
    /// One of each micro-batch.
    type Seen = Vec<Seen<B>>;

    fn layout(&self) -> &Layout {
        &self.dvae.layout
    }

    fn sampler(&self) -> impl Fn(&Image, u32, usize) -> Vec<f32> + Send + Sync + 'static {
        let (augment, seed) = (self.augment.clone(), self.config.seed);
        move |image, epoch, index| {
            let mut rng = Philox::new(seed, Purpose::Augment, epoch, index as u32);
            token_view(&augment, image, &mut rng)
        }
    }

    fn gradients(
        &self,
        bk: &B,
        state: &mut State<B>,
        samples: &[Vec<f32>],
        at: At,
    ) -> Result<Self::Seen> {
        let (w, g) = (&state.w, &mut state.g);
        let see = |(samples, _, losses): (&[Vec<f32>], Vec<f32>, DvaeLosses<B>)| Seen {
            reconstruction: losses.reconstruction.read_later(bk),
            kl: losses.kl.read_later(bk),
            unused: losses.unused.read_later(bk),
            tokens: bk.argmax(&losses.logits).read_later(bk),
            images: samples.len(),
        };
        Ok(self.micro_batches(bk, w, samples, at, g).map(see).collect())
    }

    fn absorb(&self, seen: Self::Seen, window: &mut Window) -> bool {
        let sum = |x: Later<B::Master>| x.wait().into_iter().map(Float::to_f64).sum::<f64>();
        seen.into_iter().all(|seen| {
            let (reconstruction, kl) = (sum(seen.reconstruction), sum(seen.kl));
            let tokens = seen.tokens.wait();
            window.reconstruction += reconstruction;
            window.kl += kl;
            window.unused += tokens.len() as f64 * sum(seen.unused);
            window.images += seen.images as u64;
            window.counts.resize(self.dvae.config.vocab, 0);
            tokens.iter().for_each(|&t| window.counts[t as usize] += 1);
            (reconstruction + kl).is_finite()
        })
    }

    fn diagnose(&self, bk: &B, state: &State<B>, samples: &[Vec<f32>], at: At) -> String {
        let mut g = Params::zeros(bk, &state.w.layout);
        let mut parts = self.micro_batches(bk, &state.w, samples, at, &mut g);
        let broken = parts.find(|(_, _, losses)| {
            let finite = |x: &Master<B>| x.to_f64(bk).iter().all(|x| x.is_finite());
            !finite(&losses.reconstruction) || !finite(&losses.kl)
        });
        broken.map_or("the loss".into(), |(_, pixels, losses)| {
            self.first_non_finite(bk, &state.w, &pixels, &losses)
        })
    }

    fn optimizer(&self, at: At) -> (Vec<Segment>, AdamW) {
        let c = &self.config;
        let warmup = (c.warmup_steps as u64).min(at.total);
        let schedule = Cosine { base: c.lr, end: c.min_lr, start: 0.0, warmup, total: at.total };
        let adamw = AdamW {
            lr: schedule.at(at.step),
            beta1: c.beta1,
            beta2: c.beta2,
            eps: c.eps,
            step: at.step + 1,
            max_norm: (c.clip > 0.0).then_some(c.clip),
        };
        (segments(&self.dvae.layout, c.weight_decay), adamw)
    }

    fn metrics(
        &self,
        bk: &B,
        state: &State<B>,
        samples: &[Vec<f32>],
        window: &Window,
        at: At,
    ) -> (Vec<(&'static str, f64)>, String) {
        let step = self.step(at);
        let sub_pixels = window.images as f64
            * (self.augment.token_height * self.augment.token_width * 3) as f64;
        let mut hard = HardCodes::default();
        let part = samples.len() / self.config.accumulate;
        add_hard_codes(bk, &self.dvae, &state.w, &samples[..part].concat(), &mut hard);
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
}

/// What a micro-batch saw, on its way to the host.
pub struct Seen<B: Backend> {
    reconstruction: Later<B::Master>,
    kl: Later<B::Master>,
    unused: Later<B::Master>,
    tokens: Later<u32>,
    images: usize,
}

impl TokenizerTraining {
    /// Computes the micro-batches of a step one by one, adding their gradients to `g`: their samples,
    /// pixels and losses.
    fn micro_batches<'a, B: Backend>(
        &'a self,
        bk: &'a B,
        weights: &'a Params<B>,
        samples: &'a [Vec<f32>],
        at: At,
        g: &'a mut Params<B>,
    ) -> impl Iterator<Item = (&'a [Vec<f32>], Vec<f32>, DvaeLosses<B>)> {
        let (step, parts) = (self.step(at), self.config.accumulate);
        let (h, w) = self.dvae.config.image;
        let mut grad = Grad::new(Ctx::new(bk, weights), g);
        samples.chunks(samples.len() / parts).enumerate().map(move |(part, samples)| {
            let (pixels, shape) = (samples.concat(), [samples.len(), h, w, 3]);
            let target = Master::from_f32(bk, &pixels, &shape);
            let x = bk.to_elem(&target, 1.0);
            // Every micro-batch has its own noise.
            let number = at.step * parts as u64 + part as u64;
            let noise = Noise::Philox { seed: self.config.seed, step: number };
            let losses = self.dvae.loss_and_gradients(&mut grad, &x, &target, &noise, &step, false);
            (samples, pixels, losses)
        })
    }

    /// Name of the first tensor that holds something not finite, in the order of the computation.
    fn first_non_finite<B: Backend>(
        &self,
        bk: &B,
        w: &Params<B>,
        pixels: &[f32],
        losses: &DvaeLosses<B>,
    ) -> String {
        let broken = |values: &[f64]| values.iter().any(|x| !x.is_finite());
        let host: Vec<f64> = w.to_host(bk).into_iter().map(Float::to_f64).collect();
        if let Some(p) = w.layout.iter().find(|p| broken(&host[p.range.clone()])) {
            return format!("parameter {}", p.name);
        }
        if pixels.iter().any(|x| !x.is_finite()) {
            return "the image".into();
        }
        let tensors =
            [("the encoder's logits", &losses.logits), ("the decoder's output", &losses.out)];
        let first = tensors.into_iter().find(|(_, t)| broken(&t.to_f64(bk)));
        first.map_or("the loss", |(name, _)| name).into()
    }
}

/// Trains in `out`; `None` where the folder holds a finished run.
pub fn train_tokenizer<B: Backend>(
    bk: &B,
    config: &TokenizerRun,
    out: &Path,
    resume: bool,
) -> Result<Option<TokenizerSummary>> {
    let start = Instant::now();
    if resume && RunDir::is_finished(out, config)? {
        return Ok(None);
    }
    let task = TokenizerTraining::new(config)?;
    let pace = Pace {
        data: config.data.clone(),
        seed: config.seed,
        epochs: config.epochs,
        batch: config.batch,
        ema: config.ema,
        max_bad: config.max_bad,
        checkpoint_every: config.checkpoint_every,
        log_every: config.log_every,
    };
    let Some(trained) = train(bk, &task, config, &pace, out, resume)? else { return Ok(None) };
    let Trained { run, state, source } = trained;
    let (w, mut hard) = (state.best(), HardCodes::default());
    for chunk in spread(&source, EVALUATED).chunks(64) {
        let pixels = load_all(&source, chunk, |image, _| eval_views(&task.augment, image).tokens);
        if !pixels.is_empty() {
            add_hard_codes(bk, &task.dvae, w, &pixels.concat(), &mut hard);
        }
    }
    let summary = TokenizerSummary {
        steps: state.step,
        psnr_db: hard.psnr_db(),
        codebook_usage: hard.usage(),
        codebook_perplexity: hard.perplexity(),
        kl: hard.kl / hard.positions(),
        nll: hard.nll / hard.sub_pixels,
        vocab: task.dvae.config.vocab,
        images: hard.images,
        seconds: start.elapsed().as_secs_f64(),
    };
    save_weights(bk, out, &ModelConfig::Dvae(task.dvae.config.clone()), None, w)?;
    let picture = reconstruction_picture(
        bk,
        &Reconstruction {
            tokenizer: out,
            model: None,
            data: &config.data,
            images: 6,
            seed: config.seed,
            split: Split::Train,
            normalise: None,
        },
    )?;
    let row = |name: &str, value: String| [name.to_string(), value];
    Page::new("Tokenizer")
        .section("Hard codes on central crops of training images")
        .table(Table::new(&["figure", "value"], 1).rows([
            row("PSNR", format!("{:.2} dB", summary.psnr_db)),
            row(
                "codebook perplexity",
                format!("{:.1} of {}", summary.codebook_perplexity, summary.vocab),
            ),
            row("codebook usage", format!("{:.3}", summary.codebook_usage)),
            row("KL per position", format!("{:.3} nats", summary.kl)),
        ]))
        .section("Training")
        .curves(&run.curves()?)
        .section("original | masked | tokens decoded")
        .picture("original | masked | tokens decoded", &picture)
        .write(&out.join("report.html"))?;
    run.finish(&summary)?;
    Ok(Some(summary))
}
