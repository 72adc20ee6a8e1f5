//! The heads of segmentation (mmseg's UPerHead and FCNHead).
//!
//! ```text
//! q = [p_3, up(block(average_s(p_3))) for s in 1, 2, 3, 6]         pyramid pooling, channels side by side
//! l_3 = block(q);  l_i = block(p_i), i < 3                         laterals
//! l_i += up(l_{i+1}), i = 2, 1, 0                                  top down
//! o_i = block(l_i), i < 3;  o_3 = l_3
//! y = block([o_0, up(o_1), up(o_2), up(o_3)])                      at the size of p_0
//! logits = W (dropout y) + b
//! ```
//! Blocks are convolution, batch norm and ReLU: 3×3 but for laterals and pooled branches, which are 1×1; `up` is
//! bilinear. The auxiliary head is a 3×3 block of p_2, dropout and W.

use super::maps::{Maps, plane};
use crate::layers::conv_block::{ConvBlock, ConvBlockCache, pixel_linear};
use crate::models::config::SegmenterConfig;
use crate::ops::Backend;
use crate::ops::batch_norm::{BatchNorm, BatchStats, Statistics};
use crate::ops::linear::Linear;
use crate::params::{Ctx, Decay, Grad, Init, Registry};
use crate::storage::Storage;
use crate::tensor::{Master, Tensor};

const POOLS: [usize; 4] = SegmenterConfig::POOLS;

/// Parameters of the main head.
pub(super) struct UperHead {
    pools: [ConvBlock; 4],
    bottleneck: ConvBlock,
    laterals: [ConvBlock; 3],
    outputs: [ConvBlock; 3],
    last: ConvBlock,
    classes: Classes,
}

/// What backward reads.
pub(super) struct UperCache<B: Storage> {
    pools: [BlockWithInput<B>; 4],
    bottleneck: BlockWithInput<B>,
    laterals: [BlockPass<B>; 3],
    sums: [Tensor<B>; 3], // laterals after the top-down sums
    outputs: [BlockPass<B>; 3],
    last: BlockWithInput<B>,
    kept: Tensor<B>, // [B,H,W,channels], what the classes read
}

/// What a block read and gave, and its cache.
struct BlockWithInput<B: Storage> {
    x: Tensor<B>,
    own: BlockPass<B>,
}

/// What a block gave, and its cache; its owner keeps what it read.
struct BlockPass<B: Storage> {
    y: Tensor<B>,
    cache: ConvBlockCache<B>,
}

impl<B: Backend> BlockPass<B> {
    fn new(ctx: Ctx<B>, block: &ConvBlock, x: &Tensor<B>, train: bool) -> Self {
        let (y, cache) = block.forward(ctx, x, train);
        Self { y, cache }
    }

    fn backward(
        &self,
        grad: &mut Grad<B>,
        block: &ConvBlock,
        x: &Tensor<B>,
        dy: &Tensor<B>,
    ) -> Tensor<B> {
        block.backward(grad, (x, &self.y), &self.cache, dy)
    }
}

impl<B: Backend> BlockWithInput<B> {
    fn new(ctx: Ctx<B>, block: &ConvBlock, x: Tensor<B>, train: bool) -> Self {
        let own = BlockPass::new(ctx, block, &x, train);
        Self { x, own }
    }

    fn backward(&self, grad: &mut Grad<B>, block: &ConvBlock, dy: &Tensor<B>) -> Tensor<B> {
        self.own.backward(grad, block, &self.x, dy)
    }
}

/// The last layer: dropout of channels and a 1×1 convolution.
struct Classes(Linear);

impl Classes {
    /// `name.conv_seg`; weights start normal with deviation 0.01.
    fn new(reg: &mut Registry, name: &str, channels: usize, classes: usize) -> Self {
        let weight = format!("{name}.conv_seg.weight");
        let linear = pixel_linear(reg, &weight, (channels, classes), Init::Normal(0.01));
        let bias = format!("{name}.conv_seg.bias");
        let bias = reg.add(bias, &[classes], Decay::No, Init::Constant(0.0));
        Self(Linear { bias: Some(bias), ..linear })
    }

