//! The encoder: patches and a class token through Transformer blocks, on any grid (arXiv 2106.08254;
//! `modeling_finetune.py`, class VisionTransformer).
//!
//! ```text
//! e = patch_embed(image)                         [B,Np,C]
//! s = tokens(e, mask)                            [B,N,C], N = Np + 1, class token first
//! s = block_l(s), l = 0..L−1                     each residual sum fused with the next norm
//! y = norm(s)                                    [B,N,C], where the model has a final norm
//! ```
//!
//! Everything that looks at images is this and a head. A head reads the final norm, or the stream at
//! some *taps*: tap 0 is the embedding, tap l + 1 what block l puts out; backward takes a gradient for
//! each. The size of the images is that of the call: bias tables and positions of another grid are
//! resized inside, and their gradients go back through that ([`Positions`]).

mod case;

pub use case::*;

use crate::layers::TRUNC_NORMAL;
use crate::layers::block::{Beside, Block, BlockCache};
use crate::layers::position::Positions;
use crate::models::config::EncoderConfig;
use crate::ops::Backend;
use crate::ops::layer_norm::Norm;
use crate::ops::patch_embed::PatchEmbed;
use crate::ops::rel_pos_bias::RelPosBias;
use crate::ops::residual_norm::Stream;
use crate::ops::tokens::Tokens;
use crate::params::{Ctx, Decay, Grad, Registry};
use crate::storage::Storage;
use crate::tensor::{Ids, Master, Tensor};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

/// Drop-path factors `[B]` of the two branches of every block: 0 or 1/(1 − p).
pub type DropPath<B> = Vec<[Option<Master<B>>; 2]>;

/// What an encoder has besides its blocks.
#[derive(Clone, Copy, Debug)]
pub struct EncoderParts {
    /// A mask token: it is shown masks.
    pub mask_token: bool,
    /// A norm of the last stream.
    pub norm: bool,
}

impl EncoderParts {
    /// An encoder that is shown whole images, with a final norm.
    pub const ALONE: Self = Self { mask_token: false, norm: true };
}

/// Rows of the class tokens among the tokens of y `[n,N,C]`: `[n]`.
pub fn class_rows<B: Storage>(bk: &B, y: &Tensor<B>) -> Ids<B> {
    let (n, tokens) = (y.shape()[0], y.shape()[1]);
    Ids::from_vec(bk, (0..n).map(|i| (i * tokens) as u32).collect(), &[n])
}

/// Parameters and wiring.
pub struct Encoder<B: Storage> {
    /// Keeps the streams alone and computes each block again in backward: less memory for more time,
    /// the same gradients.
    pub recompute: bool,
    patch_embed: PatchEmbed,
    tokens: Tokens,
    rel_pos_bias: Option<RelPosBias>,
    blocks: Vec<Block>,
    norm: Option<Norm>,
    /// The grid that tables and positions were made for.
    grid: (usize, usize),
    /// Whether anything depends on the grid.
    positioned: bool,
    /// Grids seen so far.
    positions: Mutex<Vec<Arc<Positions<B>>>>,
    /// Ranges of the parameters before the first block, of each block, and of the norm.
    stem: Range<usize>,
    ranges: Vec<Range<usize>>,
}

/// What an encoder is shown.
pub struct EncoderInput<'a, B: Storage> {
    /// `[B,Ih,Iw,3]`, normalised; of a text `[B,1,N,257]`.
    pub images: &'a Tensor<B>,
    /// `[B,Np]`, 1 where hidden.
    pub mask: Option<&'a Ids<B>>,
    /// Branches dropped in this step; `None` in evaluation.
    pub keep: Option<&'a DropPath<B>>,
}

impl<'a, B: Storage> EncoderInput<'a, B> {
    /// Whole images, nothing dropped.
    pub fn of(images: &'a Tensor<B>) -> Self {
        Self { images, mask: None, keep: None }
    }
}

/// What an encoder makes of images.
pub struct Features<B: Storage> {
    /// The final norm of the last stream `[B,N,C]`, where there is one.
    pub y: Option<Tensor<B>>,
    /// The stream `[B,N,C]` at each tap asked for.
    pub taps: Vec<Master<B>>,
}

/// Gradients of [`Features`].
pub struct FeatureGradients<B: Storage> {
    /// Of `y`, where there is one.
    pub dy: Option<Tensor<B>>,
    /// Of taps, each with its number.
    pub taps: Vec<(usize, Master<B>)>,
}

/// What backward reads.
pub struct EncoderCache<B: Storage> {
    positions: Arc<Positions<B>>,
    streams: Vec<Stream<B>>,            // at each tap
    blocks: Vec<Option<BlockCache<B>>>, // none where it is computed again
    shared_bias: Option<Master<B>>,     // [H,N,N]
}

/// What is kept of a forward pass.
#[derive(Clone, Copy, PartialEq)]
enum Kept {
    /// What backward reads.
    Caches,
    /// What the caches can be computed from.
    Streams,
    /// Nothing: each cache is dropped as its block returns.
    Nothing,
}

