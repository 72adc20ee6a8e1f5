//! What the Gaussian VAE does on images: figures, and pictures of its latents.

use super::elbo::byte_masses::ByteMasses;
use super::frozen::{load_all, spread};
use super::hard_codes::{mapped, squared_error};
use crate::data::augment::eval_views;
use crate::data::{AugmentConfig, Dataset, Image, Labelled};
#[cfg(doc)]
use crate::error::Error;
use crate::error::Result;
use crate::models::autoencoder::pixels;
use crate::models::vae::Vae;
use crate::ops::Backend;
use crate::ops::gaussian::LN_VARIANCE;
use crate::ops::gumbel_softmax::Noise;
use crate::params::{Ctx, Params};
use crate::real::clamped;
use crate::report::picture::Picture;
use crate::run::not_interrupted;
use crate::tensor::{Master, Tensor};
use std::f64::consts::LN_2;

/// Images that the figures of a finished run are measured on.
const EVALUATED: usize = 1024;
/// Mean KL, in nats, below which a channel says nothing.
const SILENT: f64 = 0.01;
/// Number of the first stream of noise that no step of a run draws from.
const UNTRAINED: u64 = 1 << 63;

/// How latents do on some images.
#[derive(Clone, Debug, Default)]
pub struct LatentFigures {
    /// Squared error of pixels in 0..1, summed, of the decoded means.
    pub squared_error: f64,
    /// Number of sub-pixels.
    pub sub_pixels: f64,
    /// ln P of the bytes under drawn latents, summed.
    pub ln_mass: f64,
    /// KL of each channel to the prior, summed over positions.
    pub channels: Vec<f64>,
    /// Number of positions.
    pub positions: f64,
    /// Number of images.
    pub images: usize,
}

impl LatentFigures {
    /// −10 log₁₀ of the mean squared error.
    pub fn psnr_db(&self) -> f64 {
        -10.0 * (self.squared_error / self.sub_pixels).log10()
    }

    /// Mean KL of each channel at a position.
    pub fn channel_kl(&self) -> Vec<f64> {
        self.channels.iter().map(|kl| kl / self.positions).collect()
    }

    /// Mean KL of a position.
    pub fn kl(&self) -> f64 {
        self.channels.iter().sum::<f64>() / self.positions
    }

    /// The bound on −log₂ P of a byte: its drawn latents' likelihood, and the KL.
    pub fn bits_per_dim(&self) -> f64 {
        (self.channels.iter().sum::<f64>() - self.ln_mass) / (self.sub_pixels * LN_2)
    }

    /// Share of the channels that say nothing: collapse of the posterior.
    pub fn silent(&self) -> f64 {
        let silent = self.channel_kl().iter().filter(|kl| **kl < SILENT).count();
        silent as f64 / self.channels.len().max(1) as f64
    }

    /// Adds the KL of each channel of moments `[..,2d]`.
    fn add_moments(&mut self, moments: &[f64], d: usize) {
        self.channels.resize(d, 0.0);
        for row in moments.chunks_exact(2 * d) {
            for (c, sum) in self.channels.iter_mut().enumerate() {
                let (lambda, _) = clamped(row[d + c], LN_VARIANCE);
                *sum += 0.5 * (row[c] * row[c] + lambda.exp() - 1.0 - lambda);
            }
            self.positions += 1.0;
        }
    }
}

/// The Gaussian VAE with weights.
pub struct Latents<'a, B: Backend> {
    /// The model.
    pub vae: &'a Vae,
    /// Its weights.
    pub w: &'a Params<B>,
}

