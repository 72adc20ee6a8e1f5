//! MoCo v3: an encoder with a projector and a predictor, which tells the other view of an image from those of other
//! images (arXiv 2104.02057; `moco/builder.py`).
//!
//! ```text
//! h = encoder(images)[class token], after the final norm                [B,C]
//! z = projector(h), q = predictor(z)                                    [B,D]
//! loss_b = −2 T ln softmax(q̂ k̂ᵀ / T)_bb, x̂ = x / ‖x‖ row by row
//! ```
//! k is the projector's output for the other views by averaged weights, which have no gradient. Every view of the batch
//! but its own image's is a negative, so a batch is never cut.
//!
//! Backward. With P = softmax(q̂ k̂ᵀ / T) and `scale` on the sum of the losses, ∂/∂q̂ = 2 scale (P − I) k̂: the
//! temperature cancels.

mod case;

pub use case::*;

use crate::layers::norm_mlp::{NormMlp, NormMlpCache};
use crate::layers::row_products::RowProducts;
use crate::models::config::MocoConfig;
use crate::models::encoder::{
    Encoder, EncoderCache, EncoderInput, EncoderParts, FeatureGradients, class_rows,
};
use crate::ops::Backend;
use crate::ops::batch_norm::Statistics;
use crate::ops::convert::to_master;
use crate::ops::cross_entropy::{Losses, Target};
use crate::params::{Ctx, Grad, Layout, Params, Registry};
use crate::storage::Storage;
use crate::tensor::{Ids, Master, Tensor};
use std::ops::Range;

/// Encoder and heads.
pub struct Moco<B: Storage> {
    /// Sizes.
    pub config: MocoConfig,
    /// All parameters, those of the encoder first, the statistics of the batch norms among them.
    pub layout: Layout,
    /// Embedding, blocks and final norm.
    pub encoder: Encoder<B>,
    projector: NormMlp<B>,
    predictor: NormMlp<B>,
    /// Parameters of the heads.
    top: Range<usize>,
}

/// What backward reads.
pub struct MocoCache<B: Storage> {
    encoder: EncoderCache<B>,
    rows: Ids<B>,      // [B], the class tokens
    shape: Vec<usize>, // [B,N,C]
    projector: NormMlpCache<B>,
    predictor: NormMlpCache<B>,
}

impl<B: Backend> Moco<B> {
    /// Builds the model and its layout.
    pub fn new(bk: &B, config: &MocoConfig) -> Self {
        let mut reg = Registry::new();
        let encoder = Encoder::new(bk, &mut reg, &config.encoder, EncoderParts::ALONE);
        let MocoConfig { hidden, outputs, .. } = *config;
        let (start, width) = (reg.len(), config.encoder.width);
        let projector = NormMlp::new(bk, &mut reg, "projector", &[width, hidden, hidden, outputs]);
        let predictor = NormMlp::new(bk, &mut reg, "predictor", &[outputs, hidden, outputs]);
        let (top, config, layout) = (start..reg.len(), config.clone(), reg.finish());
        Self { config, layout, encoder, projector, predictor, top }
    }

    /// Keys k̂ `[B,D]` of a batch of views: rows of unit length.
    pub fn keys(&self, ctx: Ctx<B>, input: &EncoderInput<B>) -> Master<B> {
        let y = self.encoder.features(ctx, input, &[]).y.expect("has a norm");
        let h = ctx.bk.gather_rows_forward(&y, &class_rows(ctx.bk, &y));
        let z = self.projector.forward(ctx, h).0;
        ctx.bk.unit_rows_forward(&to_master(ctx.bk, &z))
    }

    /// -> queries q `[B,D]`, and what backward reads.
    pub fn forward(&self, ctx: Ctx<B>, input: &EncoderInput<B>) -> (Tensor<B>, MocoCache<B>) {
        let (features, encoder) = self.encoder.forward(ctx, input, &[]);
        let y = features.y.expect("has a norm"); // [B,N,C]
        let (rows, shape) = (class_rows(ctx.bk, &y), y.shape().to_vec());
        let h = ctx.bk.gather_rows_forward(&y, &rows);
        let (z, projector) = self.projector.forward(ctx, h);
        let (q, predictor) = self.predictor.forward(ctx, z);
        (q, MocoCache { encoder, rows, shape, projector, predictor })
    }

    /// Gradients of all parameters from those of the queries; returns that of the images where wanted, and what the
    /// batch norms saw.
    pub fn backward(
        &self,
        grad: &mut Grad<B>,
        input: &EncoderInput<B>,
        cache: MocoCache<B>,
        dq: &Tensor<B>,
        need_dx: bool,
    ) -> (Option<Tensor<B>>, Statistics<B>) {
        let MocoCache { encoder, rows, shape, projector, predictor } = cache;
        let (dz, mut statistics) = self.predictor.backward(grad, predictor, dq);
        let (dh, seen) = self.projector.backward(grad, projector, &dz);
        statistics.extend(seen);
        grad.ready(self.top.clone());
        let dy = grad.ctx.bk.gather_rows_backward(&rows, &dh, &shape);
        let upstream = FeatureGradients { dy: Some(dy), taps: Vec::new() };
        (self.encoder.backward(grad, input, encoder, upstream, need_dx), statistics)
    }

    /// Losses of queries q `[B,D]` against keys k̂ `[B,D]` at temperature T, without the factor 2 T, and `scale` times
    /// the gradient of 2 T times their sum `[B,D]`.
    pub fn loss(
        &self,
        bk: &B,
        q: &Tensor<B>,
        (keys, temperature): (&Master<B>, f64),
        scale: f64,
    ) -> (Losses<B>, Tensor<B>) {
        let (n, wide) = (q.rows(), to_master(bk, q));
        let unit = bk.to_elem(&bk.unit_rows_forward(&wide), 1.0);
        let products = RowProducts::new(bk, keys.duplicate(bk));
        let over = |x: &Tensor<B>| bk.to_elem(&to_master(bk, x), 1.0 / temperature);
        let labels = Ids::from_vec(bk, (0..n as u32).collect(), &[n]);
        let target = Target::Hard { labels: &labels, ignore: None };
        let logits = over(&products.forward(bk, &unit));
        let (losses, dlogits) =
            bk.cross_entropy_backward(logits, &target, 2.0 * temperature * scale);
        // logits = q̂ k̂ᵀ / T, q̂ = q / ‖q‖
        let dunit = products.backward(bk, &unit, &over(&dlogits)).0;
        (losses, bk.to_elem(&bk.unit_rows_backward(&wide, &to_master(bk, &dunit)), 1.0))
    }

    /// Forward, loss and backward of one view of each image of a batch; `scale` is a factor on the sum of the losses
    /// with their factor 2 T.
    pub fn loss_and_gradients(
        &self,
        grad: &mut Grad<B>,
        input: &EncoderInput<B>,
        keys: (&Master<B>, f64),
        scale: f64,
    ) -> (Losses<B>, Statistics<B>) {
        let (q, cache) = self.forward(grad.ctx, input);
        let (losses, dq) = self.loss(grad.ctx.bk, &q, keys, scale);
        (losses, self.backward(grad, input, cache, &dq, false).1)
    }

    /// Moves the running statistics by what the batch norms saw; what is not finite is left out.
    pub fn follow(&self, bk: &B, statistics: &Statistics<B>, w: &mut Params<B>) {
        for (norm, stats) in statistics {
            norm.follow(bk, stats, w);
        }
    }
}
