//! How well an encoder predicts the tokens of hidden patches.

use super::frozen::{Tokenizer, broken_parameter, load_all, spread};
use crate::data::augment::{Views, eval_views};
use crate::data::pixels::PixelMap;
use crate::data::{AugmentConfig, Dataset, Image, Labelled, MaskConfig};
#[cfg(doc)]
use crate::error::Error;
use crate::error::Result;
use crate::models::beit::{MaskedBatch, MaskedImageModel, masked_rows};
use crate::models::encoder::EncoderInput;
use crate::ops::Backend;
use crate::ops::cross_entropy::Target;
use crate::params::{Ctx, Params};
use crate::rng::{Philox, Purpose};
use crate::run::not_interrupted;
use crate::tensor::{Bytes, Ids, Master};
use std::collections::BTreeMap;

/// Images that the figures of a finished run are measured on.
const EVALUATED: usize = 1024;

/// Masks that they are measured under: a few images are shown under several each, so that the figures are not
/// those of a handful of patches.
const FEWEST_MASKS: usize = 256;

/// Masks to show an encoder that comes without its run's law: 40 % of the patches, in blocks of at least 16 on
/// a 14x14 grid and 4 on a smaller one.
pub fn usual_masks((height, width): (usize, usize)) -> MaskConfig {
    block_masks((height, width), (height * width * 2 / 5).max(1))
}

/// Masks of at most `count` patches in such blocks.
pub fn block_masks((height, width): (usize, usize), count: usize) -> MaskConfig {
    let least = if height * width >= 196 { 16 } else { 4 };
    MaskConfig::block(height, width, count, least.min(count))
}

/// Both views of a crop and its mask.
pub struct MaskedSample {
    /// What the encoder and the tokenizer see.
    pub views: Views,
    /// `[Np]`; true is hidden.
    pub mask: Vec<bool>,
}

/// An encoder, the tokenizer whose tokens it predicts, and how images are shown to both.
pub struct TokenPrediction<B: Backend> {
    /// The encoder.
    pub model: MaskedImageModel<B>,
    /// The tokenizer.
    pub tokenizer: Tokenizer<B>,
    /// Law of the masks.
    pub masks: MaskConfig,
    /// Sizes of the views and how they are varied.
    pub augment: AugmentConfig,
    /// Seed of the masks.
    pub seed: u64,
}

/// What the evaluation images showed.
#[derive(Clone, Debug, Default)]
pub struct MaskedFigures {
    /// Number of images.
    pub images: usize,
    /// Cross-entropy in nats, summed over masked patches.
    pub loss: f64,
    /// Masked patches whose token was predicted.
    pub correct: u64,
    /// Tokens of all masked patches.
    pub labels: Vec<u32>,
}

impl MaskedFigures {
    /// Masked patches, at least 1.
    pub fn masked(&self) -> f64 {
        self.labels.len().max(1) as f64
    }

    /// Share of the most frequent token: what a constant guess would reach.
    pub fn majority(&self) -> f64 {
        let mut counts = BTreeMap::<u32, u64>::new();
        self.labels.iter().for_each(|&l| *counts.entry(l).or_default() += 1);
        counts.into_values().max().unwrap_or(0) as f64 / self.masked()
    }
}

impl<B: Backend> TokenPrediction<B> {
    /// Tensors of some samples and the labels of their masked patches. Waits for nothing.
    pub fn batch(&self, bk: &B, samples: &[MaskedSample]) -> (MaskedBatch<B>, Ids<B>) {
        let (b, sizes) = (samples.len(), &self.model.config);
        let ((ih, iw), np) = (sizes.encoder.image, sizes.encoder.patches());
        let (th, tw) = self.tokenizer.dvae.config.image;
        let elem = |view: fn(&Views) -> &Image, map: PixelMap, shape: [usize; 4]| {
            let images: Vec<&[u8]> = samples.iter().map(|s| &*view(&s.views).pixels).collect();
            let table = Master::from_f32(bk, map.table(), &[3, 256]);
            bk.pixels_elem(&Bytes::from_pieces(bk, &images, &shape), &table)
        };
        let mask: Vec<bool> = samples.iter().flat_map(|s| s.mask.iter().copied()).collect();
        let tokens =
            self.tokenizer.tokens(bk, &elem(|v| &v.tokens, PixelMap::map_pixels(), [b, th, tw, 3]));
        let hidden = (0..mask.len() as u32).filter(|&i| mask[i as usize]).collect::<Vec<_>>();
        let count = hidden.len();
        let labels = bk.gather_ids(&tokens, &Ids::from_vec(bk, hidden, &[count]));
        let rows = masked_rows(&mask, np);
        let batch = MaskedBatch {
            images: elem(|v| &v.patch, self.augment.normalise(), [b, ih, iw, 3]),
            mask: Ids::from_vec(bk, mask.iter().map(|&m| u32::from(m)).collect(), &[b, np]),
            rows: Ids::from_vec(bk, rows.clone(), &[rows.len()]),
            keep: None,
        };
        (batch, labels)
    }

    /// Name of the first tensor of a forward pass that holds something not finite.
    pub fn first_non_finite(&self, bk: &B, w: &Params<B>, batch: &MaskedBatch<B>) -> String {
        let broken = |values: &[f64]| values.iter().any(|x| !x.is_finite());
        if let Some(name) = broken_parameter(bk, w) {
            return format!("parameter {name}");
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

    /// What the model says about fixed views and masks of at most 1024 images, a few of them under several masks. [`Error::Interrupted`] once
    /// somebody wants the process to end.
    pub fn evaluate(
        &self,
        bk: &B,
        w: &Params<B>,
        source: &impl Dataset<Item = Labelled>,
    ) -> Result<MaskedFigures> {
        let mut seen = MaskedFigures::default();
        let indices = spread(source, EVALUATED);
        let masks = FEWEST_MASKS.div_ceil(indices.len());
        let chunks = indices.chunks(64);
        for (chunk, round) in chunks.flat_map(|chunk| (0..masks as u32).map(move |r| (chunk, r))) {
            not_interrupted()?;
            let samples = load_all(source, chunk, |item| {
                // No training epoch has such a number.
                let (epoch, index) = (u32::MAX - round, item.index as u32);
                let mut rng = Philox::new(self.seed, Purpose::Mask, epoch, index);
                let views = eval_views(&self.augment, &item.image);
                MaskedSample { views, mask: self.masks.draw(&mut rng) }
            });
            seen.images += if round == 0 { samples.len() } else { 0 };
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
        Ok(seen)
    }
}
