//! Self-attention of a block: packed q, k, v projection, attention with an additive bias, output
//! projection (`modeling_finetune.py`, class Attention).

use crate::backend::{Backend, Storage};
use crate::case::{Case, Cost, Inputs, Io, Visitor};
use crate::layers::linear::Linear;
use crate::layers::{TRUNC_NORMAL, depth_scaled};
use crate::params::{Decay, Form, Init, Layout, Param, Params, Registry};
use crate::tensor::{Master, Tensor};

/// x -> proj(softmax(q kᵀ/√d + bias) v).
#[derive(Clone, Debug)]
pub struct Attention {
    heads: usize,
    /// `[3C,C]`: rows q, k, v, each head-major; no bias of its own in the files.
    qkv: Param,
    /// `(q, 0, v)` `[3C]`. `Deviation:` ViT has a bias of the key too, which adds the same to every score
    /// of a query and cancels in the softmax.
    qkv_bias: Param,
    proj: Linear,
}

/// What backward reads.
pub struct AttentionCache<B: Storage> {
    /// Packed q, k, v `[B,N,3C]`; kept public because pictures and fixtures want probabilities.
    pub qkv: Tensor<B>,
    out: Tensor<B>, // [B,N,C], heads concatenated, before the projection
    lse: Master<B>, // [B,H,N]
}

impl Attention {
    /// `blocks.i.attn.*` with `heads` heads of size `width / heads`.
    pub fn new(reg: &mut Registry, block: usize, width: usize, heads: usize) -> Self {
        let name = |part: &str| format!("blocks.{block}.attn.{part}");
        let zero = Init::Constant(0.0);
        let qkv_bias = name("qkv_bias");
        Self {
            heads,
            qkv_bias: reg.add_as(qkv_bias, &[3 * width], Decay::No, zero, Form::QkvBias),
            qkv: reg.add(name("qkv.weight"), &[3 * width, width], Decay::Yes, TRUNC_NORMAL),
            proj: Linear::new(reg, &name("proj"), width, width, depth_scaled(block)),
        }
    }

    /// x `[B,N,C]`, bias `[H,N,N]` -> `[B,N,C]`.
    pub fn forward<B: Backend>(
        &self,
        bk: &B,
        w: &Params<B>,
        x: &Tensor<B>,
        bias: Option<&Master<B>>,
    ) -> (Tensor<B>, AttentionCache<B>) {
        let qkv = bk.linear_forward(x, w, &self.qkv, Some(&self.qkv_bias)); // [B,N,3C]
        let (out, lse) = bk.attention_forward(&qkv, bias, self.heads); // [B,N,C]
        let y = self.proj.forward(bk, w, &out);
        (y, AttentionCache { qkv, out, lse })
    }

    /// dy `[B,N,C]` -> dx `[B,N,C]`; adds to `dbias` `[H,N,N]`.
    #[allow(clippy::too_many_arguments)]
    pub fn backward<B: Backend>(
        &self,
        bk: &B,
        w: &Params<B>,
        x: &Tensor<B>,
        cache: AttentionCache<B>,
        bias: Option<&Master<B>>,
        dy: &Tensor<B>,
        dbias: Option<&mut Master<B>>,
        g: &mut Params<B>,
    ) -> Tensor<B> {
        let AttentionCache { qkv, out, lse } = cache;
        // y = proj(out)
        let dout = self.proj.backward(bk, w, &out, dy, g);
        // out = softmax(q kᵀ/√d + bias) v
        let dqkv = bk.attention_backward(&qkv, bias, &out, &lse, &dout, self.heads, dbias);
        drop((qkv, out, dout));
        // qkv = x Wᵀ + (q, 0, v)
        let dx = bk.linear_backward(x, w, &self.qkv, Some(&self.qkv_bias), &dqkv, g);
        // The key third is no parameter. Its gradient is 0 but for rounding, and Adam would turn
        // that rounding into full steps.
        let key = self.qkv_bias.range.start + self.qkv_bias.len() / 3;
        bk.clear_range(&mut g.master, key..key + self.qkv_bias.len() / 3);
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
pub struct AttentionCase {
    instance: &'static str,
    batch: usize,
    tokens: usize,
    width: usize,
    heads: usize,
    bias: bool,
}

impl AttentionCase {
    fn layer(&self) -> (Attention, Layout) {
        let mut reg = Registry::new();
        let layer = Attention::new(&mut reg, 0, self.width, self.heads);
        (layer, reg.finish())
    }
}

impl Case for AttentionCase {
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
        let (y, cache) = layer.forward(bk, &io.w, &x, bias.as_ref());
        io.output(bk, &y);
        if io.wants_backward() {
            let dy = io.upstream(bk, 0);
            let mut dbias = bias.as_ref().map(|b| Master::zeros(bk, b.shape()));
            let (b, db) = (bias.as_ref(), dbias.as_mut());
            let dx = layer.backward(bk, &io.w, &x, cache, b, &dy, db, &mut io.g);
            io.grad(bk, "x", &dx);
            if let Some(dbias) = dbias {
                io.grad(bk, "bias", &dbias);
            }
        }
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
        v.visit(AttentionCase { instance, batch, tokens, width, heads, bias });
    }
}