impl<B: Backend> Latents<'_, B> {
    /// Adds what latents do on images of the model's size to `sums`.
    pub fn add(&self, bk: &B, images: &[Image], seed: u64, sums: &mut LatentFigures) {
        let (ctx, networks) = (Ctx::new(bk, self.w), &self.vae.networks);
        let target = mapped(bk, images);
        let (moments, _) = networks.encode(ctx, &bk.to_elem(&target, 1.0));
        sums.add_moments(&moments.to_f64(bk), self.vae.config.latent_channels);
        let noise = Noise::Philox { seed, step: UNTRAINED + sums.images as u64 };
        let drawn = bk.gaussian_forward(&moments, &noise).0;
        let (out, _) = networks.decode(ctx, &drawn);
        let (bytes, out) = (ByteMasses::default(), out.to_f64(bk));
        for (image, out) in images.iter().zip(out.chunks_exact(out.len() / images.len())) {
            sums.ln_mass += bytes.of_image(&image.pixels, out).0;
        }
        let shown = pixels(&self.decoded(bk, &bk.gaussian_forward(&moments, &Noise::None).0));
        sums.squared_error += squared_error(&target.to_f64(bk), &shown);
        sums.sub_pixels += target.len() as f64;
        sums.images += images.len();
    }

    /// What latents do on the central crops of at most 1024 images, spread over the source.
    /// [`Error::Interrupted`] once somebody wants the process to end.
    pub fn figures(
        &self,
        bk: &B,
        augment: &AugmentConfig,
        source: &impl Dataset<Item = Labelled>,
        seed: u64,
    ) -> Result<LatentFigures> {
        let mut sums = LatentFigures::default();
        for chunk in spread(source, EVALUATED).chunks(64) {
            not_interrupted()?;
            let images = load_all(source, chunk, |item| eval_views(augment, &item.image).tokens);
            if !images.is_empty() {
                self.add(bk, &images, seed, &mut sums);
            }
        }
        Ok(sums)
    }

    fn decoded(&self, bk: &B, z: &Tensor<B>) -> Vec<f64> {
        self.vae.networks.decode(Ctx::new(bk, self.w), z).0.to_f64(bk)
    }

    /// Means `[1,h,w,d]` of an image.
    fn means(&self, bk: &B, image: &Image) -> Vec<f64> {
        let x = bk.to_elem(&mapped(bk, std::slice::from_ref(image)), 1.0);
        let (moments, _) = self.vae.networks.encode(Ctx::new(bk, self.w), &x);
        bk.gaussian_forward(&moments, &Noise::None).0.to_f64(bk)
    }

    /// What one image's latents decode to.
    fn shown(&self, bk: &B, z: &[f64]) -> Picture {
        let (h, w) = self.vae.config.trunk.image;
        let z = Tensor::from_f64(bk, z, &self.latent_shape(1));
        let out: Vec<f32> = pixels(&self.decoded(bk, &z)).into_iter().map(|p| p as f32).collect();
        Picture::from_unit(&out, h, w).enlarge((128 / h.max(1)).max(1))
    }

    fn latent_shape(&self, images: usize) -> [usize; 4] {
        let (h, w) = self.vae.config.trunk.grid();
        [images, h, w, self.vae.config.latent_channels]
    }

    /// A row for each image: original, and its means decoded.
    pub fn reconstructions(&self, bk: &B, images: &[Image]) -> Picture {
        let (h, w) = self.vae.config.trunk.image;
        let original = |image: &Image| Picture::from_bytes(&image.pixels, h, w);
        let enlarged = |picture: Picture| picture.enlarge((128 / h.max(1)).max(1));
        let row =
            |image: &Image| [enlarged(original(image)), self.shown(bk, &self.means(bk, image))];
        Picture::grid(&images.iter().flat_map(row).collect::<Vec<_>>(), 2)
    }

    /// Latents drawn from the prior and decoded.
    pub fn samples(&self, bk: &B, count: usize, seed: u64) -> Picture {
        let [n, h, w, d] = self.latent_shape(count);
        let prior = Master::zeros(bk, &[n, h, w, 2 * d]);
        let noise = Noise::Philox { seed, step: u64::MAX };
        let z = bk.gaussian_forward(&prior, &noise).0.to_f64(bk);
        let tiles: Vec<_> = z.chunks_exact(h * w * d).map(|z| self.shown(bk, z)).collect();
        Picture::grid(&tiles, count.min(6))
    }

    /// A row for each pair of neighbours: decoded on the straight way from the means of one to those of the other.
    pub fn interpolations(&self, bk: &B, images: &[Image], steps: usize) -> Picture {
        let mut tiles = Vec::new();
        for pair in images.chunks_exact(2) {
            let (from, to) = (self.means(bk, &pair[0]), self.means(bk, &pair[1]));
            tiles.extend((0..steps).map(|i| {
                let t = i as f64 / (steps - 1) as f64;
                let z: Vec<f64> =
                    from.iter().zip(&to).map(|(a, b)| (1.0 - t) * a + t * b).collect();
                self.shown(bk, &z)
            }));
        }
        Picture::grid(&tiles, steps)
    }
}