    /// -> (logits, what they were made of)
    fn forward<B: Backend>(
        &self,
        ctx: Ctx<B>,
        y: &Tensor<B>,
        dropout: Option<&Master<B>>,
    ) -> (Tensor<B>, Tensor<B>) {
        let kept = dropped(ctx.bk, y, dropout);
        (self.0.forward(ctx, &kept), kept)
    }

    fn backward<B: Backend>(
        &self,
        grad: &mut Grad<B>,
        kept: &Tensor<B>,
        dropout: Option<&Master<B>>,
        dy: &Tensor<B>,
    ) -> Tensor<B> {
        let dkept = self.0.backward(grad, kept, dy);
        dropped(grad.ctx.bk, &dkept, dropout)
    }
}

fn dropped<B: Backend>(bk: &B, x: &Tensor<B>, dropout: Option<&Master<B>>) -> Tensor<B> {
    dropout.map_or_else(|| x.duplicate(bk), |keep| bk.dropout2d(x, keep))
}

/// y += x.
fn add<B: Backend>(bk: &B, maps: &Maps<B>, x: &Tensor<B>, y: &mut Tensor<B>) {
    bk.resize_forward(x, &maps.bilinear(bk, plane(x), plane(y)), y, 0, true);
}

impl UperHead {
    pub(super) fn new(reg: &mut Registry, config: &SegmenterConfig) -> Self {
        let (c, h) = (config.encoder.width, config.channels);
        let mut block = |name: String, input, side| {
            ConvBlock::new(reg, &format!("decode_head.{name}"), (input, h), side)
        };
        let pools = [0, 1, 2, 3].map(|i| block(format!("psp_modules.{i}.1"), c, 1));
        let bottleneck = block("bottleneck".into(), c + 4 * h, 3);
        let laterals = [0, 1, 2].map(|i| block(format!("lateral_convs.{i}"), c, 1));
        let outputs = [0, 1, 2].map(|i| block(format!("fpn_convs.{i}"), h, 3));
        let last = block("fpn_bottleneck".into(), 4 * h, 3);
        let classes = Classes::new(reg, "decode_head", h, config.classes.len());
        Self { pools, bottleneck, laterals, outputs, last, classes }
    }

    /// Levels -> logits `[B,4Gh,4Gw,K]`.
    pub(super) fn forward<B: Backend>(
        &self,
        ctx: Ctx<B>,
        maps: &Maps<B>,
        levels: &[Tensor<B>; 4],
        dropout: Option<&Master<B>>,
        train: bool,
    ) -> (Tensor<B>, UperCache<B>) {
        let bk = ctx.bk;
        let (pools, q) = self.pool(ctx, maps, &levels[3], train);
        let bottleneck = BlockWithInput::new(ctx, &self.bottleneck, q, train);
        let laterals = [0, 1, 2].map(|i| BlockPass::new(ctx, &self.laterals[i], &levels[i], train));
        let mut sums = [0, 1, 2].map(|i| laterals[i].y.duplicate(bk));
        add(bk, maps, &bottleneck.own.y, &mut sums[2]);
        for i in [1, 0] {
            let (finer, coarser) = sums.split_at_mut(i + 1);
            add(bk, maps, &coarser[0], &mut finer[i]);
        }
        let outputs = [0, 1, 2].map(|i| BlockPass::new(ctx, &self.outputs[i], &sums[i], train));
        let all = [&outputs[0].y, &outputs[1].y, &outputs[2].y, &bottleneck.own.y];
        let side = side_by_side(bk, maps, &all, plane(&levels[0]));
        let last = BlockWithInput::new(ctx, &self.last, side, train);
        let (logits, kept) = self.classes.forward(ctx, &last.own.y, dropout);
        (logits, UperCache { pools, bottleneck, laterals, sums, outputs, last, kept })
    }

