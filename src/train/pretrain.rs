//! `beit pretrain`: masked image modelling on the tokens of a frozen tokenizer (arXiv
//! 2106.08254, §2.3).

use crate::apply::frozen::{Tokenizer, load_all, spread, views};
use crate::apply::reconstruct::{Reconstruction, reconstruction_picture};
use crate::config::PretrainRun;
use crate::data::augment::{Views, eval_views, two_views};
use crate::data::{AugmentConfig, Image, MaskConfig, Masking, Source, Split};
use crate::error::{Error, Result};
use crate::models::beit::{MaskedBatch, MaskedImageModel, masked_rows};
use crate::models::config::BeitConfig;
use crate::models::encoder::EncoderInput;
use crate::models::kind::ModelConfig;
use crate::ops::Backend;
use crate::ops::adamw::{AdamW, Segment};
use crate::ops::cross_entropy::Target;
use crate::optim::state::State;
use crate::optim::{Cosine, segments};
use crate::params::{Ctx, Grad, Layout, Params};
use crate::real::Float;
use crate::report::page::{Page, Table};
use crate::rng::{Philox, Purpose};
use crate::run::RunDir;
use crate::storage::Later;
use crate::tensor::{Ids, Master};
use crate::train::driver::{At, Pace, Task, Trained, train};
use crate::train::drop_path;
use crate::weights::save_weights;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::time::Instant;

/// Images that the figures of `summary.json` are measured on.
const EVALUATED: usize = 1024;

/// What a finished run reports; goes to `summary.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PretrainSummary {
    /// Optimizer steps.
    pub steps: u64,
    /// Masked patches whose token was predicted, over all masked patches of the evaluation images.
    pub masked_accuracy: f64,
    /// Share of the most frequent token among the same targets: what a constant guess would reach.
    pub majority_accuracy: f64,
    /// 1 / vocabulary.
    pub chance: f64,
    /// Mean cross-entropy of the same targets in nats.
    pub loss: f64,
    /// Images that were evaluated.
    pub images: usize,
    /// Wall-clock seconds of the process that finished the run.
    pub seconds: f64,
}

/// One sample as the loader's threads make it.
pub struct Sample {
    views: Views,
    mask: Vec<bool>, // [Np]
}

/// Sums since the last line of metrics; part of a checkpoint, so that a resumed run logs the same.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Window {
    loss: f64,
    correct: u64,
    masked: u64,
    tokens: BTreeMap<u32, u64>,
}

/// Model, tokenizer and settings of a run on one backend.
pub struct Pretraining<B: Backend> {
    config: PretrainRun,
    model: MaskedImageModel<B>,
    tokenizer: Tokenizer<B>,
    masks: MaskConfig,
    augment: AugmentConfig,
}

/// What the model said about the masked patches of some images, on its way to the host.
pub struct Predicted<B: Backend> {
    losses: Later<B::Master>, // [M]
    argmax: Later<u32>,       // [M]
    labels: Later<u32>,       // [M]
}

/// What the evaluation images showed.
struct Seen {
    images: usize,
    loss: f64, // sum over masked patches
    correct: u64,
    labels: Vec<u32>,
}

impl<B: Backend> Pretraining<B> {
    /// Loads the tokenizer and checks that it fits the encoder.
    pub fn new(bk: &B, config: &PretrainRun) -> Result<Self> {
        let sizes = config.beit();
        let tokenizer = Tokenizer::load(bk, Path::new(&config.tokenizer))?;
        tokenizer.fits(&sizes)?;
        let model = MaskedImageModel::new(bk, &sizes);
        let masks = mask_config(config, &sizes);
        masks.validate()?;
        let own = tokenizer.dvae.config.image;
        let augment = AugmentConfig {
            jitter: config.jitter,
            flip: config.flip,
            crop_scale: (config.crop_min, 1.0),
            ..views(sizes.image, own, &config.normalise)
        };
        augment.validate()?;
        Ok(Self { config: config.clone(), model, tokenizer, masks, augment })
    }

