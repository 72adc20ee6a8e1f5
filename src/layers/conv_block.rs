//! Convolution without bias, batch norm, ReLU: what the heads of segmentation are made of (mmcv's ConvModule).

use crate::ops::Backend;
use crate::ops::batch_norm::{BatchNorm, BatchStats};
use crate::ops::case::{Case, Cost, Inputs, Io, Rounding, Visitor};
use crate::ops::conv2d::Conv;
use crate::ops::linear::Linear;
use crate::params::{Ctx, Decay, Form, Grad, Init, Registry};
use crate::storage::Storage;
use crate::tensor::Tensor;

/// y = relu(norm(conv(x))).
#[derive(Clone, Debug)]
pub struct ConvBlock {
    conv: Kernel,
    /// The batch norm.
    pub norm: BatchNorm,
}

#[derive(Clone, Debug)]
enum Kernel {
    /// 1×1: a matrix product of all pixels.
    Pixel(Linear),
    /// Odd side, zeros around the image.
    Window(Conv),
}

/// What backward reads, besides x and y.
pub struct ConvBlockCache<B: Storage> {
    z: Tensor<B>, // [B,H,W,O], before the norm
    /// Statistics of the norm.
    pub stats: BatchStats<B>,
}

impl ConvBlock {
    /// `name.conv.weight` for `channels` (I, O) and `name.bn`. Weights start as mmcv's do, Kaiming-normal over the
    /// outputs' fan: deviation √(2 / (O side²)).
    pub fn new(
        reg: &mut Registry,
        name: &str,
        (input, output): (usize, usize),
        side: usize,
    ) -> Self {
        let weight = format!("{name}.conv.weight");
        let init = Init::Normal((2.0 / (output * side * side) as f64).sqrt());
        let conv = if side == 1 {
            Kernel::Pixel(pixel_linear(reg, &weight, (input, output), init))
        } else {
            Kernel::Window(Conv::without_bias(reg, &weight, (input, output), side, init))
        };
        Self { conv, norm: BatchNorm::new(reg, &format!("{name}.bn"), output) }
    }

    /// x `[B,H,W,I]` -> `[B,H,W,O]`, by the batch's statistics where `train`.
    pub fn forward<B: Backend>(
        &self,
        ctx: Ctx<B>,
        x: &Tensor<B>,
        train: bool,
    ) -> (Tensor<B>, ConvBlockCache<B>) {
        let z = match &self.conv {
            Kernel::Pixel(linear) => linear.forward(ctx, x),
            Kernel::Window(conv) => conv.forward(ctx, x),
        };
        let (n, stats) = self.norm.forward(ctx, &z, train);
        (ctx.bk.relu_forward(&n), ConvBlockCache { z, stats })
    }

    /// dy -> dx; `y` is what forward gave.
    pub fn backward<B: Backend>(
        &self,
        grad: &mut Grad<B>,
        (x, y): (&Tensor<B>, &Tensor<B>),
        cache: &ConvBlockCache<B>,
        dy: &Tensor<B>,
    ) -> Tensor<B> {
        // y = relu(n): n > 0 where y > 0.
        let dn = grad.ctx.bk.relu_backward(y, dy);
        // n = norm(z)
        let dz = self.norm.backward(grad, &cache.z, &cache.stats, &dn);
        // z = conv(x)
        match &self.conv {
            Kernel::Pixel(linear) => linear.backward(grad, x, &dz),
            Kernel::Window(conv) => conv.backward(grad, x, &dz),
        }
    }
}

/// A 1×1 convolution without bias as a linear layer; files hold it as a convolution.
pub fn pixel_linear(
    reg: &mut Registry,
    weight: &str,
    (input, output): (usize, usize),
    init: Init,
) -> Linear {
    let mut weight = reg.add_as(weight, &[output, 1, 1, input], Decay::Yes, init, Form::Kernel);
    weight.shape = vec![output, input];
    Linear { weight, bias: None }
}

/// The layer at one size.
pub struct ConvBlockCase {
    instance: &'static str,
    shape: [usize; 4],
    output: usize,
    side: usize,
    train: bool,
}

impl ConvBlockCase {
    fn layer(&self) -> (ConvBlock, crate::params::Layout) {
        let mut reg = Registry::new();
        let layer = ConvBlock::new(&mut reg, "block", (self.shape[3], self.output), self.side);
        (layer, reg.finish())
    }
}

impl Case for ConvBlockCase {
    fn name(&self) -> String {
        format!("layer_conv_block/{}", self.instance)
    }

    fn inputs(&self) -> Inputs {
        Inputs::new(&self.name()).elem("x", &self.shape).params(&self.layer().1, 0.5)
    }

    fn run<B: Backend>(&self, bk: &B, io: &mut Io<B>) {
        let (layer, x) = (self.layer().0, io.elem("x"));
        let (y, cache) = layer.forward(Ctx::new(bk, &io.w), &x, self.train);
        io.output(bk, &y);
        if io.wants_backward() {
            let dy = io.upstream(bk, 0);
            let dx = layer.backward(&mut io.grad_of(bk), (&x, &y), &cache, &dy);
            io.grad(bk, "x", &dx);
        }
    }

    fn rounding(&self) -> Rounding {
        Rounding::Chain
    }

    fn cost(&self) -> Cost {
        let [b, h, w, c] = self.shape.map(|n| n as f64);
        let (o, k) = (self.output as f64, (self.side * self.side) as f64);
        let flops = 2.0 * b * h * w * c * o * k;
        Cost {
            flops_forward: flops,
            flops_backward: 2.0 * flops,
            elements_forward: b * h * w * (c + 4.0 * o) + c * o * k,
            elements_backward: 2.0 * (b * h * w * (c + 4.0 * o) + c * o * k),
        }
    }
}

/// Both kernels, trained and not.
pub fn cases<V: Visitor>(v: &mut V) {
    for (instance, shape, output, side, train) in [
        ("pixel", [2, 3, 2, 3], 4, 1, true),
        ("window", [2, 3, 4, 2], 3, 3, true),
        ("evaluated", [2, 3, 4, 2], 3, 3, false),
    ] {
        v.visit(ConvBlockCase { instance, shape, output, side, train });
    }
}
