//! `beit probe`: how much of the classes can be read off a frozen encoder (`run_linear_eval.py`).
//!
//! The feature of an image at a block is the class token beside the mean of the patch tokens, without
//! norm. One linear classifier per block is trained with AdamW; k-NN needs no training at all. The
//! model never sees a mask.
//!
//! `Deviation:` features are taken once from the evaluation crop; the original augments (random
//! crops, flips) in every epoch of its probe.

mod classes;
mod linear;
mod summary;

pub use summary::{ClassFigures, ProbeSummary, add_to_report};

use super::frozen::views;
use super::knn::{FeatureTable, knn_predictions};
use super::opened::OpenedEncoder;
use crate::config::{Preset, ProbeRun};
use crate::data::augment::eval_view;
use crate::data::loader::{BadImages, check_bad, map_items};
use crate::data::pixels::Normalise;
use crate::data::{Dataset, Source, Split};
use crate::error::{Error, Result};
use crate::models::config::BeitConfig;
use crate::models::encoder::EncoderInput;
use crate::ops::Backend;
use crate::params::Ctx;
use crate::real::Float;
use crate::run::{Progress, interrupted, is_news, note};
use crate::tensor::Tensor;
use classes::SharedClasses;
use linear::{linear_predictions, stopped};
use std::path::Path;
use summary::Found;

/// An encoder with its weights.
pub struct Probed<B: Backend>(OpenedEncoder<B>);

impl<B: Backend> Probed<B> {
    /// Reads `RUN|FILE`, or builds `random`: the preset's encoder at its initial weights.
    pub fn open(bk: &B, model: &str, preset: Preset, seed: u64) -> Result<Self> {
        if model == "random" {
            let config = preset.beit();
            return Ok(Self(OpenedEncoder::initial(bk, &config, preset.normalise(), seed)));
        }
        Ok(Self(OpenedEncoder::open(bk, Path::new(model))?))
    }

    /// An encoder at its initial weights.
    pub fn random(bk: &B, config: &BeitConfig, seed: u64) -> Self {
        Self(OpenedEncoder::initial(bk, config, Normalise::Half, seed))
    }

    /// Features of normalised images `[B,Ih,Iw,3]`: per block `[B,2C]`, class token then mean of the
    /// patch tokens.
    fn features(&self, bk: &B, images: Tensor<B>) -> Vec<Vec<f32>> {
        let (encoder, b) = (self.0.encoder(), images.shape()[0]);
        let taps: Vec<usize> = (1..=encoder.depth()).collect();
        let seen = encoder.features(Ctx::new(bk, &self.0.w), &EncoderInput::of(&images), &taps);
        let features = seen.taps.into_iter().map(|s| {
            let (n, c) = (s.shape()[1], s.cols());
            let mean = Float::into_f32s(bk.mean_pool_forward(&s).to_vec(bk));
            let s = Float::into_f32s(s.to_vec(bk));
            let mut rows = Vec::with_capacity(b * 2 * c);
            for (i, mean) in mean.chunks_exact(c).enumerate() {
                rows.extend_from_slice(&s[i * n * c..i * n * c + c]);
                rows.extend_from_slice(mean);
            }
            rows
        });
        features.collect()
    }
}

/// One side of a probe.
struct ProbedSide<'a> {
    /// What is done with it.
    what: &'a str,
    source: &'a Source,
    /// By class of the source, the class of the probe.
    classes: &'a [Option<u32>],
}

impl ProbedSide<'_> {
    /// The images that a probe looks at; those of other classes are not even read.
    fn images(&self) -> Vec<usize> {
        let wanted = |&i: &usize| self.source.label(i).is_none_or(|l| self.class(l).is_some());
        (0..self.source.len()).filter(wanted).collect()
    }

    fn class(&self, label: u32) -> Option<u32> {
        self.classes.get(label as usize).copied().flatten()
    }

    fn class_of(&self, image: usize, label: Option<u32>) -> Result<u32> {
        label.and_then(|label| self.class(label)).ok_or_else(|| {
            Error::config(format!(
                "{}: a probe needs classes: put the images of each class into a folder of its name",
                self.source.name(image)
            ))
        })
    }
}

