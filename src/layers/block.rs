//! Transformer block, pre-norm, with layer scale and drop path (`modeling_finetune.py`, class Block):
//!
//! ```text
//! s₁ = s₀ + keep₁ γ₁ ⊙ attention(LN₁(s₀))
//! s₂ = s₁ + keep₂ γ₂ ⊙ mlp(LN₂(s₁))
//! ```
//!
//! Each residual sum is fused with the norm that follows it. The norm after s₂ belongs to the next
//! block (or is the model's final norm), so a block takes LN₁(s₀) as its input and returns s₂ with
//! the next norm of it; where no norm follows, `next` is `None`.

mod case;

pub use case::*;

use crate::layers::attention::{Attention, AttentionCache};
use crate::layers::mlp::{Mlp, MlpCache};
use crate::layers::norm::{Norm, Stream};
use crate::layers::rel_pos_bias::RelPosBias;
use crate::models::config::BeitConfig;
use crate::ops::Backend;
use crate::ops::rel_pos_bias::RelPosIndex;
use crate::params::{Decay, Init, Param, Params, Registry};
use crate::storage::Storage;
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

/// What backward reads.
pub struct BlockCache<B: Storage> {
    y0: Tensor<B>, // [B,N,C], LN₁(s₀), input of attention
    attn: AttentionCache<B>,
    bias: Option<Master<B>>, // [H,N,N], the block's own, with the shared one added
    branch1: Tensor<B>,      // [B,N,C]
    s1: Stream<B>,           // [B,N,C]
    y1: Tensor<B>,           // [B,N,C], LN₂(s₁), input of the MLP
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
        // A constant of 0 means that the parameters do not exist.
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
        let (gamma_1, gamma_2) = (self.gamma_1.as_ref(), self.gamma_2.as_ref());
        let (s1, y1) = self.norm2.forward_residual(bk, w, s, &branch1, gamma_1, ctx.keep[0]);
        let (branch2, mlp) = self.mlp.forward(bk, w, &y1);
        let (stream, y2) = match ctx.next {
            Some(next) => {
                let (s2, y2) = next.forward_residual(bk, w, &s1.s, &branch2, gamma_2, ctx.keep[1]);
                (s2, Some(y2))
            }
            None => {
                let s = s1.s.duplicate(bk);
                let s2 = bk.residual_forward(s, &branch2, w, gamma_2, ctx.keep[1]);
                (Stream { s: s2, stats: None }, None)
            }
        };
        (stream, y2, BlockCache { y0: y, attn, bias, branch1, s1, y1, mlp, branch2 })
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
        let BlockCache { y0, attn, bias, branch1, s1, y1, mlp, branch2 } = cache;
        let (gamma_1, gamma_2) = (self.gamma_1.as_ref(), self.gamma_2.as_ref());
        // s₂ = s₁ + keep₂ γ₂ ⊙ branch₂, and the norm of s₂ where one follows
        let (ds, dbranch2) = match (ctx.next, dy) {
            (Some(next), Some(dy)) => {
                next.backward_residual(bk, w, stream, &branch2, gamma_2, ctx.keep[1], ds, dy, g)
            }
            (None, None) => {
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
        let (ds, dbranch1) =
            self.norm2.backward_residual(bk, w, &s1, &branch1, gamma_1, ctx.keep[0], ds, &dy1, g);
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