/// Sees block l's cache and the shared bias as the block returns.
type See<'a, B> = &'a mut dyn FnMut(usize, &BlockCache<B>, Option<&Master<B>>);

impl<B: Backend> Encoder<B> {
    /// Registers embedding, blocks and norm in the order of the original's checkpoints.
    pub fn new(bk: &B, reg: &mut Registry, config: &EncoderConfig, parts: EncoderParts) -> Self {
        let start = reg.len();
        let (c, n, grid) = (config.width, config.tokens(), config.grid());
        let token =
            |reg: &mut Registry, name, decay| reg.add(name, &[1, 1, c], decay, TRUNC_NORMAL);
        let cls = token(reg, "cls_token", Decay::No);
        // Decayed: three axes, and not on the original's list of exceptions (`optim_factory.py`).
        let mask = parts.mask_token.then(|| token(reg, "mask_token", Decay::Yes));
        let pos = config.abs_pos.then(|| reg.add("pos_embed", &[1, n, c], Decay::No, TRUNC_NORMAL));
        let patch_embed = PatchEmbed::new(reg, (config.patch, config.channels), c, TRUNC_NORMAL);
        let rel_pos_bias = config.shared_rel_pos_bias.then(|| {
            let name = "rel_pos_bias.relative_position_bias_table";
            RelPosBias::new(reg, name, config.heads, grid)
        });
        let stem = start..reg.len();
        let mut ranges = Vec::new();
        let mut next = |reg: &Registry| {
            let start = ranges.last().map_or(stem.end, |r: &Range<usize>| r.end);
            ranges.push(start..reg.len());
        };
        let blocks = (0..config.depth).map(|i| {
            let block = Block::new(reg, i, &config.block());
            next(reg);
            block
        });
        let blocks = blocks.collect();
        let norm = parts.norm.then(|| Norm::new(reg, "norm", c, config.layer_norm_eps));
        next(reg);
        Self {
            recompute: false,
            patch_embed,
            tokens: Tokens { cls, mask, pos },
            rel_pos_bias,
            blocks,
            norm,
            grid,
            positioned: config.abs_pos || config.shared_rel_pos_bias || config.rel_pos_bias,
            positions: Mutex::new(vec![Arc::new(Positions::new(bk, grid, grid))]),
            stem,
            ranges,
        }
    }

    /// Number of blocks, and of the last tap.
    pub fn depth(&self) -> usize {
        self.blocks.len()
    }

    /// What the grid of these images makes of tables and positions.
    #[track_caller]
    fn positions(&self, bk: &B, images: &Tensor<B>) -> Arc<Positions<B>> {
        images.expect_rank("encoder", "images", 4);
        let (side, shape) = (self.patch_embed.weight.shape[1], images.shape());
        let grid = (shape[1] / side, shape[2] / side);
        let mut known = self.positions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = known.iter().find(|p| p.grid() == grid) {
            return found.clone();
        }
        let home = if self.positioned { self.grid } else { grid };
        let made = Arc::new(Positions::new(bk, home, grid));
        known.push(made.clone());
        made
    }

    /// -> features at `taps` (ascending) and after the final norm, and what backward reads.
    pub fn forward(
        &self,
        ctx: Ctx<B>,
        input: &EncoderInput<B>,
        taps: &[usize],
    ) -> (Features<B>, EncoderCache<B>) {
        let kept = if self.recompute { Kept::Streams } else { Kept::Caches };
        self.run(ctx, input, taps, kept, &mut |_, _, _| {})
    }

    /// The same without what backward reads.
    pub fn features(&self, ctx: Ctx<B>, input: &EncoderInput<B>, taps: &[usize]) -> Features<B> {
        self.run(ctx, input, taps, Kept::Nothing, &mut |_, _, _| {}).0
    }

    /// Attention probabilities `[B,H,N,N]` of some blocks (ascending), for pictures.
    pub fn attention_probs(
        &self,
        ctx: Ctx<B>,
        input: &EncoderInput<B>,
        blocks: &[usize],
    ) -> Vec<Master<B>> {
        let mut probs = Vec::new();
        self.run(ctx, input, &[], Kept::Nothing, &mut |l, cache, shared| {
            if blocks.contains(&l) {
                probs.push(self.blocks[l].attention_probs(ctx.bk, cache, shared));
            }
        });
        probs
    }

