//! The discrete VAE: an image to a grid of visual tokens and back (arXiv 2102.12092, A.1 to A.3).
//!
//! ```text
//! logits = encoder(x)                       [B,h,w,K], h = H/f
//! z = gumbel_softmax(logits, τ)             relaxed one-hot; tokens = argmax logits
//! out = decoder(z)                          [B,H,W,6]: μ and ln b of the logit-Laplace likelihood
//! loss = (Σ nll + β Σ KL(softmax(logits) ‖ uniform)) / (B · 3HW)
//! ```

mod case;

pub use crate::models::autoencoder::{Likelihood, pixels};
pub use case::*;

use crate::models::autoencoder::{Autoencoder, TrunkCache};
use crate::models::config::DvaeConfig;
use crate::ops::Backend;
use crate::ops::gumbel_softmax::Noise;
use crate::params::{Ctx, Grad, Layout};
use crate::storage::Storage;
use crate::tensor::{Ids, Master, Tensor};

/// Encoder, codebook and decoder.
pub struct Dvae {
    /// Sizes.
    pub config: DvaeConfig,
    /// All parameters, the encoder's first.
    pub layout: Layout,
    networks: Autoencoder,
}

impl Dvae {
    /// Builds both networks.
    pub fn new(config: &DvaeConfig) -> Self {
        let networks = Autoencoder::new(&config.trunk(), config.vocab, config.vocab);
        Self { config: config.clone(), layout: networks.layout.clone(), networks }
    }

    /// x `[B,H,W,3]` mapped pixels -> logits `[B,h,w,K]`.
    pub fn encode<B: Backend>(&self, ctx: Ctx<B>, x: &Tensor<B>) -> (Master<B>, TrunkCache<B>) {
        self.networks.encode(ctx, x)
    }

    /// dlogits -> dx where wanted.
    pub fn encode_backward<B: Backend>(
        &self,
        grad: &mut Grad<B>,
        x: &Tensor<B>,
        cache: TrunkCache<B>,
        dlogits: &Master<B>,
        need_dx: bool,
    ) -> Option<Tensor<B>> {
        self.networks.encode_backward(grad, x, cache, dlogits, need_dx)
    }

    /// z `[B,h,w,K]`, one-hot or relaxed -> `[B,H,W,6]`.
    pub fn decode<B: Backend>(&self, ctx: Ctx<B>, z: &Tensor<B>) -> (Master<B>, TrunkCache<B>) {
        self.networks.decode(ctx, z)
    }

    /// dout `[B,H,W,6]` -> dz `[B,h,w,K]`.
    pub fn decode_backward<B: Backend>(
        &self,
        grad: &mut Grad<B>,
        z: &Tensor<B>,
        cache: TrunkCache<B>,
        dout: &Master<B>,
    ) -> Tensor<B> {
        self.networks.decode_backward(grad, z, cache, dout)
    }

    /// Visual tokens `[B,h,w]` of mapped pixels `[B,H,W,3]`: argmax of the logits, without noise.
    pub fn tokens<B: Backend>(&self, ctx: Ctx<B>, x: &Tensor<B>) -> Ids<B> {
        ctx.bk.argmax(&self.encode(ctx, x).0)
    }

    /// One-hot codes `[B,h,w,K]` of tokens `[B,h,w]`.
    pub fn one_hot<B: Backend>(&self, bk: &B, tokens: &Ids<B>) -> Tensor<B> {
        use crate::real::Float;
        let k = self.config.vocab;
        let mut z = vec![B::Elem::from_f64(0.0); tokens.len() * k];
        for (row, token) in z.chunks_exact_mut(k).zip(tokens.to_vec(bk)) {
            row[token as usize] = B::Elem::from_f64(1.0);
        }
        let shape: Vec<usize> = tokens.shape().iter().copied().chain([k]).collect();
        Tensor::from_vec(bk, z, &shape)
    }
}

/// One training step's settings.
#[derive(Clone, Copy, Debug)]
pub struct DvaeStep {
    /// τ of the relaxation.
    pub temperature: f64,
    /// Weight β of the KL term.
    pub kl_weight: f64,
    /// Weight, beside β, of that part of the KL that says nothing: the KL of the codes' mean
    /// distribution. 0 in DALL-E.
    pub usage_weight: f64,
    /// One-hot codes in the forward pass, the relaxation's gradient in the backward pass.
    pub straight_through: bool,
    /// What the decoder's output means.
    pub likelihood: Likelihood,
    /// 1 over (images of the whole optimizer step × sub-pixels of an image). `Deviation:` the original
    /// averages over each device's own images.
    pub scale: f64,
}

/// What a step saw, on the device.
pub struct DvaeLosses<B: Storage> {
    /// Negative log-likelihood (or squared error) summed per image, `[B]`.
    pub reconstruction: Master<B>,
    /// KL to the uniform prior per position, `[B,h,w]`, in nats.
    pub kl: Master<B>,
    /// KL of the mean code distribution to the uniform prior, `[1]`, in nats.
    pub unused: Master<B>,
    /// Encoder logits `[B,h,w,K]`.
    pub logits: Master<B>,
    /// Decoder output `[B,H,W,6]`.
    pub out: Master<B>,
    /// Gradients of the mapped pixels, where asked for: through the encoder, and through the
    /// likelihood (logit-Laplace only).
    pub dx: Option<(Tensor<B>, Option<Master<B>>)>,
}

impl Dvae {
    /// Forward, loss and backward of one micro-batch: x `[B,H,W,3]` mapped pixels, as operand and as
    /// target of the likelihood.
    pub fn loss_and_gradients<B: Backend>(
        &self,
        grad: &mut Grad<B>,
        x: &Tensor<B>,
        target: &Master<B>,
        noise: &Noise<B>,
        step: &DvaeStep,
        need_dx: bool,
    ) -> DvaeLosses<B> {
        let (ctx, bk) = (grad.ctx, grad.ctx.bk);
        let (logits, encoder) = self.encode(ctx, x);
        let (z, y) =
            bk.gumbel_softmax_forward(&logits, noise, step.temperature, step.straight_through);
        let (out, decoder) = self.decode(ctx, &z);
        let kl = bk.kl_uniform_forward(&logits);
        let judged = step.likelihood.judge(bk, target, &out, step.scale);
        let dz = self.decode_backward(grad, &z, decoder, &judged.dout);
        let mut dlogits = bk.gumbel_softmax_backward(&y, &dz, step.temperature);
        bk.add(&mut dlogits, &bk.kl_uniform_backward(&logits, step.kl_weight * step.scale));
        let (unused, mean) = bk.kl_aggregate_forward(&logits);
        if step.usage_weight > 0.0 {
            // In the unit of the other terms: as if every position had it.
            let scale = step.usage_weight * step.scale * logits.rows() as f64;
            bk.add(&mut dlogits, &bk.kl_aggregate_backward(&logits, &mean, scale));
        }
        drop((y, z, dz));
        let dx = self.encode_backward(grad, x, encoder, &dlogits, need_dx);
        let dx = dx.map(|dx| (dx, judged.dtarget));
        DvaeLosses { reconstruction: judged.losses, kl, unused, logits, out, dx }
    }
}
