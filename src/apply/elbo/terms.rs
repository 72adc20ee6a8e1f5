//! The terms of the bound on some images, from the models of both stages.

use super::byte_masses::ByteMasses;
use crate::apply::hard_codes::mapped;
use crate::data::augment::Views;
use crate::data::pixels::PixelMap;
use crate::data::{Image, MaskConfig};
use crate::models::beit::{MaskedBatch, MaskedImageModel, masked_rows};
use crate::models::dvae::Dvae;
use crate::ops::Backend;
use crate::ops::gumbel_softmax::{Noise, gumbel};
use crate::params::{Ctx, Params};
use crate::rng::{Philox, Purpose};
use crate::tensor::{Bytes, Ids, Master, Tensor};
use rayon::prelude::*;
use serde::Serialize;

/// How often chance is asked for each image.
#[derive(Clone, Copy, Debug)]
pub struct Chances {
    /// Seed of codes and masks.
    pub seed: u64,
    /// Codes drawn from q.
    pub draws: u32,
    /// Masks.
    pub masks: u32,
    /// τ of the relaxed codes.
    pub temperature: f64,
}

/// Tokenizer and encoder with their weights: q, decoder and prior.
pub struct TwoStages<'a, B: Backend> {
    /// The tokenizer.
    pub tokenizer: (&'a Dvae, &'a Params<B>),
    /// The encoder.
    pub encoder: (&'a MaskedImageModel<B>, &'a Params<B>),
    /// Map of the encoder's view.
    pub normalise: PixelMap,
    /// Law of the masks.
    pub masks: MaskConfig,
    /// How often chance is asked.
    pub chances: Chances,
}

/// An image's number in its source, and its views.
pub type Seen = (usize, Views);

/// One image's terms, all in nats; means over draws and masks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct BoundTerms {
    /// ln p(x|z) of codes drawn from q, by exact masses.
    pub hard: f64,
    /// The same of relaxed codes, from the same noise.
    pub relaxed: f64,
    /// ln p(x|z) of the drawn codes by density times width.
    pub density: f64,
    /// ln p(x|ẑ) of the most likely codes.
    pub point: f64,
    /// KL(q ‖ uniform) over all positions.
    pub uniform_all: f64,
    /// KL(q ‖ uniform) over masked positions.
    pub uniform_masked: f64,
    /// KL(q ‖ p_θ) over all positions.
    pub prior_all: f64,
    /// KL(q ‖ p_θ) over masked positions.
    pub prior_masked: f64,
    /// −ln p_θ(ẑ) over all positions.
    pub surprise: f64,
    /// Masked positions.
    pub hidden: f64,
}

/// q of one image, position by position.
pub(super) struct Posterior {
    vocab: usize,
    /// `[N,K]`
    pub(super) log_q: Vec<f64>,
    /// Most likely code of each position, the lowest on ties.
    pub(super) best: Vec<usize>,
    /// KL to the uniform prior of each position.
    pub(super) uniform: Vec<f64>,
}

/// Turns rows of `vocab` logits into logarithms of their softmax.
pub(super) fn log_softmax(rows: &mut [f64], vocab: usize) {
    for row in rows.chunks_exact_mut(vocab) {
        let max = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let lse = max + row.iter().map(|x| (x - max).exp()).sum::<f64>().ln();
        row.iter_mut().for_each(|x| *x -= lse);
    }
}

impl Posterior {
    fn new(logits: &[f64], vocab: usize) -> Self {
        let mut log_q = logits.to_vec();
        log_softmax(&mut log_q, vocab);
        let best = |row: &[f64]| (0..vocab).fold(0, |b, k| if row[k] > row[b] { k } else { b });
        let uniform =
            |row: &[f64]| row.iter().map(|q| q.exp() * q).sum::<f64>() + (vocab as f64).ln();
        let rows = || log_q.chunks_exact(vocab);
        let (best, uniform) = (rows().map(best).collect(), rows().map(uniform).collect());
        Self { vocab, log_q, best, uniform }
    }