    /// Tensors of one micro-batch and the labels of its masked patches. Waits for nothing.
    fn batch(&self, bk: &B, samples: &[Sample]) -> (MaskedBatch<B>, Ids<B>) {
        let (b, sizes) = (samples.len(), &self.model.config);
        let ((ih, iw), np) = (sizes.image, sizes.patches());
        let (th, tw) = self.tokenizer.dvae.config.image;
        // Rounded to Elem on the device.
        let elem = |view: fn(&Sample) -> &[f32], shape: [usize; 4]| {
            let flat = samples.iter().map(view).collect::<Vec<_>>().concat();
            bk.to_elem(&Master::from_f32(bk, &flat, &shape), 1.0)
        };
        let mask: Vec<bool> = samples.iter().flat_map(|s| s.mask.iter().copied()).collect();
        let tokens = self.tokenizer.tokens(bk, &elem(|s| &s.views.tokens, [b, th, tw, 3]));
        let hidden = (0..mask.len() as u32).filter(|&i| mask[i as usize]).collect::<Vec<_>>();
        let count = hidden.len();
        let labels = bk.gather_ids(&tokens, &Ids::from_vec(bk, hidden, &[count]));
        let rows = masked_rows(&mask, np);
        let batch = MaskedBatch {
            images: elem(|s| &s.views.patch, [b, ih, iw, 3]),
            mask: Ids::from_vec(bk, mask.iter().map(|&m| u32::from(m)).collect(), &[b, np]),
            rows: Ids::from_vec(bk, rows.clone(), &[rows.len()]),
            keep: None,
        };
        (batch, labels)
    }

    /// Adds the gradients of `part` of a micro-batch to `g`; nothing where none of its patches is masked.
    #[allow(clippy::too_many_arguments)]
    fn part_gradients(
        &self,
        bk: &B,
        w: &Params<B>,
        samples: &[Sample],
        part: Range<usize>,
        stream: u64,
        scale: f64,
        g: &mut Params<B>,
    ) -> Option<Predicted<B>> {
        let (mut batch, labels) = self.batch(bk, &samples[part.clone()]);
        if labels.is_empty() {
            return None;
        }
        let (sizes, seed) = (&self.model.config, self.config.seed);
        batch.keep = Some(drop_path(bk, sizes, samples.len(), &part, seed, stream));
        let grad = &mut Grad::new(Ctx::new(bk, w), g);
        let losses = self.model.loss_and_gradients(grad, &batch, &labels, scale);
        Some(Predicted {
            losses: losses.rows.read_later(bk),
            argmax: losses.argmax.read_later(bk),
            labels: labels.read_later(bk),
        })
    }

    /// Name of the first tensor of a forward pass that holds something not finite.
    fn first_non_finite(&self, bk: &B, w: &Params<B>, batch: &MaskedBatch<B>) -> String {
        let broken = |values: &[f64]| values.iter().any(|x| !x.is_finite());
        let host: Vec<f64> = w.to_host(bk).into_iter().map(Float::to_f64).collect();
        if let Some(p) = w.layout.iter().find(|p| broken(&host[p.range.clone()])) {
            return format!("parameter {}", p.name);
        }
        if broken(&batch.images.to_f64(bk)) {
            return "the images".into();
        }
        let (encoder, ctx) = (&self.model.encoder, Ctx::new(bk, w));
        let input = EncoderInput { mask: Some(&batch.mask), ..EncoderInput::of(&batch.images) };
        let taps: Vec<usize> = (0..=encoder.depth()).collect();
        let streams = encoder.features(ctx, &input, &taps).taps;
        match streams.iter().position(|s| broken(&s.to_f64(bk))) {
            Some(0) => "the patch embedding".into(),
            Some(l) => format!("the residual stream after blocks.{}", l - 1),
            None => "the logits".into(),
        }
    }

