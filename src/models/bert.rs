//! BERT on bytes: the encoder that is shown a text with hidden bytes, and the head that says what they are (arXiv
//! 1810.04805, §3.1).
//!
//! ```text
//! x = one_hot(symbols)                           [B,1,N,257], an image of one row
//! y = encoder(x)                                 [B,N+1,C], after the final norm
//! logits = lm_head(y[chosen places])             [M,256]
//! ```
//! The patch embedding of one-hot pixels is a table of embeddings with a row for each symbol, and its weight gradient
//! the sum of the rows that a symbol stands in. What is hidden is hidden in the text, so that the encoder has no mask
//! token of its own.

mod case;

pub use case::*;

use crate::layers::TRUNC_NORMAL;
use crate::models::config::BertConfig;
use crate::models::encoder::{
    DropPath, Encoder, EncoderCache, EncoderInput, EncoderParts, FeatureGradients,
};
use crate::ops::Backend;
use crate::ops::cross_entropy::{Losses, Target};
use crate::ops::linear::Linear;
use crate::params::{Ctx, Grad, Layout, Params, Registry};
use crate::storage::Storage;
use crate::tensor::{Ids, Tensor};

/// Encoder and head over bytes.
pub struct Bert<B: Storage> {
    /// Sizes.
    pub config: BertConfig,
    /// All parameters.
    pub layout: Layout,
    /// Embedding, blocks and final norm.
    pub encoder: Encoder<B>,
    head: Linear,
    /// `[257,257]`, whose rows are the pixels of the symbols.
    pixels: Tensor<B>,
}

/// One (micro-)batch.
pub struct TextBatch<B: Storage> {
    /// `[B,1,N,257]`; see [`Bert::images`].
    pub images: Tensor<B>,
    /// Which rows of `[B·(N+1)]` (class tokens counted) to predict, ascending: `[M]`.
    pub rows: Ids<B>,
    /// Branches dropped in this step; `None` in evaluation.
    pub keep: Option<DropPath<B>>,
}

impl<B: Storage> TextBatch<B> {
    fn input(&self) -> EncoderInput<'_, B> {
        EncoderInput { images: &self.images, mask: None, keep: self.keep.as_ref() }
    }
}

/// What backward reads.
pub struct BertCache<B: Storage> {
    encoder: EncoderCache<B>,
    chosen: Tensor<B>,    // [M,C], rows of the final norm
    all_rows: Vec<usize>, // [B,N+1,C]
}

impl<B: Backend> Bert<B> {
    /// Builds the model and its layout.
    pub fn new(bk: &B, config: &BertConfig) -> Self {
        let mut reg = Registry::new();
        let encoder = Encoder::new(bk, &mut reg, &config.encoder, EncoderParts::ALONE);
        let (width, symbols) = (config.encoder.width, BertConfig::SYMBOLS);
        let head = Linear::new(&mut reg, "lm_head", width, BertConfig::BYTES, TRUNC_NORMAL);
        let identity = (0..symbols * symbols).map(|i| f32::from(i / symbols == i % symbols));
        let pixels = Tensor::from_f32(bk, identity.collect(), &[symbols, symbols]);
        Self { config: config.clone(), layout: reg.finish(), encoder, head, pixels }
    }

    /// Symbols `[B·N]` below 257 as images `[B,1,N,257]` of `length` pixels N.
    pub fn images(&self, bk: &B, symbols: Vec<u32>, length: usize) -> Tensor<B> {
        let count = symbols.len();
        let pixels = bk.gather_rows_forward(&self.pixels, &Ids::from_vec(bk, symbols, &[count]));
        pixels.reshape(&[count / length, 1, length, BertConfig::SYMBOLS])
    }

    /// -> logits `[M,256]` of the places asked for.
    pub fn logits(&self, ctx: Ctx<B>, batch: &TextBatch<B>) -> Tensor<B> {
        let y = self.encoder.features(ctx, &batch.input(), &[]).y.expect("has a norm");
        self.head.forward(ctx, &ctx.bk.gather_rows_forward(&y, &batch.rows))
    }

    /// The same, and what backward reads.
    pub fn forward(&self, ctx: Ctx<B>, batch: &TextBatch<B>) -> (Tensor<B>, BertCache<B>) {
        let (features, encoder) = self.encoder.forward(ctx, &batch.input(), &[]);
        let y = features.y.expect("has a norm"); // [B,N+1,C]
        let chosen = ctx.bk.gather_rows_forward(&y, &batch.rows); // [M,C]
        let logits = self.head.forward(ctx, &chosen);
        (logits, BertCache { encoder, chosen, all_rows: y.shape().to_vec() })
    }

