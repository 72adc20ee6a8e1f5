//! Self-attention of a block: packed q, k, v projection, attention with an additive bias, output
//! projection (`modeling_finetune.py`, class Attention).

use crate::layers::{TRUNC_NORMAL, depth_scaled};
use crate::ops::Backend;
use crate::ops::attention::Attended;
use crate::ops::case::{Case, Cost, Inputs, Io, Rounding, Visitor};
use crate::ops::linear::Linear;
use crate::params::{Ctx, Decay, Form, Grad, Init, Layout, Registry};
use crate::storage::Storage;
use crate::tensor::{Master, Tensor};

/// x -> proj(softmax(q kᵀ/√d + bias) v).
#[derive(Clone, Debug)]
pub struct Attention {
    heads: usize,
    /// `[3C,C]`: rows q, k, v, each head-major. The bias `[3C]` is `(q, 0, v)`. `Deviation:` ViT has a
    /// bias of the key too, which adds the same to every score of a query and cancels in the softmax.
    qkv: Linear,
    proj: Linear,
}

/// What backward reads.
pub struct AttentionCache<B: Storage> {
    /// Packed q, k, v `[B,N,3C]`; kept public because pictures and fixtures want probabilities.
    pub qkv: Tensor<B>,
    attended: Attended<B>, // out [B,N,C], heads concatenated, before the projection
}

impl Attention {
    /// `blocks.i.attn.*` with `heads` heads of size `width / heads`.
    pub fn new(reg: &mut Registry, block: usize, width: usize, heads: usize) -> Self {
        let name = |part: &str| format!("blocks.{block}.attn.{part}");
        let zero = Init::Constant(0.0);
        let qkv_bias = name("qkv_bias");
        let bias = reg.add_as(qkv_bias, &[3 * width], Decay::No, zero, Form::QkvBias);
        let shape = [3 * width, width];
        let weight = reg.add(name("qkv.weight"), &shape, Decay::Yes, TRUNC_NORMAL);
        Self {
            heads,
            qkv: Linear { weight, bias: Some(bias) },
            proj: Linear::new(reg, &name("proj"), width, width, depth_scaled(block)),
        }
    }

    /// x `[B,N,C]`, bias `[H,N,N]` -> `[B,N,C]`.
    pub fn forward<B: Backend>(
        &self,
        ctx: Ctx<B>,
        x: &Tensor<B>,
        bias: Option<&Master<B>>,
    ) -> (Tensor<B>, AttentionCache<B>) {
        let qkv = self.qkv.forward(ctx, x); // [B,N,3C]
        let attended = ctx.bk.attention_forward(&qkv, bias, self.heads); // [B,N,C]
        let y = self.proj.forward(ctx, &attended.out);
        (y, AttentionCache { qkv, attended })
    }

    /// dy `[B,N,C]` -> dx `[B,N,C]`; adds to `dbias` `[H,N,N]`.
    pub fn backward<B: Backend>(
        &self,
        grad: &mut Grad<B>,
        x: &Tensor<B>,
        cache: AttentionCache<B>,
        bias: Option<&Master<B>>,
        dy: &Tensor<B>,
        dbias: Option<&mut Master<B>>,
    ) -> Tensor<B> {
        let (AttentionCache { qkv, attended }, bk) = (cache, grad.ctx.bk);
        // y = proj(out)
        let dout = self.proj.backward(grad, &attended.out, dy);
        // out = softmax(q kᵀ/√d + bias) v
        let dqkv = bk.attention_backward(&qkv, bias, &attended, &dout, self.heads, dbias);
        drop((qkv, attended, dout));
        // qkv = x Wᵀ + (q, 0, v)
        let dx = self.qkv.backward(grad, x, &dqkv);
        // The key third is no parameter. Its gradient is 0 but for rounding, and Adam would turn
        // that rounding into full steps.
        let bias = self.qkv.expect_bias("attention");
        let key = bias.range.start + bias.len() / 3;
        bk.clear_range(&mut grad.g.master, key..key + bias.len() / 3);
        dx
    }

    /// Probabilities `[B,H,N,N]`, for pictures.
    pub fn probs<B: Backend>(
        &self,
        bk: &B,
        cache: &AttentionCache<B>,
        bias: Option<&Master<B>>,
    ) -> Master<B> {
        bk.attention_probs(&cache.qkv, bias, self.heads)
    }
}

/// The layer at one size.
pub struct AttentionLayerCase {
    instance: &'static str,
    batch: usize,
    tokens: usize,
    width: usize,
    heads: usize,
    bias: bool,
}

impl AttentionLayerCase {
    fn layer(&self) -> (Attention, Layout) {
        let mut reg = Registry::new();
        let layer = Attention::new(&mut reg, 0, self.width, self.heads);
        (layer, reg.finish())
    }
}

impl Case for AttentionLayerCase {
    fn name(&self) -> String {
        format!("layer_attention/{}", self.instance)
    }

    fn inputs(&self) -> Inputs {
        let (n, h) = (self.tokens, self.heads);
        let inputs = Inputs::new(&self.name())
            .elem("x", &[self.batch, n, self.width])
            .params(&self.layer().1, 0.5);
        if self.bias { inputs.master("bias", &[h, n, n]) } else { inputs }
    }

    fn run<B: Backend>(&self, bk: &B, io: &mut Io<B>) {
        let (layer, x) = (self.layer().0, io.elem("x"));
        let bias = self.bias.then(|| io.master("bias"));
        let (y, cache) = layer.forward(Ctx::new(bk, &io.w), &x, bias.as_ref());
        io.output(bk, &y);
        if io.wants_backward() {
            let dy = io.upstream(bk, 0);
            let mut dbias = bias.as_ref().map(|b| Master::zeros(bk, b.shape()));
            let (b, db) = (bias.as_ref(), dbias.as_mut());
            let dx = layer.backward(&mut io.grad_of(bk), &x, cache, b, &dy, db);
            io.grad(bk, "x", &dx);
            if let Some(dbias) = dbias {
                io.grad(bk, "bias", &dbias);
            }
        }
    }

    fn rounding(&self) -> Rounding {
        Rounding::Chain
    }

    fn cost(&self) -> Cost {
        let [b, n, c] = [self.batch, self.tokens, self.width].map(|n| n as f64);
        let forward = b * (8.0 * n * c * c + 4.0 * n * n * c);
        Cost {
            flops_forward: forward,
            flops_backward: 2.0 * forward,
            elements_forward: 6.0 * b * n * c + 4.0 * c * c,
            elements_backward: 12.0 * b * n * c + 8.0 * c * c,
        }
    }
}

/// One token, odd sizes, no bias, and more than one piece.
pub fn cases<V: Visitor>(v: &mut V) {
    for (instance, batch, tokens, width, heads, bias) in [
        ("one_token", 1, 1, 2, 1, true),
        ("odd", 2, 5, 6, 3, true),
        ("no_bias", 3, 4, 4, 2, false),
        ("batch", 17, 3, 8, 2, true),
    ] {
        v.visit(AttentionLayerCase { instance, batch, tokens, width, heads, bias });
    }
}
