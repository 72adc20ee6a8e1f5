//! Transformer block, pre-norm, with layer scale and drop path (spec 1.2, 1.5):
//!
//! ```text
//! s₁ = s₀ + keep₁ γ₁ ⊙ attention(LN₁(s₀))
//! s₂ = s₁ + keep₂ γ₂ ⊙ mlp(LN₂(s₁))
//! ```
//!
//! Each residual sum is fused with the norm that follows it. The norm after s₂ belongs to the next
//! block (or is the model's final norm), so a block takes LN₁(s₀) as its input and returns s₂ with
//! the next norm of it; where no norm follows, `next` is `None`.

use crate::backend::{Backend, Storage};
use crate::case::{Case, Cost, Inputs, Io, Kind, Visitor};
use crate::layers::attention::{Attention, AttentionCache};
use crate::layers::mlp::{Mlp, MlpCache};
use crate::layers::norm::Norm;
use crate::layers::rel_pos_bias::RelPosBias;
use crate::models::config::BeitConfig;
use crate::ops::layer_norm::NormStats;
use crate::ops::rel_pos_bias::RelPosIndex;
use crate::params::{Decay, Init, Layout, Param, Params, Registry};
use crate::tensor::{Master, Tensor};
use std::sync::Arc;

/// Parameters of one block.
pub struct Block<B: Storage> {
    /// The norm of its input.
    pub norm1: Norm,
    attn: Attention,
    /// The block's own bias table, where the model does not share one.
    rel_pos_bias: Option<RelPosBias<B>>,
    gamma_1: Option<Param>,
    norm2: Norm,
    mlp: Mlp,
    gamma_2: Option<Param>,
}

/// The residual stream after a block and the statistics of the norm that follows it.
pub struct Stream<B: Storage> {
    /// `[B,N,C]`.
    pub s: Master<B>,
    /// Of the norm that follows, if any.
    pub stats: Option<NormStats<B>>,
}

/// What backward reads.
pub struct BlockCache<B: Storage> {
    y0: Tensor<B>, // [B,N,C], LN₁(s₀), input of attention
    attn: AttentionCache<B>,
    bias: Option<Master<B>>, // [H,N,N], the block's own, with the shared one added
    branch1: Tensor<B>,      // [B,N,C]
    s1: Master<B>,           // [B,N,C]
    stats1: NormStats<B>,
    y1: Tensor<B>, // [B,N,C], LN₂(s₁), input of the MLP
    mlp: MlpCache<B>,
    branch2: Tensor<B>, // [B,N,C]
}

/// What a block is given beside its stream.
pub struct BlockContext<'a, B: Storage> {
    /// Bias `[H,N,N]` shared by all blocks.
    pub shared_bias: Option<&'a Master<B>>,
    /// Drop-path multipliers `[B]` of the two branches: 0 or 1/(1 − p).
    pub keep: [Option<&'a Master<B>>; 2],
    /// The norm that follows the block.
    pub next: Option<&'a Norm>,
}

impl<B: Backend> Block<B> {
    /// `blocks.i.*`; `index` where the block has its own table.
    pub fn new(
        reg: &mut Registry,
        i: usize,
        config: &BeitConfig,
        index: Option<&Arc<RelPosIndex<B>>>,
    ) -> Self {
        let (c, heads, eps) = (config.width, config.heads, config.layer_norm_eps);
        let name = |part: &str| format!("blocks.{i}.{part}");
        // A constant of 0 means that the parameters do not exist (spec 1.5).
        let gamma = |reg: &mut Registry, part| {
            let start = Init::Constant(config.layer_scale);
            (config.layer_scale > 0.0).then(|| reg.add(name(part), &[c], Decay::No, start))
        };
        let gamma_1 = gamma(reg, "gamma_1");
        let gamma_2 = gamma(reg, "gamma_2");
        let norm1 = Norm::new(reg, &name("norm1"), c, eps);
        let table = name("attn.relative_position_bias_table");
        let rel_pos_bias = index.map(|index| RelPosBias::new(reg, &table, heads, index));
        let attn = Attention::new(reg, i, c, heads);
        let norm2 = Norm::new(reg, &name("norm2"), c, eps);
        let mlp = Mlp::new(reg, i, c, config.mlp_width());
        Self { norm1, attn, rel_pos_bias, gamma_1, norm2, mlp, gamma_2 }
    }