    /// Gradients of all parameters from those of the logits; returns that of the images where wanted.
    pub fn backward(
        &self,
        grad: &mut Grad<B>,
        batch: &TextBatch<B>,
        cache: BertCache<B>,
        dlogits: &Tensor<B>,
        need_dx: bool,
    ) -> Option<Tensor<B>> {
        let BertCache { encoder, chosen, all_rows } = cache;
        // logits = head(chosen)
        let dchosen = self.head.backward(grad, &chosen, dlogits);
        grad.ready(self.head.range());
        // chosen = y[rows]
        let dy = grad.ctx.bk.gather_rows_backward(&batch.rows, &dchosen, &all_rows);
        let upstream = FeatureGradients { dy: Some(dy), taps: Vec::new() };
        self.encoder.backward(grad, &batch.input(), encoder, upstream, need_dx)
    }

    /// Forward, loss and backward of one micro-batch, for the bytes `[M]` of the chosen places; `scale` is a factor on
    /// the sum of their losses.
    pub fn loss_and_gradients(
        &self,
        grad: &mut Grad<B>,
        batch: &TextBatch<B>,
        bytes: &Ids<B>,
        scale: f64,
    ) -> Losses<B> {
        let (logits, cache) = self.forward(grad.ctx, batch);
        let target = Target::Hard { labels: bytes, ignore: None };
        let (losses, dlogits) = grad.ctx.bk.cross_entropy_backward(logits, &target, scale);
        self.backward(grad, batch, cache, &dlogits, false);
        losses
    }

    /// The same model over texts of `length` bytes, at most its own, and its weights: bytes that are as far from each
    /// other have the same bias, where other grids of images would have tables resized.
    pub fn shorter(&self, bk: &B, w: &Params<B>, length: usize) -> (Self, Params<B>) {
        let own = self.config.length();
        assert!((1..=own).contains(&length), "bert: {length} of {own} bytes");
        let short = Self::new(bk, &BertConfig::over(self.config.encoder.clone(), length));
        let host = w.to_host(bk);
        let mut values = vec![B::Master::default(); crate::params::arena_len(&short.layout)];
        for (from, to) in self.layout.iter().zip(short.layout.iter()) {
            let (all, into) = (&host[from.range.clone()], &mut values[to.range.clone()]);
            if from.shape == to.shape {
                into.copy_from_slice(all);
                continue;
            }
            let columns = from.shape[from.shape.len() - 1];
            // Positions: the first ones. A table: the offsets around 0, and the three rows of the class token.
            let (start, tail) = if &*from.name == "pos_embed" { (0, 0) } else { (own - length, 3) };
            let body = into.len() - tail * columns;
            into[..body].copy_from_slice(&all[start * columns..][..body]);
            into[body..].copy_from_slice(&all[all.len() - tail * columns..]);
        }
        let w = Params::from_host(bk, &short.layout, &values);
        (short, w)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Cpu;
    use crate::layers::position::Positions;
    use crate::models::config::EncoderConfig;
    use crate::ops::rel_pos_bias::RelPosBias;
    use crate::params::initial_values;

    #[test]
    fn a_shorter_text_keeps_every_distance() {
        let bk = Cpu::<f32>::new();
        let sizes = EncoderConfig { abs_pos: true, ..EncoderConfig::test() };
        let long = Bert::new(&bk, &BertConfig::over(sizes, 7));
        let mut values = initial_values(&long.layout, 1);
        values.iter_mut().enumerate().for_each(|(i, x)| *x += i as f32);
        let w = Params::from_host(&bk, &long.layout, &values);
        let (short, cut) = long.shorter(&bk, &w, 3);
        let table = |of: &Bert<Cpu<f32>>, w: &Params<Cpu<f32>>| {
            let found = |name: &str| {
                of.layout.iter().find(|p| p.name.contains(name)).expect("there").clone()
            };
            let n = of.config.length();
            let bias = RelPosBias { table: found("relative_position_bias_table") };
            let bias = Positions::new(&bk, (1, n), (1, n)).bias(Ctx::new(&bk, w), &bias);
            (bias.to_f64(&bk), w.to_host(&bk)[found("pos_embed").range].to_vec())
        };
        let ((long_bias, long_pos), (bias, pos)) = (table(&long, &w), table(&short, &cut));
        for (head, i, j) in (0..2 * 16).map(|k| (k / 16, k / 4 % 4, k % 4)) {
            assert_eq!(bias[head * 16 + i * 4 + j], long_bias[head * 64 + i * 8 + j], "{i},{j}");
        }
        assert_eq!(pos, long_pos[..pos.len()]);
    }
}