    fn run(
        &self,
        ctx: Ctx<B>,
        input: &EncoderInput<B>,
        taps: &[usize],
        kept: Kept,
        see: See<B>,
    ) -> (Features<B>, EncoderCache<B>) {
        let Ctx { bk, w } = ctx;
        let positions = self.positions(bk, input.images);
        let e = self.patch_embed.forward(ctx, input.images); // [B,Np,C]
        let pos = self.tokens.pos.as_ref().and_then(|pos| positions.embedding(ctx, pos));
        let s = bk.tokens_forward(&e, input.mask, w, &self.tokens, pos.as_ref()); // [B,N,C]
        drop((e, pos));
        let shared_bias = self.rel_pos_bias.as_ref().map(|t| positions.bias(ctx, t)); // [H,N,N]
        let (y, stats) = self.blocks[0].norm1.forward(ctx, &s);
        let (mut y, mut streams) = (Some(y), vec![Stream { s, stats: Some(stats) }]);
        let (mut blocks, mut seen) = (Vec::new(), Vec::new());
        for (l, block) in self.blocks.iter().enumerate() {
            let beside = self.beside(l, &positions, shared_bias.as_ref(), input.keep);
            let y_in = y.take().expect("a norm follows every block but the last");
            let before = &streams.last().expect("not empty").s;
            let (stream, next, cache) = block.forward(ctx, before, y_in, &beside);
            see(l, &cache, shared_bias.as_ref());
            match kept {
                Kept::Caches => blocks.push(Some(cache)),
                Kept::Streams => blocks.push(None),
                Kept::Nothing => {
                    let before = streams.pop().expect("not empty");
                    seen.extend(taps.contains(&l).then_some(before.s));
                }
            }
            streams.push(stream);
            y = next;
        }
        if kept == Kept::Nothing {
            let last = streams.pop().filter(|_| taps.contains(&self.depth()));
            seen.extend(last.map(|stream| stream.s));
        } else {
            seen.extend(taps.iter().map(|&l| streams[l].s.duplicate(bk)));
        }
        (Features { y, taps: seen }, EncoderCache { positions, streams, blocks, shared_bias })
    }

    fn beside<'a>(
        &'a self,
        l: usize,
        positions: &'a Positions<B>,
        shared_bias: Option<&'a Master<B>>,
        keep: Option<&'a DropPath<B>>,
    ) -> Beside<'a, B> {
        let keep = keep.and_then(|keep| keep.get(l));
        let keep = keep.map_or([None, None], |[a, b]| [a.as_ref(), b.as_ref()]);
        let next = self.blocks.get(l + 1).map(|b| &b.norm1).or(self.norm.as_ref());
        Beside { positions, shared_bias, keep, next }
    }

    /// Gradients of all parameters from those of the features; returns that of the images where
    /// wanted.
    pub fn backward(
        &self,
        grad: &mut Grad<B>,
        input: &EncoderInput<B>,
        cache: EncoderCache<B>,
        upstream: FeatureGradients<B>,
        need_dx: bool,
    ) -> Option<Tensor<B>> {
        let (ctx, bk) = (grad.ctx, grad.ctx.bk);
        let EncoderCache { positions, mut streams, mut blocks, shared_bias } = cache;
        let FeatureGradients { mut dy, taps } = upstream;
        let shape = streams.last().expect("not empty").s.shape();
        let mut ds = Master::zeros(bk, shape);
        let from_tap = |ds: &mut Master<B>, l: usize| {
            taps.iter().filter(|(tap, _)| *tap == l).for_each(|(_, own)| bk.add(ds, own));
        };
        from_tap(&mut ds, self.depth());
        let mut dshared = shared_bias.as_ref().map(|b| Master::zeros(bk, b.shape()));
        for (l, block) in self.blocks.iter().enumerate().rev() {
            let beside = self.beside(l, &positions, shared_bias.as_ref(), input.keep);
            let (stream, cache) = (streams.pop().expect("kept"), blocks.pop().expect("kept"));
            let cache = cache.unwrap_or_else(|| {
                let before = &streams.last().expect("kept").s;
                // The same numbers as those of the norm that is fused with a residual sum.
                let y = block.norm1.forward(ctx, before).0;
                block.forward(ctx, before, y, &beside).2
            });
            let upstream = (ds, dy.as_ref());
            let (mut next_ds, next_dy) =
                block.backward(grad, &stream, cache, &beside, upstream, dshared.as_mut());
            from_tap(&mut next_ds, l);
            (ds, dy) = (next_ds, Some(next_dy));
            // The norm that follows block l is block l + 1's, or the last: finished only now.
            grad.ready(self.ranges[l + 1].clone());
        }
        let (stream, dy) = (streams.pop().expect("kept"), dy.expect("set by the loop"));
        let stats = stream.stats.expect("a norm follows the embedding");
        bk.add(&mut ds, &self.blocks[0].norm1.backward(grad, &stream.s, &stats, &dy));
        grad.ready(self.ranges[0].clone());
        if let (Some(table), Some(dshared)) = (&self.rel_pos_bias, &dshared) {
            positions.bias_backward(grad, table, dshared);
        }
        let resized = self.tokens.pos.as_ref().filter(|_| positions.resizes());
        let mut dpos = resized.map(|_| Master::zeros(bk, &[1, ds.shape()[1], ds.cols()]));
        let de = bk.tokens_backward(input.mask, &self.tokens, &ds, grad.g, dpos.as_mut());
        if let (Some(pos), Some(dpos)) = (resized, dpos) {
            positions.embedding_backward(grad, pos, dpos);
        }
        let dx = self.patch_embed.backward(grad, input.images, &de, need_dx);
        grad.ready(self.stem.clone());
        dx
    }
}