    /// What the model says about fixed views and masks of up to [`EVALUATED`] images.
    fn evaluate(&self, bk: &B, w: &Params<B>, source: &Source) -> Seen {
        let mut seen = Seen { images: 0, loss: 0.0, correct: 0, labels: Vec::new() };
        let seed = self.config.seed;
        // No training epoch has this number.
        let mask = |i| self.masks.draw(&mut Philox::new(seed, Purpose::Mask, u32::MAX, i as u32));
        for chunk in spread(source, EVALUATED).chunks(64) {
            let samples = load_all(source, chunk, |image, i| Sample {
                views: eval_views(&self.augment, image),
                mask: mask(i),
            });
            seen.images += samples.len();
            let (batch, labels) = self.batch(bk, &samples);
            if labels.is_empty() {
                continue;
            }
            let logits = self.model.logits(Ctx::new(bk, w), &batch);
            let target = Target::Hard { labels: &labels, ignore: None };
            let losses = bk.cross_entropy_forward(&logits, &target);
            let labels = labels.to_vec(bk);
            seen.loss += losses.rows.to_f64(bk).iter().sum::<f64>();
            let argmax = losses.argmax.to_vec(bk);
            seen.correct += argmax.iter().zip(&labels).filter(|(a, b)| a == b).count() as u64;
            seen.labels.extend(labels);
        }
        seen
    }
}

impl<B: Backend> Task<B> for Pretraining<B> {
    type Sample = Sample;
    type Window = Window;
    /// One of each part that has masked patches.
    type Seen = Vec<Predicted<B>>;

    fn inputs(&self) -> Vec<(&'static str, u32)> {
        vec![("tokenizer", self.tokenizer.checksum)]
    }

    fn layout(&self) -> &Layout {
        &self.model.layout
    }

    /// Both views of a random crop and its mask.
    fn sampler(&self) -> impl Fn(&Image, u32, usize) -> Sample + Send + Sync + 'static {
        let (augment, masks, seed) = (self.augment.clone(), self.masks, self.config.seed);
        move |image, epoch, index| {
            let stream = |purpose| Philox::new(seed, purpose, epoch, index as u32);
            Sample {
                views: two_views(&augment, image, &mut stream(Purpose::Augment)),
                mask: masks.draw(&mut stream(Purpose::Mask)),
            }
        }
    }

    fn gradients(
        &self,
        bk: &B,
        state: &mut State<B>,
        samples: &[Sample],
        at: At,
    ) -> Result<Self::Seen> {
        let step = at.step + 1;
        let masked: usize = samples.iter().map(|s| s.mask.iter().filter(|m| **m).count()).sum();
        if masked == 0 {
            return Err(Error::Training(format!(
                "step {step}: no patch of the batch is masked, so there is no loss; lower \
                 mask_min_block or raise masked_patches"
            )));
        }
        let (scale, mut all) = (1.0 / masked as f64, Vec::new());
        let size = samples.len() / self.config.accumulate;
        for (part, samples) in samples.chunks(size).enumerate() {
            // Every micro-batch has its own stream of choices.
            let stream = at.step * self.config.accumulate as u64 + part as u64;
            let (w, g) = (&state.w, &mut state.g);
            let seen = bk.in_parts(samples.len(), g, |part, g| {
                self.part_gradients(bk, w, samples, part, stream, scale, g)
            });
            all.extend(seen.into_iter().flatten());
        }
        Ok(all)
    }

    fn absorb(&self, seen: Self::Seen, window: &mut Window) -> bool {
        seen.into_iter().all(|seen| {
            let (argmax, labels) = (seen.argmax.wait(), seen.labels.wait());
            let loss = seen.losses.wait().into_iter().map(Float::to_f64).sum::<f64>();
            window.correct += argmax.iter().zip(&labels).filter(|(a, b)| a == b).count() as u64;
            window.loss += loss;
            window.masked += labels.len() as u64;
            labels.iter().for_each(|&l| *window.tokens.entry(l).or_default() += 1);
            loss.is_finite()
        })
    }

    fn diagnose(&self, bk: &B, state: &State<B>, samples: &[Sample], _: At) -> String {
        self.first_non_finite(bk, &state.w, &self.batch(bk, samples).0)
    }

    fn optimizer(&self, at: At) -> (Vec<Segment>, AdamW) {
        let c = &self.config;
        let warmup = match c.warmup_steps {
            0 => c.warmup_epochs as u64 * at.per_epoch,
            n => n as u64,
        };
        // A run shorter than its warm-up ends inside it.
        let cosine = |base, end, warmup: u64| {
            Cosine { base, end, start: 0.0, warmup: warmup.min(at.total), total: at.total }
                .at(at.step)
        };
        let lr = cosine(c.lr, c.min_lr, warmup);
        let decay = cosine(c.weight_decay, c.weight_decay_end, 0);
        let adamw = AdamW {
            lr,
            beta1: c.beta1,
            beta2: c.beta2,
            eps: c.eps,
            step: at.step + 1,
            max_norm: (c.clip > 0.0).then_some(c.clip),
        };
        (segments(&self.model.layout, decay), adamw)
    }

    fn metrics(
        &self,
        _: &B,
        _: &State<B>,
        _: &[Sample],
        window: &Window,
        _: At,
    ) -> (Vec<(&'static str, f64)>, String) {
        let masked = window.masked as f64;
        let (loss, accuracy) = (window.loss / masked, window.correct as f64 / masked);
        let most = window.tokens.values().copied().max().unwrap_or(0) as f64 / masked;
        let line = vec![
            ("loss", loss),
            ("masked_accuracy", accuracy),
            ("majority_accuracy", most),
            ("chance", 1.0 / self.model.config.vocab as f64),
        ];
        (line, format!("loss {loss:.3}, accuracy {accuracy:.3} (constant guess {most:.3})"))
    }
}

