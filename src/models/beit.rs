//! BEiT: patches and a class token through Transformer blocks, and the masked-image head (arXiv
//! 2106.08254; `modeling_pretrain.py`).
//!
//! ```text
//! e = patch_embed(image)                         [B,Np,C]
//! s = tokens(e, mask)                            [B,N,C], N = Np + 1, class token first
//! s = block_l(s), l = 0..L−1                     each residual sum fused with the next norm
//! y = norm(s)                                    [B,N,C]
//! logits = lm_head(y[masked patches])            [M,V]
//! ```

mod case;

pub use case::*;

use crate::layers::TRUNC_NORMAL;
use crate::layers::block::{Block, BlockCache, BlockContext};
use crate::layers::linear::Linear;
use crate::layers::norm::{Norm, Stream};
use crate::layers::patch_embed::PatchEmbed;
use crate::layers::rel_pos_bias::RelPosBias;
use crate::models::config::BeitConfig;
use crate::ops::Backend;
use crate::ops::cross_entropy::{Losses, Target};
use crate::ops::rel_pos_bias::RelPosIndex;
use crate::params::{Decay, Layout, Param, Params, Registry};
use crate::storage::Storage;
use crate::tensor::{Ids, Master, Tensor};
use std::ops::Range;
use std::sync::Arc;

/// Drop-path multipliers `[B]` of the two branches of every block: 0 or 1/(1 − p).
pub type DropPath<B> = Vec<[Option<Master<B>>; 2]>;

/// Told about each range of parameter gradients that is finished, last layers first: the hook for
/// overlapping communication with the rest of the backward pass.
pub type OnReady<'a> = &'a mut dyn FnMut(Range<usize>);

/// Sees the residual stream: `(0, embedding, None)`, then `(l + 1, stream, block l's cache)`.
pub type Observe<'a, B> = &'a mut dyn FnMut(usize, &Master<B>, Option<&BlockCache<B>>);

/// The encoder: embedding and blocks, without a final norm.
pub struct Encoder<B: Storage> {
    patch_embed: PatchEmbed,
    cls_token: Param,
    mask_token: Option<Param>,
    pos_embed: Option<Param>,
    rel_pos_bias: Option<RelPosBias<B>>,
    /// The Transformer blocks.
    pub blocks: Vec<Block<B>>,
    /// Range of the parameters before the first block.
    stem: Range<usize>,
    /// Range of each block's parameters.
    ranges: Vec<Range<usize>>,
}

/// What the encoder's backward reads.
pub struct EncoderCache<B: Storage> {
    streams: Vec<Stream<B>>, // after the embedding and after each block
    blocks: Vec<BlockCache<B>>,
    shared_bias: Option<Master<B>>, // [H,N,N]
}

impl<B: Backend> Encoder<B> {
    /// Registers embedding and blocks in the order of the original's checkpoints.
    pub fn new(bk: &B, reg: &mut Registry, config: &BeitConfig, masked: bool) -> Self {
        let start = reg.len();
        let (c, n) = (config.width, config.tokens());
        let index = Arc::new(RelPosIndex::new(bk, config.grid()));
        let token =
            |reg: &mut Registry, name, decay| reg.add(name, &[1, 1, c], decay, TRUNC_NORMAL);
        let cls_token = token(reg, "cls_token", Decay::No);
        // Decayed: three axes, and not on the original's list of exceptions (`optim_factory.py`).
        let mask_token = masked.then(|| token(reg, "mask_token", Decay::Yes));
        let pos_embed =
            config.abs_pos.then(|| reg.add("pos_embed", &[1, n, c], Decay::No, TRUNC_NORMAL));
        let patch_embed = PatchEmbed::new(reg, config.patch, c);
        let rel_pos_bias = config.shared_rel_pos_bias.then(|| {
            let name = "rel_pos_bias.relative_position_bias_table";
            RelPosBias::new(reg, name, config.heads, &index)
        });
        let stem = start..reg.len();
        let own = config.rel_pos_bias.then_some(&index);
        let mut ranges = Vec::new();
        let blocks = (0..config.depth)
            .map(|i| {
                let start = reg.len();
                let block = Block::new(reg, i, config, own);
                ranges.push(start..reg.len());
                block
            })
            .collect();
        Self { patch_embed, cls_token, mask_token, pos_embed, rel_pos_bias, blocks, stem, ranges }
    }