    /// p3 -> (pooled branches, q `[B,h,w,C + 4 channels]`)
    fn pool<B: Backend>(
        &self,
        ctx: Ctx<B>,
        maps: &Maps<B>,
        p3: &Tensor<B>,
        train: bool,
    ) -> ([BlockWithInput<B>; 4], Tensor<B>) {
        let (bk, size) = (ctx.bk, plane(p3));
        let pools = [0, 1, 2, 3].map(|i| {
            let bins = (POOLS[i], POOLS[i]);
            let pooled = maps.average(bk, size, bins).forward(bk, p3);
            BlockWithInput::new(ctx, &self.pools[i], pooled, train)
        });
        let [a, b, c, d] = &pools;
        let q = side_by_side(bk, maps, &[p3, &a.own.y, &b.own.y, &c.own.y, &d.own.y], size);
        (pools, q)
    }

    /// Gradient of the logits -> those of the levels.
    pub(super) fn backward<B: Backend>(
        &self,
        grad: &mut Grad<B>,
        maps: &Maps<B>,
        (levels, dropout): (&[Tensor<B>; 4], Option<&Master<B>>),
        cache: &UperCache<B>,
        dlogits: &Tensor<B>,
    ) -> [Tensor<B>; 4] {
        let bk = grad.ctx.bk;
        // logits = classes(last(side by side of the outputs))
        let dlast = self.classes.backward(grad, &cache.kept, dropout, dlogits);
        let dside = cache.last.backward(grad, &self.last, &dlast);
        let top = &cache.bottleneck.own.y;
        let width = top.cols();
        let part = |x: &Tensor<B>, i: usize| {
            let mut dx = Tensor::zeros(bk, x.shape());
            let map = maps.bilinear(bk, plane(x), plane(&dside));
            bk.resize_backward(&dside, i * width, &map, &mut dx, false);
            dx
        };
        let mut dtop = part(top, 3);
        // o_i = output(l_i)
        let mut dsums = [0, 1, 2].map(|i| {
            let dy = part(&cache.outputs[i].y, i);
            cache.outputs[i].backward(grad, &self.outputs[i], &cache.sums[i], &dy)
        });
        // l_i += up(l_{i+1})
        for i in [0, 1] {
            let (finer, coarser) = dsums.split_at_mut(i + 1);
            add_back(bk, maps, &finer[i], &mut coarser[0]);
        }
        add_back(bk, maps, &dsums[2], &mut dtop);
        let [d0, d1, d2] = [0, 1, 2]
            .map(|i| cache.laterals[i].backward(grad, &self.laterals[i], &levels[i], &dsums[i]));
        // l_3 = bottleneck(q)
        let dq = cache.bottleneck.backward(grad, &self.bottleneck, &dtop);
        [d0, d1, d2, self.pool_backward(grad, maps, &levels[3], &cache.pools, &dq)]
    }

    /// Gradient of q -> that of p3.
    fn pool_backward<B: Backend>(
        &self,
        grad: &mut Grad<B>,
        maps: &Maps<B>,
        p3: &Tensor<B>,
        pools: &[BlockWithInput<B>; 4],
        dq: &Tensor<B>,
    ) -> Tensor<B> {
        let (bk, size) = (grad.ctx.bk, plane(p3));
        let mut dp3 = Tensor::zeros(bk, p3.shape());
        bk.resize_backward(dq, 0, &maps.bilinear(bk, size, size), &mut dp3, false);
        let mut at = p3.cols();
        for (block, seen) in self.pools.iter().zip(pools) {
            let y = &seen.own.y;
            let mut dy = Tensor::zeros(bk, y.shape());
            bk.resize_backward(dq, at, &maps.bilinear(bk, plane(y), size), &mut dy, false);
            let dpooled = seen.backward(grad, block, &dy);
            let map = maps.average(bk, size, plane(&dpooled));
            bk.resize_backward(&dpooled, 0, &map, &mut dp3, true);
            at += y.cols();
        }
        dp3
    }

