//! Residual block of the discrete VAE (`dall_e/encoder.py`, `dall_e/decoder.py`):
//! v' = id(v) + γ r(v), where r is four convolutions, each behind a ReLU, and id is the identity or,
//! where the width changes, a 1×1 convolution of v itself.

use crate::ops::Backend;
use crate::ops::case::{Case, Cost, Inputs, Io, Rounding, Visitor};
use crate::ops::conv2d::Conv;
use crate::params::{Ctx, Grad, Layout, Registry};
use crate::storage::Storage;
use crate::tensor::{Master, Tensor};

/// Kernels of r: 3, 3, 3, 1 in the encoder and 1, 3, 3, 3 in the decoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Image to logits.
    Encoder,
    /// Codes to image.
    Decoder,
}

/// Parameters of one block.
#[derive(Clone, Debug)]
pub struct ResBlock {
    id_path: Option<Conv>,
    convs: [Conv; 4],
    /// γ = 1/(number of blocks in the network)², a constant; 1/64 in the original.
    gain: f64,
}

/// What backward reads: the input and what the first three convolutions put out, before the ReLUs.
pub struct ResBlockCache<B: Storage> {
    inputs: [Tensor<B>; 4], // [B,H,W,in], [B,H,W,out/4] three times
}

impl ResBlock {
    /// `name.id_path` and `name.res_path.conv_1..4`.
    pub fn new(
        reg: &mut Registry,
        name: &str,
        (input, output): (usize, usize),
        side: Side,
        gain: f64,
    ) -> Self {
        let hidden = output / 4;
        let id_path = (input != output)
            .then(|| Conv::new(reg, &format!("{name}.id_path"), (input, output), 1, false));
        let kernels = match side {
            Side::Encoder => [3, 3, 3, 1],
            Side::Decoder => [1, 3, 3, 3],
        };
        let widths = [input, hidden, hidden, hidden, output];
        let convs = [0, 1, 2, 3].map(|i| {
            let name = format!("{name}.res_path.conv_{}", i + 1);
            Conv::new(reg, &name, (widths[i], widths[i + 1]), kernels[i], true)
        });
        Self { id_path, convs, gain }
    }

    /// v `[B,H,W,in]` -> `[B,H,W,out]`.
    pub fn forward<B: Backend>(&self, ctx: Ctx<B>, v: Master<B>) -> (Master<B>, ResBlockCache<B>) {
        let x = ctx.bk.to_elem(&v, 1.0);
        let id = match &self.id_path {
            Some(conv) => {
                drop(v);
                conv.forward_residual(ctx, &x, 1.0, None)
            }
            None => v,
        };
        let h1 = self.convs[0].forward(ctx, &x);
        let h2 = self.convs[1].forward(ctx, &h1);
        let h3 = self.convs[2].forward(ctx, &h2);
        let v = self.convs[3].forward_residual(ctx, &h3, self.gain, Some(id));
        (v, ResBlockCache { inputs: [x, h1, h2, h3] })
    }

    /// dv' -> dv.
    pub fn backward<B: Backend>(
        &self,
        grad: &mut Grad<B>,
        cache: ResBlockCache<B>,
        dv: Master<B>,
    ) -> Master<B> {
        let bk = grad.ctx.bk;
        // v' = id + γ r
        let mut dr = bk.to_elem(&dv, self.gain);
        for (conv, x) in self.convs.iter().zip(&cache.inputs).rev() {
            dr = conv.backward(grad, x, &dr);
        }
        let mut dv = match &self.id_path {
            Some(conv) => {
                let dx = conv.backward(grad, &cache.inputs[0], &bk.to_elem(&dv, 1.0));
                let mut sum = Master::zeros(bk, dx.shape());
                bk.accumulate(&mut sum, &dx);
                sum
            }
            None => dv,
        };
        bk.accumulate(&mut dv, &dr);
        dv
    }
}

/// The block at one size.
pub struct ResBlockCase {
    instance: &'static str,
    shape: [usize; 4],
    output: usize,
    side: Side,
}

impl ResBlockCase {
    fn layer(&self) -> (ResBlock, Layout) {
        let mut reg = Registry::new();
        let layer = ResBlock::new(&mut reg, "block", (self.shape[3], self.output), self.side, 0.25);
        (layer, reg.finish())
    }
}

impl Case for ResBlockCase {
    fn name(&self) -> String {
        format!("layer_resblock/{}", self.instance)
    }

    fn inputs(&self) -> Inputs {
        Inputs::new(&self.name()).master("v", &self.shape).params(&self.layer().1, 0.5)
    }

    fn run<B: Backend>(&self, bk: &B, io: &mut Io<B>) {
        let (layer, v) = (self.layer().0, io.master("v"));
        let (v, cache) = layer.forward(Ctx::new(bk, &io.w), v);
        io.output(bk, &v);
        if io.wants_backward() {
            let dv = io.upstream(bk, 0);
            let dv = layer.backward(&mut io.grad_of(bk), cache, dv);
            io.grad(bk, "v", &dv);
        }
    }

    fn rounding(&self) -> Rounding {
        Rounding::Chain
    }

    fn cost(&self) -> Cost {
        let weights = self.layer().1.iter().map(|p| p.len()).sum::<usize>() as f64;
        let [b, h, w, c] = self.shape.map(|n| n as f64);
        Cost {
            flops_forward: 2.0 * b * h * w * weights,
            flops_backward: 4.0 * b * h * w * weights,
            elements_forward: b * h * w * (c + 2.0 * self.output as f64) + weights,
            elements_backward: 2.0 * b * h * w * (c + 2.0 * self.output as f64) + 2.0 * weights,
        }
    }
}

/// Both sides, with and without a change of width, odd and rectangular.
pub fn cases<V: Visitor>(v: &mut V) {
    for (instance, shape, output, side) in [
        ("encoder_identity", [1, 1, 1, 4], 4, Side::Encoder),
        ("encoder_wider", [2, 3, 2, 3], 8, Side::Encoder),
        ("decoder_identity", [1, 4, 3, 4], 4, Side::Decoder),
        ("decoder_narrower", [2, 2, 5, 5], 4, Side::Decoder),
    ] {
        v.visit(ResBlockCase { instance, shape, output, side });
    }
}
