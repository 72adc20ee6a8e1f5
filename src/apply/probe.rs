//! `beit probe`: how much of the classes can be read off a frozen encoder (`run_linear_eval.py`).
//!
//! The feature of an image at a block is the class token beside the mean of the patch tokens, without
//! norm. One linear classifier per block is trained with AdamW; k-NN needs no training at all. The
//! model never sees a mask.
//!
//! `Deviation:` features are taken once from the evaluation crop; the original augments (random
//! crops, flips) in every epoch of its probe.

use super::frozen::views;
use super::knn::{FeatureTable, knn_accuracy, share_equal};
use crate::config::{Preset, ProbeRun};
use crate::cpu::Cpu;
use crate::data::augment::eval_view;
use crate::data::loader::{BadImages, check_bad, map_items, shuffled};
use crate::data::pixels::Normalise;
use crate::data::{Dataset, Source, Split};
use crate::error::{Error, Result};
use crate::models::beit::MaskedImageModel;
use crate::models::config::BeitConfig;
use crate::models::encoder::EncoderInput;
use crate::ops::Backend;
use crate::ops::adamw::{AdamW, Segment};
use crate::ops::cross_entropy::{CrossEntropyOp, Target};
use crate::ops::gather_rows::GatherRowsOp;
use crate::ops::linear::Linear;
use crate::optim::Cosine;
use crate::optim::state::State;
use crate::params::{Ctx, Grad, Init, Params, Registry, initial_values};
use crate::real::Float;
use crate::report::page::{self, Page};
use crate::report::plot::{Axis, Plot};
use crate::rng::{Philox, Purpose};
use crate::run::{Progress, interrupted};
use crate::tensor::{Ids, Tensor};
use crate::weights::{load_model, load_weights};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// What a probe found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ProbeSummary {
    /// The model probed, as it was given.
    pub model: String,
    /// Test accuracy of the linear classifier on each block's output, first block first.
    pub linear: Vec<f64>,
    /// Test accuracy of k-NN on each block's output.
    pub knn: Vec<f64>,
    /// Largest of `linear` and its block, counted from 1.
    pub best_linear: (f64, usize),
    /// Largest of `knn` and its block, counted from 1.
    pub best_knn: (f64, usize),
    /// Share of the most frequent class of the test images.
    pub majority: f64,
    /// Names of the classes.
    pub classes: Vec<String>,
    /// Images that were fitted on and measured on.
    pub images: (usize, usize),
}

/// An encoder with its weights.
pub struct Probed<B: Backend> {
    model: MaskedImageModel<B>,
    w: Params<B>,
    /// Mean and deviation of the views it was trained with, or is to be trained with.
    normalise: Normalise,
}

impl<B: Backend> Probed<B> {
    /// Reads `RUN|FILE`, or builds `random`: the preset's encoder at its initial weights.
    pub fn open(bk: &B, model: &str, preset: Preset, seed: u64) -> Result<Self> {
        if model == "random" {
            let config = match preset {
                Preset::Tiny => BeitConfig::tiny(),
                Preset::Small => BeitConfig::small(),
                Preset::Base => BeitConfig::base_patch16_224(),
                Preset::Large => BeitConfig::large_patch16_224(),
            };
            let mut probed = Self::random(bk, &config, seed);
            if matches!(preset, Preset::Base | Preset::Large) {
                probed.normalise = Normalise::Imagenet;
            }
            return Ok(probed);
        }
        let file = load_model(Path::new(model))?;
        let model = MaskedImageModel::new(bk, file.sizes()?);
        let w = load_weights(bk, &file, &model.layout)?;
        Ok(Self { model, w, normalise: file.normalise.unwrap_or(Normalise::Half) })
    }

    /// An encoder at its initial weights.
    pub fn random(bk: &B, config: &BeitConfig, seed: u64) -> Self {
        let model = MaskedImageModel::new(bk, config);
        let w = Params::from_host(bk, &model.layout, &initial_values(&model.layout, seed));
        Self { model, w, normalise: Normalise::Half }
    }

    /// Features of normalised images `[B,Ih,Iw,3]`: per block `[B,2C]`, class token then mean of the
    /// patch tokens.
    fn features(&self, bk: &B, images: Tensor<B>) -> Vec<Vec<f32>> {
        let (encoder, b) = (&self.model.encoder, images.shape()[0]);
        let taps: Vec<usize> = (1..=encoder.depth()).collect();
        let seen = encoder.features(Ctx::new(bk, &self.w), &EncoderInput::of(&images), &taps);
        let features = seen.taps.into_iter().map(|s| {
            let (n, c) = (s.shape()[1], s.cols());
            let mean = bk.mean_pool_forward(&s).to_f64(bk);
            let s = s.to_vec(bk);
            let mut rows = Vec::with_capacity(b * 2 * c);
            for (i, mean) in mean.chunks_exact(c).enumerate() {
                let cls = &s[i * n * c..i * n * c + c];
                rows.extend(cls.iter().map(|x| x.to_f64() as f32));
                rows.extend(mean.iter().map(|&x| x as f32));
            }
            rows
        });
        features.collect()
    }
}

