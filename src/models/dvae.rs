//! The discrete VAE: an image to a grid of visual tokens and back (arXiv 2102.12092, A.1 to A.3).
//!
//! ```text
//! logits = encoder(x)                       [B,h,w,K], h = H/f
//! z = gumbel_softmax(logits, τ)             relaxed one-hot; tokens = argmax logits
//! out = decoder(z)                          [B,H,W,6]: μ and ln b of the logit-Laplace likelihood
//! loss = (Σ nll + β Σ KL(softmax(logits) ‖ uniform)) / (B · 3HW)
//! ```

mod case;

pub use case::*;

use crate::layers::resblock::{ResBlock, ResBlockCache, Side};
use crate::models::config::DvaeConfig;
use crate::ops::Backend;
use crate::ops::conv2d::Conv;
use crate::ops::convert::to_master;
use crate::ops::gumbel_softmax::Noise;
use crate::params::{Ctx, Grad, Layout, Registry};
use crate::storage::Storage;
use crate::tensor::{Ids, Master, Tensor};
use std::ops::Range;

/// Likelihood of the decoder's output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Likelihood {
    /// Laplace in logit space with a learned scale (the DALL-E paper, A.3): six output channels.
    LogitLaplace,
    /// Squared error of the first three output channels against the mapped pixels.
    SquaredError,
}

/// Three changes of resolution or none: between groups, never after the last.
struct Trunk {
    input: Conv,
    groups: Vec<Vec<ResBlock>>,
    output: Conv,
    /// Its parameters.
    range: Range<usize>,
}

impl Trunk {
    /// `widths[0]` after the input convolution, then one per group.
    fn new(
        reg: &mut Registry,
        side: Side,
        config: &DvaeConfig,
        widths: &[usize],
        (channels_in, channels_out): (usize, usize),
    ) -> Self {
        let (prefix, kernel) = match side {
            Side::Encoder => ("encoder", 7),
            Side::Decoder => ("decoder", 1),
        };
        let name = |part: &str| format!("{prefix}.blocks.{part}");
        let start = reg.len();
        let input = Conv::new(reg, &name("input"), (channels_in, widths[0]), kernel, false);
        let mut width = widths[0];
        let mut groups = Vec::new();
        for (g, &wide) in widths[1..].iter().enumerate() {
            let mut blocks = Vec::new();
            for b in 0..config.blocks_per_group {
                let name = name(&format!("group_{}.block_{}", g + 1, b + 1));
                blocks.push(ResBlock::new(reg, &name, (width, wide), side, config.gain()));
                width = wide;
            }
            groups.push(blocks);
        }
        let output = Conv::new(reg, &name("output.conv"), (width, channels_out), 1, true);
        Self { input, groups, output, range: start..reg.len() }
    }
}

/// What backward of one network reads.
pub struct TrunkCache<B: Storage> {
    blocks: Vec<ResBlockCache<B>>,
    pools: Vec<(Ids<B>, Vec<usize>)>, // argmax and input shape of each pool
    last: Tensor<B>,                  // input of the output convolution, before its ReLU
}

/// Encoder, codebook and decoder.
pub struct Dvae {
    /// Sizes.
    pub config: DvaeConfig,
    /// All parameters, the encoder's first.
    pub layout: Layout,
    encoder: Trunk,
    decoder: Trunk,
}

impl Dvae {
    /// Builds both networks.
    pub fn new(config: &DvaeConfig) -> Self {
        let mut reg = Registry::new();
        let (groups, k) = (config.groups, config.vocab);
        let wide = |g: usize| config.width << g;
        let down: Vec<_> = std::iter::once(config.width).chain((0..groups).map(wide)).collect();
        let up: Vec<_> =
            std::iter::once(config.init_width).chain((0..groups).rev().map(wide)).collect();
        let encoder = Trunk::new(&mut reg, Side::Encoder, config, &down, (3, k));
        let decoder = Trunk::new(&mut reg, Side::Decoder, config, &up, (k, 6));
        Self { config: config.clone(), layout: reg.finish(), encoder, decoder }
    }

