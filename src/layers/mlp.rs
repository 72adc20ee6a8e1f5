//! Multilayer perceptron of a block: fc1, exact GELU, fc2.

use crate::layers::{TRUNC_NORMAL, depth_scaled};
use crate::ops::Backend;
use crate::ops::case::{Case, Cost, Inputs, Io, Rounding, Visitor};
use crate::ops::linear::Linear;
use crate::params::{Ctx, Grad, Registry};
use crate::storage::Storage;
use crate::tensor::Tensor;

/// y = fc2(gelu(fc1(x))).
#[derive(Clone, Debug)]
pub struct Mlp {
    /// C -> hidden.
    pub fc1: Linear,
    /// hidden -> C.
    pub fc2: Linear,
}

/// What backward reads.
pub struct MlpCache<B: Storage> {
    a: Tensor<B>, // [B,N,hidden], before GELU
    h: Tensor<B>, // [B,N,hidden], after GELU
}

impl Mlp {
    /// `blocks.i.mlp.fc1`, `blocks.i.mlp.fc2`.
    pub fn new(reg: &mut Registry, block: usize, width: usize, hidden: usize) -> Self {
        let name = |part| format!("blocks.{block}.mlp.{part}");
        Self {
            fc1: Linear::new(reg, &name("fc1"), width, hidden, TRUNC_NORMAL),
            fc2: Linear::new(reg, &name("fc2"), hidden, width, depth_scaled(block)),
        }
    }

    /// x `[B,N,C]` -> `[B,N,C]`.
    pub fn forward<B: Backend>(&self, ctx: Ctx<B>, x: &Tensor<B>) -> (Tensor<B>, MlpCache<B>) {
        let (h, a) = ctx.bk.linear_gelu_forward(x, ctx.w, &self.fc1);
        let y = self.fc2.forward(ctx, &h);
        (y, MlpCache { a, h })
    }

    /// dy `[B,N,C]` -> dx `[B,N,C]`.
    pub fn backward<B: Backend>(
        &self,
        grad: &mut Grad<B>,
        x: &Tensor<B>,
        cache: MlpCache<B>,
        dy: &Tensor<B>,
    ) -> Tensor<B> {
        // y = fc2(h)
        let dh = self.fc2.backward(grad, &cache.h, dy);
        // h = gelu(fc1(x))
        let Ctx { bk, w } = grad.ctx;
        bk.linear_gelu_backward(x, &cache.a, w, &self.fc1, dh, grad.g)
    }
}

/// The layer at one size.
pub struct MlpCase {
    instance: &'static str,
    rows: usize,
    width: usize,
    hidden: usize,
}

impl MlpCase {
    fn layer(&self) -> (Mlp, crate::params::Layout) {
        let mut reg = Registry::new();
        let layer = Mlp::new(&mut reg, 0, self.width, self.hidden);
        (layer, reg.finish())
    }
}

impl Case for MlpCase {
    fn name(&self) -> String {
        format!("layer_mlp/{}", self.instance)
    }

    fn inputs(&self) -> Inputs {
        Inputs::new(&self.name()).elem("x", &[self.rows, self.width]).params(&self.layer().1, 0.5)
    }

    fn run<B: Backend>(&self, bk: &B, io: &mut Io<B>) {
        let (layer, x) = (self.layer().0, io.elem("x"));
        let (y, cache) = layer.forward(Ctx::new(bk, &io.w), &x);
        io.output(bk, &y);
        if io.wants_backward() {
            let dy = io.upstream(bk, 0);
            let dx = layer.backward(&mut io.grad_of(bk), &x, cache, &dy);
            io.grad(bk, "x", &dx);
        }
    }

    fn rounding(&self) -> Rounding {
        Rounding::Chain
    }

    fn cost(&self) -> Cost {
        let [r, c, h] = [self.rows, self.width, self.hidden].map(|n| n as f64);
        Cost {
            flops_forward: 4.0 * r * c * h,
            flops_backward: 8.0 * r * c * h,
            elements_forward: 2.0 * (r * c + c * h + r * h),
            elements_backward: 4.0 * (r * c + c * h + r * h),
        }
    }
}

/// Smallest, odd, no multiple of the width, and tiny's.
pub fn cases<V: Visitor>(v: &mut V) {
    for (instance, rows, width, hidden) in
        [("one", 1, 1, 1), ("odd", 5, 3, 7), ("uneven", 7, 40, 136), ("tiny", 65, 128, 512)]
    {
        v.visit(MlpCase { instance, rows, width, hidden });
    }
}