fn table<B: Backend>(
    bk: &B,
    probed: &Probed<B>,
    source: &Source,
    settings: &ProbeRun,
    what: &str,
) -> Result<FeatureTable> {
    let config = &probed.model.config;
    let ((ih, iw), depth) = (config.image, config.depth);
    let mut table = FeatureTable {
        blocks: vec![Vec::new(); depth],
        labels: Vec::new(),
        width: 2 * config.width,
    };
    let indices: Vec<usize> = (0..source.len()).collect();
    let mut progress = Progress::new(what, source.len() as u64, 0, "images");
    let augment = views((ih, iw), (ih, iw), settings.normalise.of(probed.normalise));
    let mut bad = BadImages::new();
    for chunk in indices.chunks(64) {
        let (loaded, unread) =
            map_items(source, chunk, |item| (item.label, eval_view(&augment, &item.image)));
        for reason in unread.values() {
            progress.note(&format!("skipped: {reason}"));
        }
        bad.extend(unread);
        check_bad(&bad, settings.common.max_bad, source.len())?;
        progress.advance(chunk.len() as u64, "");
        if interrupted() {
            return Err(stopped());
        }
        if loaded.is_empty() {
            continue;
        }
        let mut pixels = Vec::with_capacity(loaded.len());
        for (i, (label, view)) in loaded {
            table.labels.push(label.ok_or_else(|| {
                Error::config(format!(
                    "{}: a probe needs classes: put the images of each class into a folder of \
                     its name",
                    source.name(i)
                ))
            })?);
            pixels.push(view);
        }
        let images = Tensor::from_f32(bk, &pixels.concat(), &[pixels.len(), ih, iw, 3]);
        for (all, rows) in table.blocks.iter_mut().zip(probed.features(bk, images)) {
            all.extend(rows);
        }
    }
    progress.finish();
    if table.labels.is_empty() {
        return Err(Error::config(format!("{what}: none of {} images can be read", source.len())));
    }
    Ok(table)
}

fn stopped() -> Error {
    Error::Interrupted("stopped; a probe cannot be continued, only started again".into())
}

/// Probes an encoder on labelled sources.
pub fn probe<B: Backend>(bk: &B, probed: &Probed<B>, config: &ProbeRun) -> Result<ProbeSummary> {
    let open = |spec: &str, split| Source::open(spec, &config.common.source(split));
    let (train, test) = (open(&config.train, Split::Train)?, open(&config.test, Split::Test)?);
    if train.classes() != test.classes() {
        return Err(Error::config(format!(
            "train and test have different classes: {:?} and {:?}",
            train.classes(),
            test.classes()
        )));
    }
    if train.classes().len() < 2 {
        return Err(Error::config(format!(
            "{}: a probe needs at least two classes (a folder of images for each)",
            config.train
        )));
    }
    let classes = train.classes().to_vec();
    let fitted = table(bk, probed, &train, config, "features of train")?;
    let measured = table(bk, probed, &test, config, "features of test")?;
    let linear = linear_accuracies(&fitted, &measured, classes.len(), config)?;
    let knn = (0..fitted.blocks.len())
        .map(|l| knn_accuracy(&fitted, &measured, l, classes.len(), config.knn_k))
        .collect::<Vec<_>>();
    let best = |all: &[f64]| {
        let (i, x) =
            all.iter().copied().enumerate().fold((0, 0.0), |b, x| if x.1 > b.1 { x } else { b });
        (x, i + 1)
    };
    let mut counts = vec![0usize; classes.len()];
    measured.labels.iter().for_each(|&l| counts[l as usize] += 1);
    Ok(ProbeSummary {
        model: config.model.clone(),
        best_linear: best(&linear),
        best_knn: best(&knn),
        majority: counts.iter().copied().max().unwrap_or(0) as f64 / measured.images() as f64,
        images: (fitted.images(), measured.images()),
        linear,
        knn,
        classes,
    })
}

/// The linear classifier of one block; no norm of any kind on the features.
struct Classifier {
    head: Linear,
    state: State<Cpu<f32>>,
}

impl Classifier {
    fn new(bk: &Cpu<f32>, width: usize, classes: usize, seed: u64) -> Self {
        let mut reg = Registry::new();
        let head = Linear::new(&mut reg, "layer", width, classes, Init::Normal(0.01));
        let layout = reg.finish();
        Self { head, state: State::new(bk, &layout, &initial_values(&layout, seed), 0.0) }
    }