    /// images `[B,Ih,Iw,3]`, mask `[B,Np]` (1 = hidden) -> the last stream and, where `last` follows,
    /// the norm of it. With `keep_caches` false each block's cache is dropped as the block returns;
    /// nothing else differs.
    #[allow(clippy::too_many_arguments)]
    pub fn forward(
        &self,
        bk: &B,
        w: &Params<B>,
        images: &Tensor<B>,
        mask: Option<&Ids<B>>,
        drop_path: &DropPath<B>,
        last: Option<&Norm>,
        keep_caches: bool,
        observe: Observe<B>,
    ) -> (Option<Tensor<B>>, EncoderCache<B>) {
        let e = self.patch_embed.forward(bk, w, images); // [B,Np,C]
        let (mask_token, pos) = (self.mask_token.as_ref(), self.pos_embed.as_ref());
        let s = bk.tokens_forward(&e, mask, w, &self.cls_token, mask_token, pos); // [B,N,C]
        drop(e);
        observe(0, &s, None);
        let shared_bias = self.rel_pos_bias.as_ref().map(|t| t.forward(bk, w)); // [H,N,N]
        let (y, stats) = self.blocks[0].norm1.forward(bk, w, &s);
        let mut y = Some(y);
        let mut streams = vec![Stream { s, stats: Some(stats) }];
        let mut caches = Vec::new();
        for (l, block) in self.blocks.iter().enumerate() {
            let ctx = self.context(l, shared_bias.as_ref(), drop_path, last);
            let input = y.take().expect("a norm follows every block but the last");
            let before = &streams.last().expect("not empty").s;
            let (stream, next, cache) = block.forward(bk, w, before, input, &ctx);
            observe(l + 1, &stream.s, Some(&cache));
            if keep_caches {
                caches.push(cache);
            } else {
                streams.clear();
            }
            streams.push(stream);
            y = next;
        }
        (y, EncoderCache { streams, blocks: caches, shared_bias })
    }

    fn context<'a>(
        &'a self,
        l: usize,
        shared_bias: Option<&'a Master<B>>,
        drop_path: &'a DropPath<B>,
        last: Option<&'a Norm>,
    ) -> BlockContext<'a, B> {
        let keep = drop_path.get(l).map_or([None, None], |[a, b]| [a.as_ref(), b.as_ref()]);
        let next = self.blocks.get(l + 1).map(|b| &b.norm1).or(last);
        BlockContext { shared_bias, keep, next }
    }

    /// `ds` `[B,N,C]`: gradient of the last stream from beyond its norm; `dy`: gradient of that norm's
    /// output. Returns the gradient of the images where wanted.
    #[allow(clippy::too_many_arguments)]
    pub fn backward(
        &self,
        bk: &B,
        w: &Params<B>,
        images: &Tensor<B>,
        mask: Option<&Ids<B>>,
        drop_path: &DropPath<B>,
        last: Option<&Norm>,
        cache: EncoderCache<B>,
        mut ds: Master<B>,
        mut dy: Option<Tensor<B>>,
        g: &mut Params<B>,
        need_dx: bool,
        on_ready: OnReady,
    ) -> Option<Tensor<B>> {
        let EncoderCache { mut streams, mut blocks, shared_bias } = cache;
        let mut dshared = shared_bias.as_ref().map(|b| Master::zeros(bk, b.shape()));
        for (l, block) in self.blocks.iter().enumerate().rev() {
            let ctx = self.context(l, shared_bias.as_ref(), drop_path, last);
            let (stream, cache) = (streams.pop().expect("kept"), blocks.pop().expect("kept"));
            let (next_ds, next_dy) =
                block.backward(bk, w, &stream, cache, &ctx, ds, dy.as_ref(), dshared.as_mut(), g);
            (ds, dy) = (next_ds, Some(next_dy));
            // The norm that follows block l is block l+1's (or the head's): finished only now.
            on_ready(self.ranges.get(l + 1).cloned().unwrap_or_default());
        }
        let (stream, dy) = (streams.pop().expect("kept"), dy.expect("set by the loop"));
        let stats = stream.stats.expect("a norm follows the embedding");
        let norm = &self.blocks[0].norm1;
        bk.add(&mut ds, &norm.backward(bk, w, &stream.s, &stats, &dy, g));
        on_ready(self.ranges[0].clone());
        if let (Some(table), Some(dshared)) = (&self.rel_pos_bias, &dshared) {
            table.backward(bk, dshared, g);
        }
        let (mask_token, pos) = (self.mask_token.as_ref(), self.pos_embed.as_ref());
        let de = bk.tokens_backward(mask, &self.cls_token, mask_token, pos, &ds, g);
        let dx = self.patch_embed.backward(bk, w, images, &de, g, need_dx);
        on_ready(self.stem.clone());
        dx
    }

    /// Attention probabilities `[B,H,N,N]` of block `l`; `cache` as handed to [`Observe`].
    pub fn attention_probs(
        &self,
        bk: &B,
        w: &Params<B>,
        l: usize,
        cache: &BlockCache<B>,
    ) -> Master<B> {
        let shared_bias = self.rel_pos_bias.as_ref().map(|t| t.forward(bk, w));
        self.blocks[l].attention_probs(bk, cache, shared_bias.as_ref())
    }
}