    pub(super) fn statistics<B: Storage>(&self, cache: UperCache<B>) -> Statistics<B> {
        let UperCache { pools, bottleneck, laterals, outputs, last, .. } = cache;
        let blocks = self.pools.iter().chain([&self.bottleneck]);
        let blocks = blocks.chain(&self.laterals).chain(&self.outputs).chain([&self.last]);
        let caches = pools.into_iter().map(|seen| seen.own).chain([bottleneck.own]);
        let caches = caches.chain(laterals).chain(outputs).chain([last.own]);
        blocks.zip(caches).map(|(block, own)| (block.norm.clone(), own.cache.stats)).collect()
    }
}

/// x += the transpose of [`add`] of dy.
fn add_back<B: Backend>(bk: &B, maps: &Maps<B>, dy: &Tensor<B>, dx: &mut Tensor<B>) {
    bk.resize_backward(dy, 0, &maps.bilinear(bk, plane(dx), plane(dy)), dx, true);
}

/// All of `parts`, resized, with their channels side by side.
fn side_by_side<B: Backend>(
    bk: &B,
    maps: &Maps<B>,
    parts: &[&Tensor<B>],
    (h, w): (usize, usize),
) -> Tensor<B> {
    let channels = parts.iter().map(|x| x.cols()).sum();
    let mut y = Tensor::zeros(bk, &[parts[0].shape()[0], h, w, channels]);
    let mut at = 0;
    for x in parts {
        bk.resize_forward(x, &maps.bilinear(bk, plane(x), (h, w)), &mut y, at, false);
        at += x.cols();
    }
    y
}

/// Parameters of the auxiliary head.
pub(super) struct AuxiliaryHead {
    block: ConvBlock,
    classes: Classes,
}

/// What backward reads.
pub(super) struct AuxiliaryCache<B: Storage> {
    own: BlockPass<B>,
    kept: Tensor<B>,
}

impl AuxiliaryHead {
    pub(super) fn new(reg: &mut Registry, config: &SegmenterConfig) -> Self {
        let (c, a) = (config.encoder.width, config.auxiliary);
        Self {
            block: ConvBlock::new(reg, "auxiliary_head.convs.0", (c, a), 3),
            classes: Classes::new(reg, "auxiliary_head", a, config.classes.len()),
        }
    }

    /// p2 -> logits `[B,Gh,Gw,K]`.
    pub(super) fn forward<B: Backend>(
        &self,
        ctx: Ctx<B>,
        p2: &Tensor<B>,
        dropout: Option<&Master<B>>,
        train: bool,
    ) -> (Tensor<B>, AuxiliaryCache<B>) {
        let own = BlockPass::new(ctx, &self.block, p2, train);
        let (logits, kept) = self.classes.forward(ctx, &own.y, dropout);
        (logits, AuxiliaryCache { own, kept })
    }

    /// Adds the gradient of p2 to `dp2`.
    pub(super) fn backward<B: Backend>(
        &self,
        grad: &mut Grad<B>,
        maps: &Maps<B>,
        (p2, dropout): (&Tensor<B>, Option<&Master<B>>),
        cache: &AuxiliaryCache<B>,
        (dlogits, dp2): (&Tensor<B>, &mut Tensor<B>),
    ) {
        let dy = self.classes.backward(grad, &cache.kept, dropout, dlogits);
        let own = cache.own.backward(grad, &self.block, p2, &dy);
        let bk = grad.ctx.bk;
        add(bk, maps, &own, dp2);
    }

    pub(super) fn statistics<B: Storage>(
        &self,
        cache: AuxiliaryCache<B>,
    ) -> (BatchNorm, BatchStats<B>) {
        (self.block.norm.clone(), cache.own.cache.stats)
    }
}