    /// One step on `rows` of the features, whose classes are `labels`.
    fn step(
        &mut self,
        bk: &Cpu<f32>,
        features: &Tensor<Cpu<f32>>,
        rows: &Ids<Cpu<f32>>,
        labels: &Ids<Cpu<f32>>,
        lr: f64,
        decay: f64,
    ) -> Result<()> {
        let State { w, g, .. } = &mut self.state;
        let x = bk.gather_rows_forward(features, rows);
        let logits = self.head.forward(Ctx::new(bk, w), &x);
        let target = Target::Hard { labels, ignore: None };
        let (_, dlogits) = bk.cross_entropy_backward(logits, &target, 1.0 / rows.len() as f64);
        self.head.backward(&mut Grad::new(Ctx::new(bk, w), g), &x, &dlogits);
        // The original decays every parameter of the probe, biases included.
        let segments = [Segment { end: usize::MAX, lr_scale: 1.0, decay }];
        let step = self.state.step + 1;
        let adamw = AdamW { lr, beta1: 0.9, beta2: 0.999, eps: 1e-8, step, max_norm: None };
        self.state.update(bk, &segments, &adamw)?;
        Ok(())
    }

    fn accuracy(&self, bk: &Cpu<f32>, features: &Tensor<Cpu<f32>>, labels: &[u32]) -> f64 {
        let logits = self.head.forward(Ctx::new(bk, &self.state.w), features);
        let ids = Ids::from_vec(bk, labels.to_vec(), &[labels.len()]);
        let target = Target::Hard { labels: &ids, ignore: None };
        share_equal(&bk.cross_entropy_forward(&logits, &target).argmax.to_vec(bk), labels)
    }
}

/// Test accuracy of each block's classifier. They share the order of images and nothing else, so
/// that training them side by side minimises the sum of their losses, as the original does.
///
/// This is not the loop of the trainings, of which it has the schedule and the shuffling: its rate
/// changes by epoch, the last batch of an epoch may be a short one, and each classifier goes through
/// the epoch on a thread of its own.
fn linear_accuracies(
    train: &FeatureTable,
    test: &FeatureTable,
    classes: usize,
    config: &ProbeRun,
) -> Result<Vec<f64>> {
    let bk = Cpu::<f32>::new();
    let tensor = |rows: &Vec<f32>| {
        Tensor::from_vec(&bk, rows.clone(), &[rows.len() / train.width, train.width])
    };
    let features: Vec<_> = train.blocks.iter().map(tensor).collect();
    let new = |_| Classifier::new(&bk, train.width, classes, config.common.seed);
    let mut classifiers: Vec<_> = features.iter().map(new).collect();
    let total = config.common.epochs as u64;
    // One value per epoch.
    let schedule = Cosine { base: config.common.lr, end: 0.0, start: 0.0, warmup: 0, total };
    let mut progress = Progress::new("linear probe", total, 0, "epochs");
    for epoch in 0..total {
        let lr = schedule.at(epoch);
        let mut rng = Philox::new(config.common.seed, Purpose::Probe, epoch as u32, 0);
        let order = shuffled(train.images(), &mut rng);
        let ids = |ids: Vec<u32>| {
            let count = ids.len();
            Ids::from_vec(&bk, ids, &[count])
        };
        let label = |rows: &[u32]| rows.iter().map(|&r| train.labels[r as usize]).collect();
        let batches: Vec<_> = order
            .chunks(config.common.batch)
            .map(|rows| (ids(rows.to_vec()), ids(label(rows))))
            .collect();
        let blocks = classifiers.par_iter_mut().zip(&features).with_max_len(1);
        blocks.try_for_each(|(classifier, features)| {
            batches.iter().try_for_each(|(rows, labels)| {
                classifier.step(&bk, features, rows, labels, lr, config.common.weight_decay)
            })
        })?;
        progress.advance(1, "");
        if interrupted() {
            return Err(stopped());
        }
    }
    progress.finish();
    let blocks = classifiers.iter().zip(&test.blocks);
    Ok(blocks.map(|(c, block)| c.accuracy(&bk, &tensor(block), &test.labels)).collect())
}

/// The table and the chart of a probe.
pub fn add_to_report(page: Page, s: &ProbeSummary) -> Page {
    let rows = s
        .linear
        .iter()
        .zip(&s.knn)
        .enumerate()
        .map(|(l, (a, b))| [(l + 1).to_string(), format!("{a:.3}"), format!("{b:.3}")]);
    let line = |all: &[f64]| (1..).zip(all).map(|(l, &x)| (f64::from(l), x)).collect::<Vec<_>>();
    let chart = Plot::new("Accuracy by block", Axis::linear("block"), Axis::linear("accuracy"))
        .line("linear", &line(&s.linear))
        .line("k-NN", &line(&s.knn));
    let table = page::Table::new(&["block", "linear", "k-NN"], 0).rows(rows);
    page.section(&format!("Probe of {}", s.model)).table(table).chart(&chart.svg())
}
