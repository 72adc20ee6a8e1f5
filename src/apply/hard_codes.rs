//! What a tokenizer's hard codes (argmax, no noise) do on images.

use super::frozen::{load_all, spread};
use crate::data::augment::eval_views;
use crate::data::pixels::PixelMap;
use crate::data::{AugmentConfig, Dataset, Image, Labelled};
#[cfg(doc)]
use crate::error::Error;
use crate::error::Result;
use crate::models::dvae::Dvae;
use crate::ops::Backend;
use crate::params::{Ctx, Params};
use crate::run::not_interrupted;
use crate::tensor::{Bytes, Master};
use serde::{Deserialize, Serialize};

/// Images that the figures of a finished run are measured on.
const EVALUATED: usize = 1024;

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

/// Images of one size as a batch of mapped pixels `[B,H,W,3]`.
pub fn mapped<B: Backend>(bk: &B, images: &[Image]) -> Master<B> {
    let pieces: Vec<&[u8]> = images.iter().map(|image| &*image.pixels).collect();
    let (height, width) = images.first().map_or((0, 0), |image| (image.height, image.width));
    let bytes = Bytes::from_pieces(bk, &pieces, &[images.len(), height, width, 3]);
    bk.pixels(&bytes, &Master::from_f32(bk, PixelMap::map_pixels().table(), &[3, 256]))
}

/// Squared error of pixels in 0..1 that stand for these mapped ones, summed.
pub(super) fn squared_error(mapped: &[f64], shown: &[f64]) -> f64 {
    let error = |(x, p): (&f64, &f64)| {
        let p0 = ((x - 0.1) / 0.8).clamp(0.0, 1.0);
        (p - p0) * (p - p0)
    };
    mapped.iter().zip(shown).map(error).sum()
}

/// Adds what hard codes do on images of the tokenizer's size to `sums`.
pub fn add_hard_codes<B: Backend>(
    bk: &B,
    dvae: &Dvae,
    w: &Params<B>,
    images: &[Image],
    sums: &mut HardCodes,
) {
    let target = mapped(bk, images);
    let x = bk.to_elem(&target, 1.0);
    let (logits, _) = dvae.encode(Ctx::new(bk, w), &x);
    let tokens = bk.argmax(&logits);
    let (out, _) = dvae.decode(Ctx::new(bk, w), &dvae.one_hot(bk, &tokens));
    sums.nll += bk.logit_laplace_forward(&target, &out).to_f64(bk).iter().sum::<f64>();
    sums.kl += bk.kl_uniform_forward(&logits).to_f64(bk).iter().sum::<f64>();
    sums.counts.resize(dvae.config.vocab, 0);
    tokens.to_vec(bk).iter().for_each(|&t| sums.counts[t as usize] += 1);
    let shown = crate::models::dvae::pixels(&out.to_f64(bk));
    sums.squared_error += squared_error(&target.to_f64(bk), &shown);
    sums.sub_pixels += target.len() as f64;
    sums.images += images.len();
}

/// What hard codes do on the central crops of at most 1024 images, spread over the source.
/// [`Error::Interrupted`] once somebody wants the process to end.
pub fn hard_codes<B: Backend>(
    bk: &B,
    dvae: &Dvae,
    w: &Params<B>,
    augment: &AugmentConfig,
    source: &impl Dataset<Item = Labelled>,
) -> Result<HardCodes> {
    let mut sums = HardCodes::default();
    for chunk in spread(source, EVALUATED).chunks(64) {
        not_interrupted()?;
        let images = load_all(source, chunk, |item| eval_views(augment, &item.image).tokens);
        if !images.is_empty() {
            add_hard_codes(bk, dvae, w, &images, &mut sums);
        }
    }
    Ok(sums)
}