    /// Adds what a prior says under one mask; its logits are `[N,K]`.
    fn add_prior(&self, logits: &[f64], mask: &[bool], terms: &mut BoundTerms) {
        let mut log_p = logits.to_vec();
        log_softmax(&mut log_p, self.vocab);
        let rows = self.log_q.chunks_exact(self.vocab).zip(log_p.chunks_exact(self.vocab));
        for (i, (log_q, log_p)) in rows.enumerate() {
            let kl: f64 = log_q.iter().zip(log_p).map(|(q, p)| q.exp() * (q - p)).sum();
            terms.prior_all += kl;
            terms.surprise -= log_p[self.best[i]];
            if mask[i] {
                terms.prior_masked += kl;
                terms.uniform_masked += self.uniform[i];
                terms.hidden += 1.0;
            }
        }
    }
}

impl BoundTerms {
    /// Whether every term is a finite number.
    pub fn is_finite(&self) -> bool {
        let Self { hard, relaxed, density, point, uniform_all, prior_all, surprise, .. } = self;
        let wholes = [hard, relaxed, density, point, uniform_all, prior_all, surprise];
        wholes.into_iter().all(|x| x.is_finite())
    }

    /// Means of what `draws` codes and `masks` masks have added up to.
    fn over(mut self, draws: u32, masks: u32) -> Self {
        let (draws, masks) = (f64::from(draws), f64::from(masks));
        for sum in [&mut self.hard, &mut self.relaxed, &mut self.density] {
            *sum /= draws;
        }
        let of_masks = [&mut self.prior_all, &mut self.prior_masked, &mut self.uniform_masked];
        for sum in of_masks.into_iter().chain([&mut self.surprise, &mut self.hidden]) {
            *sum /= masks;
        }
        self
    }
}

