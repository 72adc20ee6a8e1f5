//! The heads of MoCo v3: linear layers without bias, a batch norm behind each, ReLU between them
//! (`moco/builder.py`, `_build_mlp`).
//!
//! The last norm has neither weight nor bias. All norms follow the batch: a head is never used on a single image.

use crate::ops::Backend;
use crate::ops::batch_norm::{BatchNorm, BatchStats, Statistics};
use crate::ops::case::{Case, Cost, Inputs, Io, Rounding, Visitor};
use crate::ops::linear::Linear;
use crate::params::{Ctx, Decay, Grad, Init, Params, Registry, initial_values};
use crate::storage::Storage;
use crate::tensor::Tensor;

/// y = norm(fc_n(.. relu(norm(fc_0(x))))).
pub struct NormMlp<B: Storage> {
    hidden: Vec<(Linear, BatchNorm)>,
    last: Linear,
    plain: PlainNorm<B>,
}

/// A batch norm that multiplies by 1 and adds 0.
struct PlainNorm<B: Storage> {
    norm: BatchNorm,
    w: Params<B>,
}

impl<B: Backend> PlainNorm<B> {
    fn new(bk: &B, width: usize) -> Self {
        let mut reg = Registry::new();
        let norm = BatchNorm::new(&mut reg, "plain", width);
        let layout = reg.finish();
        Self { norm, w: Params::from_host(bk, &layout, &initial_values(&layout, 0)) }
    }

    fn forward(&self, bk: &B, x: &Tensor<B>) -> (Tensor<B>, BatchStats<B>) {
        self.norm.forward(Ctx::new(bk, &self.w), x, true)
    }

    fn backward(&self, bk: &B, x: &Tensor<B>, stats: &BatchStats<B>, dy: &Tensor<B>) -> Tensor<B> {
        // Nobody wants the gradients of 1 and 0.
        let mut unwanted = Params::zeros(bk, &self.w.layout);
        self.norm.backward(&mut Grad::new(Ctx::new(bk, &self.w), &mut unwanted), x, stats, dy)
    }
}

/// What backward reads.
pub struct NormMlpCache<B: Storage> {
    hidden: Vec<HiddenCache<B>>,
    x: Tensor<B>, // what the last layer reads
    z: Tensor<B>, // what its norm reads
    stats: BatchStats<B>,
}

struct HiddenCache<B: Storage> {
    x: Tensor<B>,
    z: Tensor<B>, // before the norm
    stats: BatchStats<B>,
}

impl<B: Backend> NormMlp<B> {
    /// `name.0.weight`, `name.1.*`, `name.3.weight`, .. for layers of these widths, input first. Weights start as a
    /// linear layer of PyTorch does.
    pub fn new(bk: &B, reg: &mut Registry, name: &str, widths: &[usize]) -> Self {
        let layer = |reg: &mut Registry, i: usize| {
            let (input, output) = (widths[i], widths[i + 1]);
            let init = Init::Uniform(1.0 / (input as f64).sqrt());
            let weight =
                reg.add(format!("{name}.{}.weight", 3 * i), &[output, input], Decay::Yes, init);
            Linear { weight, bias: None }
        };
        let last = widths.len() - 2;
        let hidden = (0..last).map(|i| {
            let linear = layer(reg, i);
            (linear, BatchNorm::new(reg, &format!("{name}.{}", 3 * i + 1), widths[i + 1]))
        });
        let hidden = hidden.collect();
        Self { hidden, last: layer(reg, last), plain: PlainNorm::new(bk, widths[last + 1]) }
    }

