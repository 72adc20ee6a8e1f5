//! A classifier: an encoder that sees whole images, pooling, and a linear head (`modeling_finetune.py`,
//! class VisionTransformer).
//!
//! ```text
//! mean:   h = fc_norm(mean of the patch tokens of the last stream)      [B,C]
//! class:  h = norm(last stream)[class token]                            [B,C]
//! logits = head(h)                                                      [B,K]
//! ```
//!
//! K is the number of classes. With mean pooling the sequence has no final norm.

mod case;

pub use case::*;

use crate::layers::init::{fine_tuned, fine_tuned_head};
use crate::models::config::{ClassifierConfig, Pooling};
use crate::models::encoder::{
    Encoder, EncoderCache, EncoderInput, EncoderParts, FeatureGradients, Features, class_rows,
};
use crate::ops::Backend;
use crate::ops::cross_entropy::{Losses, Target};
use crate::ops::layer_norm::{Norm, NormStats};
use crate::ops::linear::Linear;
use crate::params::{Ctx, Grad, Layout, Registry};
use crate::storage::Storage;
use crate::tensor::{Ids, Master, Tensor};
use std::ops::Range;

/// Encoder, pooling and head: what fine-tuning trains.
pub struct Classifier<B: Storage> {
    /// Sizes.
    pub config: ClassifierConfig,
    /// All parameters.
    pub layout: Layout,
    /// Embedding and blocks; the final norm where the class token is read.
    pub encoder: Encoder<B>,
    /// Whether backward ends at the pooled features, so that the head alone has gradients.
    pub frozen: bool,
    fc_norm: Option<Norm>,
    head: Linear,
    /// Where the encoder is read: the last stream, or nothing but its final norm.
    taps: Vec<usize>,
    /// Parameters above the encoder.
    top: Range<usize>,
}

/// What backward reads.
pub struct ClassifierCache<B: Storage> {
    encoder: Option<EncoderCache<B>>, // none where the encoder is frozen
    pooled: Pooled<B>,
    h: Tensor<B>,      // [B,C], what the head reads
    shape: Vec<usize>, // [B,N,C]
}

/// What the pooling keeps.
enum Pooled<B: Storage> {
    /// The means `[B,C]` and what their norm keeps.
    Mean(Master<B>, NormStats<B>),
    /// The class tokens' rows `[B]`.
    Class(Ids<B>),
}

impl<B: Backend> Classifier<B> {
    /// Builds the model and its layout; parameters start as the original's fine-tuning model does.
    pub fn new(bk: &B, config: &ClassifierConfig) -> Self {
        let mut reg = Registry::starting(fine_tuned(config.encoder.patch));
        let parts = EncoderParts { mask_token: false, norm: config.pooling == Pooling::Class };
        let encoder = Encoder::new(bk, &mut reg, &config.encoder, parts);
        let (width, start) = (config.encoder.width, reg.len());
        let fc_norm = (config.pooling == Pooling::Mean)
            .then(|| Norm::new(&mut reg, "fc_norm", width, config.encoder.layer_norm_eps));
        let init = fine_tuned_head(config.head_scale);
        let head = Linear::new(&mut reg, "head", width, config.classes.len(), init);
        let taps = fc_norm.iter().map(|_| encoder.depth()).collect();
        let top = start..reg.len();
        let layout = reg.finish();
        Self { config: config.clone(), layout, encoder, frozen: false, fc_norm, head, taps, top }
    }

    /// Whether a parameter is one of the norm and the head above the encoder, by its name.
    pub fn is_above_encoder(&self, name: &str) -> bool {
        name.starts_with("fc_norm.") || name.starts_with("head.")
    }

    /// -> logits `[B,K]`.
    pub fn logits(&self, ctx: Ctx<B>, input: &EncoderInput<B>) -> Tensor<B> {
        let features = self.encoder.features(ctx, input, &self.taps);
        self.head.forward(ctx, &self.pool(ctx, features).0)
    }

    /// The same, and what backward reads.
    pub fn forward(&self, ctx: Ctx<B>, input: &EncoderInput<B>) -> (Tensor<B>, ClassifierCache<B>) {
        let (features, encoder) = if self.frozen {
            (self.encoder.features(ctx, input, &self.taps), None)
        } else {
            let (features, cache) = self.encoder.forward(ctx, input, &self.taps);
            (features, Some(cache))
        };
        let shape = features.y.as_ref().map(Tensor::shape);
        let shape = shape.unwrap_or_else(|| features.taps[0].shape()).to_vec();
        let (h, pooled) = self.pool(ctx, features);
        let logits = self.head.forward(ctx, &h);
        (logits, ClassifierCache { encoder, pooled, h, shape })
    }

    /// (h `[B,C]`, what backward reads)
    fn pool(&self, ctx: Ctx<B>, features: Features<B>) -> (Tensor<B>, Pooled<B>) {
        let Features { y, taps } = features;
        match (&self.fc_norm, y) {
            (Some(norm), _) => {
                let mean = ctx.bk.mean_pool_forward(&taps[0]);
                let (h, stats) = norm.forward(ctx, &mean);
                (h, Pooled::Mean(mean, stats))
            }
            (None, y) => {
                let y = y.expect("has a final norm");
                let rows = class_rows(ctx.bk, &y);
                (ctx.bk.gather_rows_forward(&y, &rows), Pooled::Class(rows))
            }
        }
    }

    /// Gradients of all parameters, of those above the encoder where it is frozen, from those of the logits;
    /// returns that of the images where wanted.
    pub fn backward(
        &self,
        grad: &mut Grad<B>,
        input: &EncoderInput<B>,
        cache: ClassifierCache<B>,
        dlogits: &Tensor<B>,
        need_dx: bool,
    ) -> Option<Tensor<B>> {
        let ClassifierCache { encoder, pooled, h, shape } = cache;
        // logits = head(h)
        let dh = self.head.backward(grad, &h, dlogits);
        let upstream = match (&self.fc_norm, pooled) {
            (Some(norm), Pooled::Mean(mean, stats)) => {
                // h = fc_norm(mean of the stream)
                let dmean = norm.backward(grad, &mean, &stats, &dh);
                let ds = grad.ctx.bk.mean_pool_backward(&dmean, shape[1]);
                FeatureGradients { dy: None, taps: vec![(self.encoder.depth(), ds)] }
            }
            (None, Pooled::Class(rows)) => {
                // h = norm(stream)[rows]
                let dy = grad.ctx.bk.gather_rows_backward(&rows, &dh, &shape);
                FeatureGradients { dy: Some(dy), taps: Vec::new() }
            }
            _ => unreachable!("a cache of another model"),
        };
        grad.ready(self.top.clone());
        self.encoder.backward(grad, input, encoder?, upstream, need_dx)
    }

    /// Forward, loss and backward of one micro-batch. `scale` is 1 over the number of images of the whole
    /// optimizer step.
    pub fn loss_and_gradients(
        &self,
        grad: &mut Grad<B>,
        input: &EncoderInput<B>,
        target: &Target<B>,
        scale: f64,
    ) -> Losses<B> {
        let (logits, cache) = self.forward(grad.ctx, input);
        let (losses, dlogits) = grad.ctx.bk.cross_entropy_backward(logits, target, scale);
        self.backward(grad, input, cache, &dlogits, false);
        losses
    }
}