    /// s `[B,N,C]` and y = LN₁(s) -> the next stream and, where a norm follows, the norm of it.
    pub fn forward(
        &self,
        bk: &B,
        w: &Params<B>,
        s: &Master<B>,
        y: Tensor<B>,
        ctx: &BlockContext<B>,
    ) -> (Stream<B>, Option<Tensor<B>>, BlockCache<B>) {
        let bias = self.rel_pos_bias.as_ref().map(|own| {
            let mut bias = own.forward(bk, w);
            if let Some(shared) = ctx.shared_bias {
                bk.add(&mut bias, shared);
            }
            bias
        });
        let used = bias.as_ref().or(ctx.shared_bias);
        let (branch1, attn) = self.attn.forward(bk, w, &y, used);
        let norm2 = &self.norm2;
        let (s1, y1, stats1) = bk.residual_norm_forward(
            s,
            &branch1,
            w,
            self.gamma_1.as_ref(),
            ctx.keep[0],
            &norm2.weight,
            &norm2.bias,
            norm2.eps,
        );
        let (branch2, mlp) = self.mlp.forward(bk, w, &y1);
        let gamma_2 = self.gamma_2.as_ref();
        let (stream, y2) = match ctx.next {
            Some(next) => {
                let (s2, y2, stats) = bk.residual_norm_forward(
                    &s1,
                    &branch2,
                    w,
                    gamma_2,
                    ctx.keep[1],
                    &next.weight,
                    &next.bias,
                    next.eps,
                );
                (Stream { s: s2, stats: Some(stats) }, Some(y2))
            }
            None => {
                let s = s1.duplicate(bk);
                let s2 = bk.residual_forward(s, &branch2, w, gamma_2, ctx.keep[1]);
                (Stream { s: s2, stats: None }, None)
            }
        };
        (stream, y2, BlockCache { y0: y, attn, bias, branch1, s1, stats1, y1, mlp, branch2 })
    }

    /// `ds` is the gradient of s₂ from beyond the following norm, `dy` that of the norm's output.
    /// Returns the gradient of s₀ (without the part through LN₁) and of LN₁(s₀).
    #[allow(clippy::too_many_arguments)]
    pub fn backward(
        &self,
        bk: &B,
        w: &Params<B>,
        stream: &Stream<B>,
        cache: BlockCache<B>,
        ctx: &BlockContext<B>,
        ds: Master<B>,
        dy: Option<&Tensor<B>>,
        dshared: Option<&mut Master<B>>,
        g: &mut Params<B>,
    ) -> (Master<B>, Tensor<B>) {
        let BlockCache { y0, attn, bias, branch1, s1, stats1, y1, mlp, branch2 } = cache;
        let gamma_2 = self.gamma_2.as_ref();
        // s₂ = s₁ + keep₂ γ₂ ⊙ branch₂, and the norm of s₂ where one follows
        let (ds, dbranch2) = match (ctx.next, &stream.stats, dy) {
            (Some(next), Some(stats), Some(dy)) => bk.residual_norm_backward(
                &stream.s,
                stats,
                &branch2,
                w,
                gamma_2,
                ctx.keep[1],
                &next.weight,
                &next.bias,
                ds,
                dy,
                g,
            ),
            (None, None, None) => {
                let dbranch2 = bk.residual_backward(&branch2, w, gamma_2, ctx.keep[1], &ds, g);
                (ds, dbranch2)
            }
            _ => panic!("block: a gradient of the following norm if and only if there is one"),
        };
        drop(branch2);
        // branch₂ = mlp(y₁)
        let dy1 = self.mlp.backward(bk, w, &y1, mlp, &dbranch2, g);
        drop((y1, dbranch2));
        // s₁ = s₀ + keep₁ γ₁ ⊙ branch₁, y₁ = LN₂(s₁)
        let (ds, dbranch1) = bk.residual_norm_backward(
            &s1,
            &stats1,
            &branch1,
            w,
            self.gamma_1.as_ref(),
            ctx.keep[0],
            &self.norm2.weight,
            &self.norm2.bias,
            ds,
            &dy1,
            g,
        );
        drop((s1, branch1, dy1));
        // branch₁ = attention(y₀, own bias + shared bias)
        let used = bias.as_ref().or(ctx.shared_bias);
        let dy0 = match &self.rel_pos_bias {
            Some(own) => {
                let mut dbias = Master::zeros(bk, used.expect("own bias").shape());
                let db = Some(&mut dbias);
                let dy0 = self.attn.backward(bk, w, &y0, attn, used, &dbranch1, db, g);
                own.backward(bk, &dbias, g);
                if let Some(dshared) = dshared {
                    bk.add(dshared, &dbias);
                }
                dy0
            }
            None => self.attn.backward(bk, w, &y0, attn, used, &dbranch1, dshared, g),
        };
        (ds, dy0)
    }

    /// Attention probabilities `[B,H,N,N]` of this block, for pictures.
    pub fn attention_probs(
        &self,
        bk: &B,
        cache: &BlockCache<B>,
        shared_bias: Option<&Master<B>>,
    ) -> Master<B> {
        self.attn.probs(bk, &cache.attn, cache.bias.as_ref().or(shared_bias))
    }
}

/// One block between its own first norm and a following one.
pub struct BlockCase {
    instance: &'static str,
    batch: usize,
    grid: (usize, usize),
    config: BeitConfig,
    drop_path: bool,
    follow: bool,
}