/// Features of one side's images, and those that cannot be read.
fn table<B: Backend>(
    bk: &B,
    probed: &Probed<B>,
    side: &ProbedSide,
    settings: &ProbeRun,
) -> Result<(FeatureTable, BadImages)> {
    let config = probed.0.sizes();
    let ((ih, iw), depth) = (config.image, config.depth);
    let mut table = FeatureTable {
        blocks: vec![Vec::new(); depth],
        labels: Vec::new(),
        width: 2 * config.width,
    };
    let indices = side.images();
    let mut progress = Progress::new(side.what, indices.len() as u64, 0, "images");
    let augment = views((ih, iw), (ih, iw), settings.normalise.of(probed.0.normalise));
    let mut bad = BadImages::new();
    for chunk in indices.chunks(64) {
        let (loaded, unread) =
            map_items(side.source, chunk, |item| (item.label, eval_view(&augment, &item.image)));
        let lines = unread.values().map(|reason| format!("skipped: {reason}"));
        lines.filter(|line| is_news(line)).for_each(|line| progress.note(&line));
        bad.extend(unread);
        check_bad(&bad, settings.common.max_bad, indices.len())?;
        progress.advance(chunk.len() as u64, "");
        if interrupted() {
            return Err(stopped());
        }
        if loaded.is_empty() {
            continue;
        }
        let count = loaded.len();
        let mut pixels = Vec::with_capacity(count * ih * iw * 3);
        for (i, (label, view)) in loaded {
            table.labels.push(side.class_of(i, label)?);
            pixels.extend(view);
        }
        let images = Tensor::from_f32(bk, pixels, &[count, ih, iw, 3]);
        for (all, rows) in table.blocks.iter_mut().zip(probed.features(bk, images)) {
            all.extend(rows);
        }
    }
    progress.finish();
    if table.labels.is_empty() {
        let (what, count) = (side.what, indices.len());
        return Err(Error::config(format!("{what}: none of {count} images can be read")));
    }
    Ok((table, bad))
}

/// Probes an encoder on labelled sources.
pub fn probe<B: Backend>(bk: &B, probed: &Probed<B>, config: &ProbeRun) -> Result<ProbeSummary> {
    let open = |spec: &str, split| Source::open_aloud(spec, &config.common.source(split));
    let (train, test) = (open(&config.train, Split::Train)?, open(&config.test, Split::Test)?);
    let shared = SharedClasses::of(train.classes(), test.classes(), config.common_classes)?;
    if shared.names.len() < 2 {
        return Err(Error::config(format!(
            "{}: a probe needs at least two classes (a folder of images for each)",
            config.train
        )));
    }
    if !shared.left_out.is_empty() {
        note(&format!("left out: {}", shared.left_out));
    }
    let side = |what, source, classes| ProbedSide { what, source, classes };
    let fitted = side("features of train", &train, &shared.train);
    let measured = side("features of test", &test, &shared.test);
    let (fitted, unread) = table(bk, probed, &fitted, config)?;
    let (measured, unread_too) = table(bk, probed, &measured, config)?;
    let classes = shared.names;
    let linear = linear_predictions(&fitted, &measured, classes.len(), config)?;
    let knn = (0..fitted.blocks.len())
        .map(|l| knn_predictions(&fitted, &measured, l, classes.len(), config.knn_k))
        .collect::<Vec<_>>();
    let unreadable = unread.into_values().chain(unread_too.into_values()).collect();
    let found = Found { fitted: &fitted.labels, measured: &measured.labels, linear, knn };
    Ok(ProbeSummary::new(&config.model, classes, &found, unreadable))
}
