//! An encoder and a decoder of residual blocks around a latent grid, and the likelihood of what they make of
//! pixels: what the discrete VAE and the Gaussian one share (arXiv 2102.12092, A.1 and A.3).
//!
//! ```text
//! latent = encoder(x)     [B,h,w,out], h = H/f
//! out = decoder(z)        [B,H,W,6]: μ and ln b of the logit-Laplace likelihood, of z [B,h,w,in]
//! ```

use crate::layers::resblock::{ResBlock, ResBlockCache, Side};
use crate::models::config::TrunkConfig;
use crate::ops::Backend;
use crate::ops::conv2d::Conv;
use crate::ops::convert::to_master;
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

/// What a likelihood makes of the decoder's output.
pub struct Judged<B: Storage> {
    /// Negative log-likelihood (or squared error) summed per image, `[B]`.
    pub losses: Master<B>,
    /// Its gradient with respect to the decoder's output.
    pub dout: Master<B>,
    /// Its gradient with respect to the pixels; logit-Laplace only.
    pub dtarget: Option<Master<B>>,
}

impl Likelihood {
    /// Losses of the output for these mapped pixels, and gradients of their sum times `scale`.
    pub fn judge<B: Backend>(
        self,
        bk: &B,
        target: &Master<B>,
        out: &Master<B>,
        scale: f64,
    ) -> Judged<B> {
        match self {
            Self::LogitLaplace => {
                let (dout, dx) = bk.logit_laplace_backward(target, out, scale);
                let losses = bk.logit_laplace_forward(target, out);
                Judged { losses, dout, dtarget: Some(dx) }
            }
            Self::SquaredError => {
                let dout = bk.mse_backward(target, out, scale);
                Judged { losses: bk.mse_forward(target, out), dout, dtarget: None }
            }
        }
    }
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
        config: &TrunkConfig,
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

/// Both networks.
pub struct Autoencoder {
    /// All parameters, the encoder's first.
    pub layout: Layout,
    encoder: Trunk,
    decoder: Trunk,
}

impl Autoencoder {
    /// Builds both; the encoder makes `out` channels, the decoder reads `input`.
    pub fn new(config: &TrunkConfig, out: usize, input: usize) -> Self {
        let (mut reg, groups) = (Registry::new(), config.groups);
        let wide = |g: usize| config.width << g;
        let down: Vec<_> = std::iter::once(config.width).chain((0..groups).map(wide)).collect();
        let up: Vec<_> =
            std::iter::once(config.init_width).chain((0..groups).rev().map(wide)).collect();
        let encoder = Trunk::new(&mut reg, Side::Encoder, config, &down, (3, out));
        let decoder = Trunk::new(&mut reg, Side::Decoder, config, &up, (input, 6));
        Self { layout: reg.finish(), encoder, decoder }
    }

    /// x `[B,H,W,3]` mapped pixels -> the encoder's output `[B,h,w,..]`.
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
        let latent = self.encoder.output.forward_residual(ctx, &last, 1.0, None);
        (latent, TrunkCache { blocks, pools, last })
    }

    /// Its gradient -> dx where wanted.
    pub fn encode_backward<B: Backend>(
        &self,
        grad: &mut Grad<B>,
        x: &Tensor<B>,
        cache: TrunkCache<B>,
        dlatent: &Master<B>,
        need_dx: bool,
    ) -> Option<Tensor<B>> {
        let (TrunkCache { mut blocks, mut pools, last }, bk) = (cache, grad.ctx.bk);
        let dlast = self.encoder.output.backward(grad, &last, &bk.to_elem(dlatent, 1.0));
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

    /// z `[B,h,w,..]` -> `[B,H,W,6]`.
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

    /// dout `[B,H,W,6]` -> dz.
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
}

/// Pixels `[..,3]` in 0..1 of the decoder's output `[..,6]`: φ⁻¹(sigmoid(μ)), the median of the
/// likelihood; ln b is not shown (arXiv 2102.12092, A.3).
pub fn pixels(out: &[f64]) -> Vec<f64> {
    let show = |mu: f64| ((1.0 / (1.0 + (-mu).exp()) - 0.1) / 0.8).clamp(0.0, 1.0);
    out.chunks_exact(6).flat_map(|p| [show(p[0]), show(p[1]), show(p[2])]).collect()
}