impl<B: Backend> TwoStages<'_, B> {
    /// Terms of each image. Chance depends on the seed and an image's number alone.
    pub fn measure(&self, bk: &B, seen: &[Seen]) -> Vec<BoundTerms> {
        let logits = self.logits(bk, seen);
        let posteriors = self.posteriors(bk, &logits);
        let mut terms = vec![BoundTerms::default(); seen.len()];
        self.add_likelihoods(bk, seen, &logits, &mut terms);
        for (terms, posterior) in terms.iter_mut().zip(&posteriors) {
            terms.uniform_all = posterior.uniform.iter().sum();
        }
        let mut batch = self.masked_batch(bk, seen);
        for round in 0..self.chances.masks {
            let masks: Vec<_> = seen.iter().map(|(image, _)| self.mask(*image, round)).collect();
            self.add_prior(bk, &mut batch, &posteriors, &masks, &mut terms);
        }
        let Chances { draws, masks, .. } = self.chances;
        terms.into_iter().map(|t| t.over(draws, masks)).collect()
    }

    /// Logits of q, `[B,h,w,K]`.
    pub(super) fn logits(&self, bk: &B, seen: &[Seen]) -> Master<B> {
        let images: Vec<Image> = seen.iter().map(|(_, views)| views.tokens.clone()).collect();
        let (dvae, w) = self.tokenizer;
        dvae.encode(Ctx::new(bk, w), &bk.to_elem(&mapped(bk, &images), 1.0)).0
    }

    pub(super) fn posteriors(&self, bk: &B, logits: &Master<B>) -> Vec<Posterior> {
        let config = &self.tokenizer.0.config;
        let (vocab, positions) = (config.vocab, config.tokens());
        let logits = logits.to_f64(bk);
        logits.par_chunks_exact(positions * vocab).map(|l| Posterior::new(l, vocab)).collect()
    }

    /// ln p(x|z) of each image, by exact masses and by density times width; z is `[B,h,w,K]`.
    pub(super) fn likelihoods(&self, bk: &B, seen: &[Seen], z: &Tensor<B>) -> Vec<(f64, f64)> {
        let (dvae, w) = self.tokenizer;
        let out = dvae.decode(Ctx::new(bk, w), z).0.to_f64(bk);
        let (bytes, one) = (ByteMasses::default(), out.len() / seen.len());
        let images = out.par_chunks_exact(one).zip(seen);
        images.map(|(out, (_, views))| bytes.of_image(&views.tokens.pixels, out)).collect()
    }

    /// Adds ln p(x|z) of drawn and of relaxed codes, and of the most likely ones.
    fn add_likelihoods(&self, bk: &B, seen: &[Seen], logits: &Master<B>, terms: &mut [BoundTerms]) {
        let Chances { draws, temperature, .. } = self.chances;
        for draw in 0..draws {
            let noise = Master::from_f64(bk, &self.noise(seen, draw), logits.shape());
            let noise = Noise::Given(&noise);
            let (hard, relaxed) = bk.gumbel_softmax_forward(logits, &noise, temperature, true);
            let hard = self.likelihoods(bk, seen, &hard);
            let relaxed = self.likelihoods(bk, seen, &bk.to_elem(&relaxed, 1.0));
            for (terms, (hard, relaxed)) in terms.iter_mut().zip(hard.iter().zip(&relaxed)) {
                terms.hard += hard.0;
                terms.density += hard.1;
                terms.relaxed += relaxed.0;
            }
        }
        let best = self.tokenizer.0.one_hot(bk, &bk.argmax(logits));
        for (terms, point) in terms.iter_mut().zip(self.likelihoods(bk, seen, &best)) {
            terms.point = point.0;
        }
    }

    /// Gumbel noise of one draw, `[B,h,w,K]`.
    pub(super) fn noise(&self, seen: &[Seen], draw: u32) -> Vec<f64> {
        let config = &self.tokenizer.0.config;
        let one = config.tokens() * config.vocab;
        let mut noise = vec![0.0; seen.len() * one];
        noise.par_chunks_exact_mut(one).zip(seen).for_each(|(noise, (image, _))| {
            // No step of training has such a number.
            let (seed, rare) = (self.chances.seed, u32::MAX - draw);
            let stream = Philox::new(seed, Purpose::Gumbel, *image as u32, rare);
            for (block, noise) in (0..).zip(noise.chunks_mut(4)) {
                let words = stream.block_at(block);
                noise.iter_mut().zip(words).for_each(|(noise, word)| *noise = gumbel(word));
            }
        });
        noise
    }

    /// The mask of an image in one round.
    pub(super) fn mask(&self, image: usize, round: u32) -> Vec<bool> {
        // No epoch of training has such a number.
        let (seed, rare) = (self.chances.seed, u32::MAX - round);
        self.masks.draw(&mut Philox::new(seed, Purpose::Mask, rare, image as u32))
    }

    /// The encoder's view of the images, without a mask as yet; every patch is asked for.
    pub(super) fn masked_batch(&self, bk: &B, seen: &[Seen]) -> MaskedBatch<B> {
        let sizes = &self.encoder.0.config;
        let ((height, width), np, b) = (sizes.encoder.image, sizes.encoder.patches(), seen.len());
        let pixels: Vec<&[u8]> = seen.iter().map(|(_, v)| &*v.patch.pixels).collect();
        let bytes = Bytes::from_pieces(bk, &pixels, &[b, height, width, 3]);
        let rows = masked_rows(&vec![true; b * np], np);
        MaskedBatch {
            images: bk
                .pixels_elem(&bytes, &Master::from_f32(bk, self.normalise.table(), &[3, 256])),
            mask: Ids::zeros(bk, &[b, np]),
            rows: Ids::from_vec(bk, rows, &[b * np]),
            keep: None,
        }
    }

    /// Adds what the prior says of each image under its mask.
    pub(super) fn add_prior(
        &self,
        bk: &B,
        batch: &mut MaskedBatch<B>,
        posteriors: &[Posterior],
        masks: &[Vec<bool>],
        terms: &mut [BoundTerms],
    ) {
        let (model, w) = self.encoder;
        let flags = masks.iter().flatten().map(|&hidden| u32::from(hidden)).collect();
        batch.mask = Ids::from_vec(bk, flags, batch.mask.shape());
        let logits = model.logits(Ctx::new(bk, w), batch).to_f64(bk);
        let logits =
            logits.par_chunks_exact(model.config.encoder.patches() * model.config.outputs());
        let images = terms.par_iter_mut().zip(posteriors).zip(logits).zip(masks);
        images.for_each(|(((terms, q), logits), mask)| q.add_prior(logits, mask, terms));
    }
}
