//! DINO: an encoder and a head whose outputs follow those of a teacher with averaged weights (arXiv 2104.14294;
//! `vision_transformer.py`, `DINOHead`; `main_dino.py`, `DINOLoss`).
//!
//! ```text
//! h = encoder(images)[class token], after the final norm                [n,C]
//! b = fc_4(gelu(fc_2(gelu(fc_0(h)))))                                   [n,bottleneck]
//! s = (b / ‖b‖) Wᵀ, W = g v / ‖v‖ row by row                            [n,K]
//! loss of a view = −Σ_k target_k ln softmax(s / τ)_k
//! ```
//! Student and teacher are this with weights of their own. The targets of a view are the sum of what the teacher
//! makes of the other views ([`crate::ops::self_distillation`]), so that the sum over all views is that over all pairs.

mod case;
mod head;

pub use case::*;
pub use head::{DinoHead, DinoHeadCache};

use crate::models::config::DinoConfig;
use crate::models::encoder::{
    Encoder, EncoderCache, EncoderInput, EncoderParts, FeatureGradients, class_rows,
};
use crate::ops::Backend;
use crate::ops::convert::to_master;
use crate::ops::cross_entropy::{Losses, Target};
use crate::params::{Ctx, Grad, Layout, Params, Registry};
use crate::storage::Storage;
use crate::tensor::{Ids, Master, Tensor};
use std::ops::Range;

/// Encoder and head.
pub struct Dino<B: Storage> {
    /// Sizes.
    pub config: DinoConfig,
    /// All parameters, those of the encoder first.
    pub layout: Layout,
    /// Embedding, blocks and final norm.
    pub encoder: Encoder<B>,
    head: DinoHead,
    /// Parameters of the head.
    top: Range<usize>,
}

/// What backward reads.
pub struct DinoCache<B: Storage> {
    encoder: EncoderCache<B>,
    rows: Ids<B>,      // [n], the class tokens
    shape: Vec<usize>, // [n,N,C]
    head: DinoHeadCache<B>,
}

impl<B: Backend> Dino<B> {
    /// Builds the model and its layout.
    pub fn new(bk: &B, config: &DinoConfig) -> Self {
        let mut reg = Registry::new();
        let encoder = Encoder::new(bk, &mut reg, &config.encoder, EncoderParts::ALONE);
        let start = reg.len();
        let head = DinoHead::new(&mut reg, config);
        let (top, config, layout) = (start..reg.len(), config.clone(), reg.finish());
        Self { config, layout, encoder, head, top }
    }

    /// -> outputs s `[n,K]`, without what backward reads: the teacher.
    pub fn outputs(&self, ctx: Ctx<B>, input: &EncoderInput<B>) -> Master<B> {
        let y = self.encoder.features(ctx, input, &[]).y.expect("has a norm");
        let h = ctx.bk.gather_rows_forward(&y, &class_rows(ctx.bk, &y));
        to_master(ctx.bk, &self.head.forward(ctx, h).0)
    }

    /// -> outputs s `[n,K]`, and what backward reads.
    pub fn forward(&self, ctx: Ctx<B>, input: &EncoderInput<B>) -> (Tensor<B>, DinoCache<B>) {
        let (features, encoder) = self.encoder.forward(ctx, input, &[]);
        let y = features.y.expect("has a norm"); // [n,N,C]
        let (rows, shape) = (class_rows(ctx.bk, &y), y.shape().to_vec());
        let (s, head) = self.head.forward(ctx, ctx.bk.gather_rows_forward(&y, &rows));
        (s, DinoCache { encoder, rows, shape, head })
    }

    /// Gradients of all parameters from those of the outputs; returns that of the images where wanted.
    pub fn backward(
        &self,
        grad: &mut Grad<B>,
        input: &EncoderInput<B>,
        cache: DinoCache<B>,
        ds: &Tensor<B>,
        need_dx: bool,
    ) -> Option<Tensor<B>> {
        let DinoCache { encoder, rows, shape, head } = cache;
        let dh = self.head.backward(grad, head, ds);
        grad.ready(self.top.clone());
        let dy = grad.ctx.bk.gather_rows_backward(&rows, &dh, &shape);
        let upstream = FeatureGradients { dy: Some(dy), taps: Vec::new() };
        self.encoder.backward(grad, input, encoder, upstream, need_dx)
    }

    /// Sets the gradients of the head's last layer to zero.
    pub fn forget_last_layer(&self, bk: &B, g: &mut Params<B>) {
        bk.clear_range(&mut g.master, self.head.last_range());
    }

    /// Losses of outputs s `[n,K]` at temperature τ against targets `[n,K]`, and `scale` times the gradient of their sum
    /// `[n,K]`.
    pub fn loss(
        &self,
        bk: &B,
        s: &Tensor<B>,
        (targets, temperature): (&Master<B>, f64),
        scale: f64,
    ) -> (Losses<B>, Tensor<B>) {
        let over = |x: &Tensor<B>| bk.to_elem(&to_master(bk, x), 1.0 / temperature);
        let (losses, dx) = bk.cross_entropy_backward(over(s), &Target::Soft(targets), scale);
        // x = s / τ   =>   ds = dx / τ
        (losses, over(&dx))
    }

    /// Forward, loss and backward of views that share a size, for their targets `[n,K]`; `scale` is a factor on the sum
    /// of their losses.
    pub fn loss_and_gradients(
        &self,
        grad: &mut Grad<B>,
        input: &EncoderInput<B>,
        targets: (&Master<B>, f64),
        scale: f64,
    ) -> Losses<B> {
        let (s, cache) = self.forward(grad.ctx, input);
        let (losses, ds) = self.loss(grad.ctx.bk, &s, targets, scale);
        self.backward(grad, input, cache, &ds, false);
        losses
    }
}