    /// x `[n,I]`, n of at least 2 -> y `[n,O]`.
    pub fn forward(&self, ctx: Ctx<B>, mut x: Tensor<B>) -> (Tensor<B>, NormMlpCache<B>) {
        let mut hidden = Vec::new();
        for (linear, norm) in &self.hidden {
            let z = linear.forward(ctx, &x);
            let (n, stats) = norm.forward(ctx, &z, true);
            let y = ctx.bk.relu_forward(&n);
            hidden.push(HiddenCache { x: std::mem::replace(&mut x, y), z, stats });
        }
        let z = self.last.forward(ctx, &x);
        let (y, stats) = self.plain.forward(ctx.bk, &z);
        (y, NormMlpCache { hidden, x, z, stats })
    }

    /// dy `[n,O]` -> dx `[n,I]` and what the norms saw.
    pub fn backward(
        &self,
        grad: &mut Grad<B>,
        cache: NormMlpCache<B>,
        dy: &Tensor<B>,
    ) -> (Tensor<B>, Statistics<B>) {
        let NormMlpCache { hidden, x, z, stats } = cache;
        let dz = self.plain.backward(grad.ctx.bk, &z, &stats, dy);
        let mut dx = self.last.backward(grad, &x, &dz);
        let (mut y, mut seen) = (x, Vec::new());
        for ((linear, norm), HiddenCache { x, z, stats }) in self.hidden.iter().zip(hidden).rev() {
            // y = relu(n): n > 0 where y > 0.
            let dn = grad.ctx.bk.relu_backward(&y, &dx);
            let dz = norm.backward(grad, &z, &stats, &dn);
            dx = linear.backward(grad, &x, &dz);
            seen.push((norm.clone(), stats));
            y = x;
        }
        (dx, seen)
    }
}

/// The layer at one size.
pub struct NormMlpCase {
    instance: &'static str,
    rows: usize,
    widths: &'static [usize],
}

impl NormMlpCase {
    fn layer<B: Backend>(&self, bk: &B) -> (NormMlp<B>, crate::params::Layout) {
        let mut reg = Registry::new();
        let layer = NormMlp::new(bk, &mut reg, "mlp", self.widths);
        (layer, reg.finish())
    }
}

impl Case for NormMlpCase {
    fn name(&self) -> String {
        format!("layer_norm_mlp/{}", self.instance)
    }

    fn inputs(&self) -> Inputs {
        let layout = self.layer(&crate::cpu::Cpu::<f64>::new()).1;
        let inputs = Inputs::new(&self.name()).elem("x", &[self.rows, self.widths[0]]);
        inputs.params(&layout, 0.7)
    }

    fn run<B: Backend>(&self, bk: &B, io: &mut Io<B>) {
        let (layer, x) = (self.layer(bk).0, io.elem("x"));
        let (y, cache) = layer.forward(Ctx::new(bk, &io.w), x);
        io.output(bk, &y);
        if io.wants_backward() {
            let dy = io.upstream(bk, 0);
            let dx = layer.backward(&mut io.grad_of(bk), cache, &dy).0;
            io.grad(bk, "x", &dx);
        }
    }

    fn rounding(&self) -> Rounding {
        Rounding::Chain
    }

    /// Batch norms of few rows.
    fn amplifies(&self) -> bool {
        true
    }

    fn cost(&self) -> Cost {
        let (n, pairs) = (self.rows as f64, self.widths.windows(2));
        let weights: f64 = pairs.map(|pair| (pair[0] * pair[1]) as f64).sum();
        let outputs: f64 = self.widths[1..].iter().map(|w| *w as f64).sum();
        Cost {
            flops_forward: 2.0 * n * weights,
            flops_backward: 4.0 * n * weights,
            elements_forward: weights + 4.0 * n * outputs,
            elements_backward: 2.0 * weights + 8.0 * n * outputs,
        }
    }
}

/// One layer, a predictor and a projector.
pub fn cases<V: Visitor>(v: &mut V) {
    for (instance, rows, widths) in
        [("one", 4, &[2, 3][..]), ("two", 7, &[3, 5, 2]), ("three", 6, &[4, 5, 3, 2])]
    {
        v.visit(NormMlpCase { instance, rows, widths });
    }
}