/// Trains in `out`; `None` where the folder holds a finished run.
pub fn pretrain<B: Backend>(
    bk: &B,
    config: &PretrainRun,
    out: &Path,
    resume: bool,
) -> Result<Option<PretrainSummary>> {
    let start = Instant::now();
    if resume && RunDir::is_finished(out, config)? {
        return Ok(None);
    }
    let task = Pretraining::new(bk, config)?;
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
    let w = state.best();
    let seen = task.evaluate(bk, w, &source);
    let masked = seen.labels.len().max(1) as f64;
    let mut counts = BTreeMap::<u32, u64>::new();
    seen.labels.iter().for_each(|&l| *counts.entry(l).or_default() += 1);
    let summary = PretrainSummary {
        steps: state.step,
        masked_accuracy: seen.correct as f64 / masked,
        majority_accuracy: counts.into_values().max().unwrap_or(0) as f64 / masked,
        chance: 1.0 / task.model.config.vocab as f64,
        loss: seen.loss / masked,
        images: seen.images,
        seconds: start.elapsed().as_secs_f64(),
    };
    let sizes = ModelConfig::Beit(task.model.config.clone());
    save_weights(bk, out, &sizes, Some(&config.normalise), w)?;
    let picture = reconstruction_picture(
        bk,
        &Reconstruction {
            tokenizer: Path::new(&config.tokenizer),
            model: Some(out),
            data: &config.data,
            images: 6,
            seed: config.seed,
            split: Split::Train,
            normalise: None,
        },
    )?;
    let row = |name: &str, value: f64| [name.to_string(), format!("{value:.4}")];
    Page::new("Pretraining")
        .section("Figures on central crops of training images")
        .table(Table::new(&["figure", "value"], 1).rows([
            row("masked accuracy", summary.masked_accuracy),
            row("share of the most frequent token", summary.majority_accuracy),
            row("chance", summary.chance),
            row("loss, nats", summary.loss),
        ]))
        .section("Training")
        .curves(&run.curves()?)
        .section("original | masked | tokens decoded | predicted tokens decoded")
        .picture("original | masked | tokens decoded | predicted tokens decoded", &picture)
        .write(&out.join("report.html"))?;
    run.finish(&summary)?;
    Ok(Some(summary))
}

fn mask_config(config: &PretrainRun, sizes: &BeitConfig) -> MaskConfig {
    let (height, width) = sizes.grid();
    MaskConfig {
        masking: match config.masking.as_str() {
            "block" => Masking::Block,
            "block_exact" => Masking::BlockExact,
            _ => Masking::Random,
        },
        max_block: config.mask_max_block,
        ..MaskConfig::block(height, width, config.masked_patches, config.mask_min_block)
    }
}
