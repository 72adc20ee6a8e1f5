//! Transposed convolution of 2×2 and stride 2: `y[b,2i+u,2j+v,o] = Σ_c W[(u,v,o),c] x[b,i,j,c] + bias[o]`.
//!
//! Its taps do not overlap, so it is a linear layer of 4 O outputs, then channels to pixels
//! ([`crate::ops::pixel_shuffle`]). Source: `torch.nn.ConvTranspose2d`, with its initialisation.

use crate::ops::Backend;
use crate::ops::case::{Case, Cost, Inputs, Io, Rounding, Visitor};
use crate::ops::linear::Linear;
use crate::params::{Ctx, Decay, Form, Grad, Init, Layout, Param, Registry};
use crate::tensor::Tensor;

/// Parameters of one transposed convolution.
#[derive(Clone, Debug)]
pub struct Deconv {
    /// W `[4O,I]`, rows in the order (u, v, o), decayed; files have it as `[I,O,2,2]`. Without bias.
    pub weight: Linear,
    /// `[O]`, not decayed.
    pub bias: Param,
}

impl Deconv {
    /// `name.weight` and `name.bias`, both uniform within ±1/√(4 O).
    pub fn new(reg: &mut Registry, name: &str, input: usize, output: usize) -> Self {
        let init = Init::Uniform(1.0 / ((4 * output) as f64).sqrt());
        let (weight, shape) = (format!("{name}.weight"), [4 * output, input]);
        let weight = reg.add_as(weight, &shape, Decay::Yes, init, Form::Deconv);
        let bias = reg.add(format!("{name}.bias"), &[output], Decay::No, init);
        Self { weight: Linear { weight, bias: None }, bias }
    }

    /// x `[B,H,W,I]` -> `[B,2H,2W,O]`.
    pub fn forward<B: Backend>(&self, ctx: Ctx<B>, x: &Tensor<B>) -> Tensor<B> {
        let h = self.weight.forward(ctx, x);
        ctx.bk.pixel_shuffle_forward(&h, ctx.w, &self.bias)
    }

    /// dy `[B,2H,2W,O]` -> dx `[B,H,W,I]`.
    pub fn backward<B: Backend>(
        &self,
        grad: &mut Grad<B>,
        x: &Tensor<B>,
        dy: &Tensor<B>,
    ) -> Tensor<B> {
        let dh = grad.ctx.bk.pixel_shuffle_backward(dy, &self.bias, grad.g);
        self.weight.backward(grad, x, &dh)
    }
}

/// The layer at one size.
pub struct DeconvCase {
    instance: &'static str,
    shape: [usize; 4],
    output: usize,
}

impl DeconvCase {
    fn layer(&self) -> (Deconv, Layout) {
        let mut reg = Registry::new();
        let layer = Deconv::new(&mut reg, "deconv", self.shape[3], self.output);
        (layer, reg.finish())
    }
}

impl Case for DeconvCase {
    fn name(&self) -> String {
        format!("layer_deconv/{}", self.instance)
    }

    fn inputs(&self) -> Inputs {
        Inputs::new(&self.name()).elem("x", &self.shape).params(&self.layer().1, 0.5)
    }

    fn run<B: Backend>(&self, bk: &B, io: &mut Io<B>) {
        let (layer, x) = (self.layer().0, io.elem("x"));
        let y = layer.forward(Ctx::new(bk, &io.w), &x);
        io.output(bk, &y);
        if io.wants_backward() {
            let dy = io.upstream(bk, 0);
            let dx = layer.backward(&mut io.grad_of(bk), &x, &dy);
            io.grad(bk, "x", &dx);
        }
    }

    fn rounding(&self) -> Rounding {
        Rounding::Chain
    }

    fn cost(&self) -> Cost {
        let [b, h, w, i] = self.shape.map(|n| n as f64);
        let (pixels, o) = (b * h * w, 4.0 * self.output as f64);
        Cost {
            flops_forward: 2.0 * pixels * i * o,
            flops_backward: 4.0 * pixels * i * o,
            elements_forward: pixels * (i + o) + i * o,
            elements_backward: 2.0 * (pixels * i + i * o) + pixels * o,
        }
    }
}

/// Smallest, both kinds of grids, a batch.
pub fn cases<V: Visitor>(v: &mut V) {
    for (instance, shape, output) in [
        ("one", [1, 1, 1, 1], 1),
        ("tall", [2, 3, 2, 5], 3),
        ("wide", [1, 2, 5, 3], 4),
        ("batch", [5, 2, 3, 4], 2),
    ] {
        v.visit(DeconvCase { instance, shape, output });
    }
}
