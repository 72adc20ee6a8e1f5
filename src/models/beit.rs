//! BEiT: an encoder that is shown images with hidden patches, and the head over visual tokens (arXiv
//! 2106.08254; `modeling_pretrain.py`).
//!
//! ```text
//! y = encoder(images, mask)                      [B,N,C], after the final norm
//! logits = lm_head(y[masked patches])            [M,V]
//! ```
//! A head over pixels, `pixel_head`, has V = 3 P² outputs: the paper's ablation of the tokens.

mod case;
mod squared;

pub use case::*;
pub use squared::{squared_errors, squared_errors_backward};

use crate::layers::TRUNC_NORMAL;
use crate::models::config::BeitConfig;
pub use crate::models::config::forward_flops;
use crate::models::encoder::{
    DropPath, Encoder, EncoderCache, EncoderInput, EncoderParts, FeatureGradients,
};
use crate::ops::Backend;
use crate::ops::cross_entropy::{Losses, Target};
use crate::ops::linear::Linear;
use crate::params::{Ctx, Grad, Layout, Registry};
use crate::storage::Storage;
use crate::tensor::{Ids, Master, Tensor};

/// Encoder and head over visual tokens or pixels: what masked image modelling trains.
pub struct MaskedImageModel<B: Storage> {
    /// Sizes.
    pub config: BeitConfig,
    /// All parameters.
    pub layout: Layout,
    /// Embedding, blocks and final norm.
    pub encoder: Encoder<B>,
    head: Linear,
}

/// One (micro-)batch.
pub struct MaskedBatch<B: Storage> {
    /// `[B,Ih,Iw,3]`, normalised.
    pub images: Tensor<B>,
    /// `[B,Np]`, 1 where hidden.
    pub mask: Ids<B>,
    /// Which rows of `[B·N]` (class tokens counted) to predict, ascending: `[M]`.
    pub rows: Ids<B>,
    /// Branches dropped in this step; `None` in evaluation.
    pub keep: Option<DropPath<B>>,
}

impl<B: Storage> MaskedBatch<B> {
    fn input(&self) -> EncoderInput<'_, B> {
        let Self { images, mask, keep, .. } = self;
        EncoderInput { images, mask: Some(mask), keep: keep.as_ref() }
    }
}

/// What backward reads.
pub struct MaskedCache<B: Storage> {
    encoder: EncoderCache<B>,
    hidden: Tensor<B>,    // [M,C], rows of the final norm
    all_rows: Vec<usize>, // [B,N,C]
}

/// Rows of `[B·N]` that belong to the hidden patches of `mask` `[B·Np]`, in (image, patch) order.
pub fn masked_rows(mask: &[bool], patches: usize) -> Vec<u32> {
    let hidden = mask.iter().enumerate().filter(|(_, hidden)| **hidden);
    hidden.map(|(i, _)| (i / patches * (patches + 1) + 1 + i % patches) as u32).collect()
}

impl<B: Backend> MaskedImageModel<B> {
    /// Builds the model and its layout.
    pub fn new(bk: &B, config: &BeitConfig) -> Self {
        let mut reg = Registry::new();
        let parts = EncoderParts { mask_token: true, norm: true };
        let encoder = Encoder::new(bk, &mut reg, &config.encoder, parts);
        let (width, outputs) = (config.encoder.width, config.outputs());
        let head = Linear::new(&mut reg, config.head.layer(), width, outputs, TRUNC_NORMAL);
        Self { config: config.clone(), layout: reg.finish(), encoder, head }
    }

    /// -> logits `[M,V]` of the rows asked for, or their pixels.
    pub fn logits(&self, ctx: Ctx<B>, batch: &MaskedBatch<B>) -> Tensor<B> {
        let y = self.encoder.features(ctx, &batch.input(), &[]).y;
        self.of_rows(ctx, &y.expect("has a norm"), &batch.rows).0
    }

    /// The same, and what backward reads.
    pub fn forward(&self, ctx: Ctx<B>, batch: &MaskedBatch<B>) -> (Tensor<B>, MaskedCache<B>) {
        let (features, encoder) = self.encoder.forward(ctx, &batch.input(), &[]);
        let y = features.y.expect("has a norm"); // [B,N,C]
        let (logits, hidden) = self.of_rows(ctx, &y, &batch.rows);
        (logits, MaskedCache { encoder, hidden, all_rows: y.shape().to_vec() })
    }

    /// (logits `[M,V]`, their inputs `[M,C]`)
    fn of_rows(&self, ctx: Ctx<B>, y: &Tensor<B>, rows: &Ids<B>) -> (Tensor<B>, Tensor<B>) {
        let hidden = ctx.bk.gather_rows_forward(y, rows); // [M,C]
        (self.head.forward(ctx, &hidden), hidden)
    }

    /// Gradients of all parameters from those of the logits; returns that of the images where wanted.
    pub fn backward(
        &self,
        grad: &mut Grad<B>,
        batch: &MaskedBatch<B>,
        cache: MaskedCache<B>,
        dlogits: Tensor<B>,
        need_dx: bool,
    ) -> Option<Tensor<B>> {
        let MaskedCache { encoder, hidden, all_rows } = cache;
        // logits = head(hidden)
        let dhidden = self.head.backward(grad, &hidden, &dlogits);
        drop((hidden, dlogits));
        grad.ready(self.head.range());
        // hidden = y[rows]
        let dy = grad.ctx.bk.gather_rows_backward(&batch.rows, &dhidden, &all_rows);
        let upstream = FeatureGradients { dy: Some(dy), taps: Vec::new() };
        self.encoder.backward(grad, &batch.input(), encoder, upstream, need_dx)
    }

    /// Forward, loss and backward of one micro-batch. `scale` is 1 over the number of masked patches
    /// of the whole optimizer step, so that accumulated micro-batches equal one big batch.
    ///
    /// `Deviation:` the original averages over each device's own patches.
    pub fn loss_and_gradients(
        &self,
        grad: &mut Grad<B>,
        batch: &MaskedBatch<B>,
        labels: &Ids<B>,
        scale: f64,
    ) -> Losses<B> {
        let (logits, cache) = self.forward(grad.ctx, batch);
        let target = Target::Hard { labels, ignore: None };
        let (losses, dlogits) = grad.ctx.bk.cross_entropy_backward(logits, &target, scale);
        self.backward(grad, batch, cache, dlogits, false);
        losses
    }

    /// The same with a head over pixels and its `targets` `[M,V]`: `scale` times the sum of the squared errors. Returns
    /// the sum of each row, `[M]`.
    pub fn squared_errors_and_gradients(
        &self,
        grad: &mut Grad<B>,
        batch: &MaskedBatch<B>,
        targets: &Master<B>,
        scale: f64,
    ) -> Master<B> {
        let (predicted, cache) = self.forward(grad.ctx, batch);
        let (errors, gradient) = squared_errors_backward(grad.ctx.bk, predicted, targets, scale);
        self.backward(grad, batch, cache, gradient, false);
        errors
    }
}