/// Encoder, final norm and head over visual tokens: what masked image modelling trains.
pub struct MaskedImageModel<B: Storage> {
    /// Sizes.
    pub config: BeitConfig,
    /// All parameters.
    pub layout: Layout,
    /// Embedding and blocks.
    pub encoder: Encoder<B>,
    norm: Norm,
    lm_head: Linear,
}

/// One (micro-)batch.
pub struct MaskedBatch<B: Storage> {
    /// `[B,Ih,Iw,3]`, normalised.
    pub images: Tensor<B>,
    /// `[B,Np]`, 1 where hidden.
    pub mask: Ids<B>,
    /// Which rows of `[B·N]` (class tokens counted) to predict, ascending: `[M]`.
    pub rows: Ids<B>,
    /// Branches dropped in this step; empty in evaluation.
    pub drop_path: DropPath<B>,
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
        let encoder = Encoder::new(bk, &mut reg, config, true);
        let norm = Norm::new(&mut reg, "norm", config.width, config.layer_norm_eps);
        let lm_head = Linear::new(&mut reg, "lm_head", config.width, config.vocab, TRUNC_NORMAL);
        Self { config: config.clone(), layout: reg.finish(), encoder, norm, lm_head }
    }

    /// -> logits `[M,V]` of the rows asked for.
    pub fn forward(
        &self,
        bk: &B,
        w: &Params<B>,
        batch: &MaskedBatch<B>,
        keep_caches: bool,
        observe: Observe<B>,
    ) -> (Tensor<B>, MaskedCache<B>) {
        let MaskedBatch { images, mask, rows, drop_path } = batch;
        let last = Some(&self.norm);
        let (y, encoder) =
            self.encoder.forward(bk, w, images, Some(mask), drop_path, last, keep_caches, observe);
        let y = y.expect("a norm follows the last block"); // [B,N,C]
        let hidden = bk.gather_rows_forward(&y, rows); // [M,C]
        let logits = self.lm_head.forward(bk, w, &hidden); // [M,V]
        (logits, MaskedCache { encoder, hidden, all_rows: y.shape().to_vec() })
    }

    /// Gradients of all parameters from those of the logits; returns that of the images where wanted.
    #[allow(clippy::too_many_arguments)]
    pub fn backward(
        &self,
        bk: &B,
        w: &Params<B>,
        batch: &MaskedBatch<B>,
        cache: MaskedCache<B>,
        dlogits: Tensor<B>,
        g: &mut Params<B>,
        need_dx: bool,
        on_ready: OnReady,
    ) -> Option<Tensor<B>> {
        let MaskedCache { encoder, hidden, all_rows } = cache;
        // logits = lm_head(hidden)
        let dhidden = self.lm_head.backward(bk, w, &hidden, &dlogits, g);
        drop((hidden, dlogits));
        // hidden = y[rows]
        let dy = bk.gather_rows_backward(&batch.rows, &dhidden, &all_rows);
        let ds = Master::zeros(bk, &all_rows);
        let MaskedBatch { images, mask, drop_path, .. } = batch;
        let head = self.norm.weight.range.start..self.lm_head.bias.range.end;
        let mut head_ready = Some(head);
        let mut ready = |range: Range<usize>| {
            on_ready(head_ready.take().unwrap_or(range));
        };
        self.encoder.backward(
            bk,
            w,
            images,
            Some(mask),
            drop_path,
            Some(&self.norm),
            encoder,
            ds,
            Some(dy),
            g,
            need_dx,
            &mut ready,
        )
    }

    /// Forward, loss and backward of one micro-batch. `scale` is 1 over the number of masked patches
    /// of the whole optimizer step, so that accumulated micro-batches equal one big batch.
    ///
    /// `Deviation:` the original averages over each device's own patches.
    #[allow(clippy::too_many_arguments)]
    pub fn loss_and_gradients(
        &self,
        bk: &B,
        w: &Params<B>,
        batch: &MaskedBatch<B>,
        labels: &Ids<B>,
        scale: f64,
        g: &mut Params<B>,
        on_ready: OnReady,
    ) -> Losses<B> {
        let (logits, cache) = self.forward(bk, w, batch, true, &mut |_, _, _| {});
        let target = Target::Hard { labels, ignore: None };
        let (losses, dlogits) = bk.cross_entropy_backward(logits, &target, scale);
        self.backward(bk, w, batch, cache, dlogits, g, false, on_ready);
        losses
    }
}

/// Floating-point operations of one image forward: blocks, patch embedding and the head on `masked`
/// patches; matrix products only (a multiply-add counts 2).
pub fn forward_flops(config: &BeitConfig, masked: usize) -> f64 {
    let [n, c, h] = [config.tokens(), config.width, config.mlp_width()].map(|x| x as f64);
    let block = 8.0 * n * c * c + 4.0 * n * n * c + 4.0 * n * c * h;
    let patch = 2.0 * config.patches() as f64 * (config.patch * config.patch * 3) as f64 * c;
    config.depth as f64 * block + patch + 2.0 * (masked * config.vocab) as f64 * c
}