impl BlockCase {
    fn build<B: Backend>(&self, bk: &B) -> (Block<B>, Option<RelPosBias<B>>, Option<Norm>, Layout) {
        let mut reg = Registry::new();
        let (config, index) = (&self.config, Arc::new(RelPosIndex::new(bk, self.grid)));
        let shared = config.shared_rel_pos_bias.then(|| {
            let name = "rel_pos_bias.relative_position_bias_table";
            RelPosBias::new(&mut reg, name, config.heads, &index)
        });
        let own = config.rel_pos_bias.then_some(&index);
        let block = Block::new(&mut reg, 0, config, own);
        let next =
            self.follow.then(|| Norm::new(&mut reg, "norm", config.width, config.layer_norm_eps));
        (block, shared, next, reg.finish())
    }

    fn tokens(&self) -> usize {
        self.grid.0 * self.grid.1 + 1
    }
}

impl Case for BlockCase {
    fn name(&self) -> String {
        format!("layer_block/{}", self.instance)
    }

    fn inputs(&self) -> Inputs {
        let bk = crate::cpu::Cpu::<f64>::new();
        let shape = [self.batch, self.tokens(), self.config.width];
        let inputs = Inputs::new(&self.name()).master("s", &shape).params(&self.build(&bk).3, 0.4);
        // Every second sample loses a branch; the others are scaled up.
        let keep = |phase| {
            (0..self.batch).map(|b| if (b + phase) % 2 == 0 { 1.0 / 0.7 } else { 0.0 }).collect()
        };
        if !self.drop_path {
            return inputs;
        }
        inputs.push("keep1", &[self.batch], keep(0), Kind::Master, false).push(
            "keep2",
            &[self.batch],
            keep(1),
            Kind::Master,
            false,
        )
    }

    fn run<B: Backend>(&self, bk: &B, io: &mut Io<B>) {
        let (block, shared, next, _) = self.build(bk);
        let s = io.master("s");
        let keep = self.drop_path.then(|| [io.master("keep1"), io.master("keep2")]);
        let shared_bias = shared.as_ref().map(|t| t.forward(bk, &io.w));
        let ctx = BlockContext {
            shared_bias: shared_bias.as_ref(),
            keep: keep.as_ref().map_or([None, None], |[a, b]| [Some(a), Some(b)]),
            next: next.as_ref(),
        };
        let (y, stats) = block.norm1.forward(bk, &io.w, &s);
        let (stream, y2, cache) = block.forward(bk, &io.w, &s, y, &ctx);
        io.output(bk, &stream.s);
        if let Some(y2) = &y2 {
            io.output(bk, y2);
        }
        if io.wants_backward() {
            let mut dshared = shared_bias.as_ref().map(|b| Master::zeros(bk, b.shape()));
            let ds = io.upstream(bk, 0);
            let dy = y2.is_some().then(|| io.upstream(bk, 1));
            let (mut ds, dy) = block.backward(
                bk,
                &io.w,
                &stream,
                cache,
                &ctx,
                ds,
                dy.as_ref(),
                dshared.as_mut(),
                &mut io.g,
            );
            if let (Some(shared), Some(dshared)) = (&shared, &dshared) {
                shared.backward(bk, dshared, &mut io.g);
            }
            let through_norm = block.norm1.backward(bk, &io.w, &s, &stats, &dy, &mut io.g);
            bk.add(&mut ds, &through_norm);
            io.grad(bk, "s", &ds);
        }
    }

    fn cost(&self) -> Cost {
        let [b, n, c] = [self.batch, self.tokens(), self.config.width].map(|n| n as f64);
        let h = self.config.mlp_width() as f64;
        let forward = b * (8.0 * n * c * c + 4.0 * n * n * c + 4.0 * n * c * h);
        let weights = 4.0 * c * c + 2.0 * c * h;
        Cost {
            flops_forward: forward,
            flops_backward: 2.0 * forward,
            elements_forward: 12.0 * b * n * c + 2.0 * b * n * h + weights,
            elements_backward: 24.0 * b * n * c + 4.0 * b * n * h + 2.0 * weights,
        }
    }
}

/// Every switch in both positions; odd and rectangular grids.
pub fn cases<V: Visitor>(v: &mut V) {
    let config = |width, heads, shared, own, layer_scale| BeitConfig {
        width,
        heads,
        shared_rel_pos_bias: shared,
        rel_pos_bias: own,
        layer_scale,
        ..BeitConfig::test()
    };
    for (instance, batch, grid, config, drop_path, follow) in [
        ("small", 1, (1, 1), config(2, 1, true, false, 0.1), false, true),
        ("drop_path", 3, (2, 3), config(6, 3, true, false, 0.1), true, true),
        ("own_table", 2, (3, 1), config(4, 2, false, true, 0.1), true, false),
        ("both_tables", 1, (2, 2), config(4, 2, true, true, 0.0), false, true),
        ("plain", 2, (1, 4), config(6, 2, false, false, 0.0), false, false),
    ] {
        v.visit(BlockCase { instance, batch, grid, config, drop_path, follow });
    }
}
