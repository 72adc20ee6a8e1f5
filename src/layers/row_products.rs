//! Products of all pairs of rows, y = x Wᵀ: a linear layer without bias whose weight is computed.
//!
//! Shapes: x `[M,I]`, W `[O,I]`, y `[M,O]`. The products are those of [`crate::ops::linear`].

use crate::ops::Backend;
use crate::ops::case::{Case, Cost, Inputs, Io, Visitor};
use crate::ops::linear::Linear;
use crate::params::{Decay, Init, Layout, Params, Registry};
use crate::storage::Storage;
use crate::tensor::{Master, Tensor};

/// The layer of one W.
pub struct RowProducts<B: Storage> {
    layer: Linear,
    rows: Params<B>,
}

impl<B: Backend> RowProducts<B> {
    /// With W `[O,I]`.
    #[track_caller]
    pub fn new(bk: &B, rows: Master<B>) -> Self {
        rows.expect_rank("row_products", "W", 2);
        let (master, shape) = rows.into_parts();
        let mut reg = Registry::new();
        let weight = reg.add("rows", &shape, Decay::No, Init::Constant(0.0));
        let (layout, elem): (Layout, _) = (reg.finish(), bk.narrow_copy(&master));
        Self { layer: Linear { weight, bias: None }, rows: Params { layout, master, elem } }
    }

    /// x `[M,I]` -> y `[M,O]`.
    pub fn forward(&self, bk: &B, x: &Tensor<B>) -> Tensor<B> {
        bk.linear_forward(x, &self.rows, &self.layer)
    }

    /// dy `[M,O]` -> dx `[M,I]` and dW `[O,I]`.
    pub fn backward(&self, bk: &B, x: &Tensor<B>, dy: &Tensor<B>) -> (Tensor<B>, Master<B>) {
        let mut g = Params::zeros(bk, &self.rows.layout);
        let dx = bk.linear_backward(x, &self.rows, &self.layer, dy, &mut g);
        (dx, Tensor::new(bk, g.master, &self.layer.weight.shape))
    }
}

/// The layer at one size.
pub struct RowProductsCase {
    instance: &'static str,
    rows: usize,
    input: usize,
    output: usize,
}

impl Case for RowProductsCase {
    fn name(&self) -> String {
        format!("layer_row_products/{}", self.instance)
    }

    fn inputs(&self) -> Inputs {
        let inputs = Inputs::new(&self.name()).elem("x", &[self.rows, self.input]);
        inputs.master("rows", &[self.output, self.input])
    }

    fn run<B: Backend>(&self, bk: &B, io: &mut Io<B>) {
        let (x, layer) = (io.elem("x"), RowProducts::new(bk, io.master("rows")));
        io.output(bk, &layer.forward(bk, &x));
        if io.wants_backward() {
            let dy = io.upstream(bk, 0);
            let (dx, drows) = layer.backward(bk, &x, &dy);
            io.grad(bk, "x", &dx);
            io.grad(bk, "rows", &drows);
        }
    }

    fn cost(&self) -> Cost {
        let [r, i, o] = [self.rows, self.input, self.output].map(|n| n as f64);
        Cost {
            flops_forward: 2.0 * r * i * o,
            flops_backward: 4.0 * r * i * o,
            elements_forward: r * i + i * o + r * o,
            elements_backward: 2.0 * (r * i + i * o) + r * o,
        }
    }
}

/// Smallest and odd.
pub fn cases<V: Visitor>(v: &mut V) {
    for (instance, rows, input, output) in [("one", 1, 1, 1), ("odd", 7, 5, 3)] {
        v.visit(RowProductsCase { instance, rows, input, output });
    }
}