    /// x `[B,H,W,3]` mapped pixels -> logits `[B,h,w,K]`.
    pub fn encode<B: Backend>(&self, ctx: Ctx<B>, x: &Tensor<B>) -> (Master<B>, TrunkCache<B>) {
        let mut v = self.encoder.input.forward_residual(ctx, x, 1.0, None);
        let (mut blocks, mut pools) = (Vec::new(), Vec::new());
        for (g, group) in self.encoder.groups.iter().enumerate() {
            if g > 0 {
                let shape = v.shape().to_vec();
                let (pooled, argmax) = ctx.bk.max_pool_forward(&v);
                pools.push((argmax, shape));
                v = pooled;
            }
            for block in group {
                let (next, cache) = block.forward(ctx, v);
                blocks.push(cache);
                v = next;
            }
        }
        let last = ctx.bk.to_elem(&v, 1.0);
        let logits = self.encoder.output.forward_residual(ctx, &last, 1.0, None);
        (logits, TrunkCache { blocks, pools, last })
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
        let (TrunkCache { mut blocks, mut pools, last }, bk) = (cache, grad.ctx.bk);
        let dlast = self.encoder.output.backward(grad, &last, &bk.to_elem(dlogits, 1.0));
        let mut dv = to_master(bk, &dlast);
        for (i, group) in self.encoder.groups.iter().enumerate().rev() {
            for block in group.iter().rev() {
                dv = block.backward(grad, blocks.pop().expect("one per block"), dv);
            }
            if i > 0 {
                let (argmax, shape) = pools.pop().expect("one per pool");
                dv = bk.max_pool_backward(&argmax, &dv, &shape);
            }
        }
        let dx = self.encoder.input.backward_first(grad, x, &bk.to_elem(&dv, 1.0), need_dx);
        grad.ready(self.encoder.range.clone());
        dx
    }

    /// z `[B,h,w,K]`, one-hot or relaxed -> `[B,H,W,6]`.
    pub fn decode<B: Backend>(&self, ctx: Ctx<B>, z: &Tensor<B>) -> (Master<B>, TrunkCache<B>) {
        let mut v = self.decoder.input.forward_residual(ctx, z, 1.0, None);
        let mut blocks = Vec::new();
        for (g, group) in self.decoder.groups.iter().enumerate() {
            if g > 0 {
                v = ctx.bk.upsample_forward(&v);
            }
            for block in group {
                let (next, cache) = block.forward(ctx, v);
                blocks.push(cache);
                v = next;
            }
        }
        let last = ctx.bk.to_elem(&v, 1.0);
        let out = self.decoder.output.forward_residual(ctx, &last, 1.0, None);
        (out, TrunkCache { blocks, pools: Vec::new(), last })
    }

    /// dout `[B,H,W,6]` -> dz `[B,h,w,K]`.
    pub fn decode_backward<B: Backend>(
        &self,
        grad: &mut Grad<B>,
        z: &Tensor<B>,
        cache: TrunkCache<B>,
        dout: &Master<B>,
    ) -> Tensor<B> {
        let (TrunkCache { mut blocks, last, .. }, bk) = (cache, grad.ctx.bk);
        let dlast = self.decoder.output.backward(grad, &last, &bk.to_elem(dout, 1.0));
        let mut dv = to_master(bk, &dlast);
        for (i, group) in self.decoder.groups.iter().enumerate().rev() {
            for block in group.iter().rev() {
                dv = block.backward(grad, blocks.pop().expect("one per block"), dv);
            }
            if i > 0 {
                dv = bk.upsample_backward(&dv);
            }
        }
        let dz = self.decoder.input.backward(grad, z, &bk.to_elem(&dv, 1.0));
        grad.ready(self.decoder.range.clone());
        dz
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

/// Pixels `[..,3]` in 0..1 of the decoder's output `[..,6]`: φ⁻¹(sigmoid(μ)), the median of the
/// likelihood; ln b is not shown (arXiv 2102.12092, A.3).
pub fn pixels(out: &[f64]) -> Vec<f64> {
    let show = |mu: f64| ((1.0 / (1.0 + (-mu).exp()) - 0.1) / 0.8).clamp(0.0, 1.0);
    out.chunks_exact(6).flat_map(|p| [show(p[0]), show(p[1]), show(p[2])]).collect()
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
        let (reconstruction, dout, dtarget) = match step.likelihood {
            Likelihood::LogitLaplace => {
                let (dout, dx) = bk.logit_laplace_backward(target, &out, step.scale);
                (bk.logit_laplace_forward(target, &out), dout, Some(dx))
            }
            Likelihood::SquaredError => {
                let dout = bk.mse_backward(target, &out, step.scale);
                (bk.mse_forward(target, &out), dout, None)
            }
        };
        let dz = self.decode_backward(grad, &z, decoder, &dout);
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
        let dx = dx.map(|dx| (dx, dtarget));
        DvaeLosses { reconstruction, kl, unused, logits, out, dx }
    }
}
