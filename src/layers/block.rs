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
use crate::layers::position::Positions;
use crate::ops::Backend;
use crate::ops::layer_norm::Norm;
use crate::ops::rel_pos_bias::RelPosBias;
use crate::ops::residual::Branch;
use crate::ops::residual_norm::Stream;
use crate::params::{Ctx, Decay, Grad, Init, Param, Registry};
use crate::storage::Storage;
use crate::tensor::{Master, Tensor};

/// What a block is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct BlockConfig {
    /// Width C of the residual stream.
    pub width: usize,
    /// Attention heads H.
    pub heads: usize,
    /// Hidden width of the MLP.
    pub mlp_width: usize,
    /// The grid of a bias table of its own, where it has one.
    pub rel_pos_bias: Option<(usize, usize)>,
    /// Initial value of `gamma_1` and `gamma_2`; at 0 these parameters do not exist.
    pub layer_scale: f64,
    /// Epsilon of both norms.
    pub layer_norm_eps: f64,
}

/// Parameters of one block.
pub struct Block {
    /// The norm of its input.
    pub norm1: Norm,
    attn: Attention,
    /// The block's own bias table, where the model does not share one.
    rel_pos_bias: Option<RelPosBias>,
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
pub struct Beside<'a, B: Storage> {
    /// What the grid of this call makes of bias tables.
    pub positions: &'a Positions<B>,
    /// Bias `[H,N,N]` shared by all blocks.
    pub shared_bias: Option<&'a Master<B>>,
    /// Drop-path factors `[B]` of the two branches: 0 or 1/(1 − p).
    pub keep: [Option<&'a Master<B>>; 2],
    /// The norm that follows the block.
    pub next: Option<&'a Norm>,
}

impl Block {
    /// `blocks.i.*`.
    pub fn new(reg: &mut Registry, i: usize, config: &BlockConfig) -> Self {
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
        let rel_pos_bias =
            config.rel_pos_bias.map(|grid| RelPosBias::new(reg, &table, heads, grid));
        let attn = Attention::new(reg, i, c, heads);
        let norm2 = Norm::new(reg, &name("norm2"), c, eps);
        let mlp = Mlp::new(reg, i, c, config.mlp_width);
        Self { norm1, attn, rel_pos_bias, gamma_1, norm2, mlp, gamma_2 }
    }

    fn first<'a, B: Storage>(
        &'a self,
        out: &'a Tensor<B>,
        beside: &Beside<'a, B>,
    ) -> Branch<'a, B> {
        Branch { out, gamma: self.gamma_1.as_ref(), keep: beside.keep[0] }
    }

    fn second<'a, B: Storage>(
        &'a self,
        out: &'a Tensor<B>,
        beside: &Beside<'a, B>,
    ) -> Branch<'a, B> {
        Branch { out, gamma: self.gamma_2.as_ref(), keep: beside.keep[1] }
    }

    /// s `[B,N,C]` and y = LN₁(s) -> the next stream and, where a norm follows, the norm of it.
    pub fn forward<B: Backend>(
        &self,
        ctx: Ctx<B>,
        s: &Master<B>,
        y: Tensor<B>,
        beside: &Beside<B>,
    ) -> (Stream<B>, Option<Tensor<B>>, BlockCache<B>) {
        let Ctx { bk, w } = ctx;
        let bias = self.rel_pos_bias.as_ref().map(|own| {
            let mut bias = beside.positions.bias(ctx, own);
            if let Some(shared) = beside.shared_bias {
                bk.add(&mut bias, shared);
            }
            bias
        });
        let used = bias.as_ref().or(beside.shared_bias);
        let (branch1, attn) = self.attn.forward(ctx, &y, used);
        let (s1, y1) = bk.residual_norm_forward(s, &self.first(&branch1, beside), w, &self.norm2);
        let (branch2, mlp) = self.mlp.forward(ctx, &y1);
        let second = self.second(&branch2, beside);
        let (stream, y2) = match beside.next {
            Some(next) => {
                let (s2, y2) = bk.residual_norm_forward(&s1.s, &second, w, next);
                (s2, Some(y2))
            }
            None => {
                let s2 = bk.residual_forward(s1.s.duplicate(bk), &second, w);
                (Stream { s: s2, stats: None }, None)
            }
        };
        (stream, y2, BlockCache { y0: y, attn, bias, branch1, s1, y1, mlp, branch2 })
    }

    /// `upstream`: the gradient of s₂ from beyond the following norm, and that of the norm's output.
    /// Returns the gradient of s₀ (without the part through LN₁) and of LN₁(s₀).
    pub fn backward<B: Backend>(
        &self,
        grad: &mut Grad<B>,
        stream: &Stream<B>,
        cache: BlockCache<B>,
        beside: &Beside<B>,
        upstream: (Master<B>, Option<&Tensor<B>>),
        dshared: Option<&mut Master<B>>,
    ) -> (Master<B>, Tensor<B>) {
        let BlockCache { y0, attn, bias, branch1, s1, y1, mlp, branch2 } = cache;
        let Ctx { bk, w } = grad.ctx;
        // s₂ = s₁ + keep₂ γ₂ ⊙ branch₂, and the norm of s₂ where one follows
        let second = self.second(&branch2, beside);
        let (ds, dbranch2) = match (beside.next, upstream) {
            (Some(next), (ds, Some(dy))) => {
                bk.residual_norm_backward(stream, &second, w, next, (ds, dy), grad.g)
            }
            (None, (ds, None)) => {
                let dbranch2 = bk.residual_backward(&second, w, &ds, grad.g);
                (ds, dbranch2)
            }
            _ => panic!("block: a gradient of the following norm if and only if there is one"),
        };
        drop(branch2);
        // branch₂ = mlp(y₁)
        let dy1 = self.mlp.backward(grad, &y1, mlp, &dbranch2);
        drop((y1, dbranch2));
        // s₁ = s₀ + keep₁ γ₁ ⊙ branch₁, y₁ = LN₂(s₁)
        let (first, upstream) = (self.first(&branch1, beside), (ds, &dy1));
        let (ds, dbranch1) =
            bk.residual_norm_backward(&s1, &first, w, &self.norm2, upstream, grad.g);
        drop((s1, branch1, dy1));
        // branch₁ = attention(y₀, own bias + shared bias)
        let used = bias.as_ref().or(beside.shared_bias);
        let dy0 = match &self.rel_pos_bias {
            Some(own) => {
                let mut dbias = Master::zeros(bk, used.expect("own bias").shape());
                let dy0 = self.attn.backward(grad, &y0, attn, used, &dbranch1, Some(&mut dbias));
                beside.positions.bias_backward(grad, own, &dbias);
                if let Some(dshared) = dshared {
                    bk.add(dshared, &dbias);
                }
                dy0
            }
            None => self.attn.backward(grad, &y0, attn, used, &dbranch1, dshared),
        };
        (ds, dy0)
    }

    /// Attention probabilities `[B,H,N,N]` of this block, for pictures.
    pub fn attention_probs<B: Backend>(
        &self,
        bk: &B,
        cache: &BlockCache<B>,
        shared_bias: Option<&Master<B>>,
    ) -> Master<B> {
        self.attn.probs(bk, &cache.attn, cache.bias.as_ref().or(shared_bias))
    }
}
