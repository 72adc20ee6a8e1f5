//! The Gaussian VAE beside the tokenizer: an image to a grid of real numbers and back, through the same
//! networks (arXiv 1312.6114; networks and likelihood of arXiv 2102.12092, A.1 and A.3).
//!
//! ```text
//! moments = encoder(x)                  [B,h,w,2d]: μ and λ = ln σ², h = H/f
//! z = μ + σ ε,  ε ~ N(0, 1)             [B,h,w,d]
//! out = decoder(z)                      [B,H,W,6]
//! loss = (Σ nll + β Σ KL(N(μ, σ²) ‖ N(0, 1))) / (B · 3HW)
//! ```

mod case;

pub use case::*;

use crate::models::autoencoder::{Autoencoder, Likelihood};
use crate::models::config::VaeConfig;
use crate::ops::Backend;
use crate::ops::gumbel_softmax::Noise;
use crate::params::Grad;
use crate::storage::Storage;
use crate::tensor::{Master, Tensor};

/// Encoder, latents and decoder.
pub struct Vae {
    /// Sizes.
    pub config: VaeConfig,
    /// Both networks: from pixels to moments, and from latents to pixels.
    pub networks: Autoencoder,
}

/// One training step's settings.
#[derive(Clone, Copy, Debug)]
pub struct VaeStep {
    /// Weight β of the KL term.
    pub kl_weight: f64,
    /// What the decoder's output means.
    pub likelihood: Likelihood,
    /// 1 over (images of the whole optimizer step × sub-pixels of an image).
    pub scale: f64,
}

/// What a step saw, on the device.
pub struct VaeLosses<B: Storage> {
    /// Negative log-likelihood (or squared error) summed per image, `[B]`.
    pub reconstruction: Master<B>,
    /// KL to the standard normal prior per position, `[B,h,w]`, in nats.
    pub kl: Master<B>,
    /// The encoder's output `[B,h,w,2d]`.
    pub moments: Master<B>,
    /// Decoder output `[B,H,W,6]`.
    pub out: Master<B>,
    /// Gradients of the mapped pixels, where asked for: through the encoder, and through the likelihood
    /// (logit-Laplace only).
    pub dx: Option<(Tensor<B>, Option<Master<B>>)>,
}

impl Vae {
    /// Builds both networks.
    pub fn new(config: &VaeConfig) -> Self {
        let d = config.latent_channels;
        Self { config: config.clone(), networks: Autoencoder::new(&config.trunk, 2 * d, d) }
    }

    /// Forward, loss and backward of one micro-batch: x `[B,H,W,3]` mapped pixels, as operand and as
    /// target of the likelihood.
    pub fn loss_and_gradients<B: Backend>(
        &self,
        grad: &mut Grad<B>,
        x: &Tensor<B>,
        target: &Master<B>,
        noise: &Noise<B>,
        step: &VaeStep,
        need_dx: bool,
    ) -> VaeLosses<B> {
        let (ctx, bk) = (grad.ctx, grad.ctx.bk);
        let (moments, encoder) = self.networks.encode(ctx, x);
        let (z, kl) = bk.gaussian_forward(&moments, noise);
        let (out, decoder) = self.networks.decode(ctx, &z);
        let judged = step.likelihood.judge(bk, target, &out, step.scale);
        let dz = self.networks.decode_backward(grad, &z, decoder, &judged.dout);
        let weight = step.kl_weight * step.scale;
        let dmoments = bk.gaussian_backward(&moments, noise, &dz, weight);
        drop((z, dz));
        let dx = self.networks.encode_backward(grad, x, encoder, &dmoments, need_dx);
        let dx = dx.map(|dx| (dx, judged.dtarget));
        VaeLosses { reconstruction: judged.losses, kl, moments, out, dx }
    }
}
