//! The four levels that a head of segmentation reads.

use crate::layers::deconv::Deconv;
use crate::models::encoder::Features;
use crate::ops::Backend;
use crate::ops::batch_norm::{BatchNorm, BatchStats, Statistics};
use crate::ops::convert::to_master;
use crate::params::{Ctx, Grad, Registry};
use crate::storage::Storage;
use crate::tensor::{Ids, Master, Tensor};

/// Parameters of the levels.
pub(super) struct Pyramid {
    first: Deconv,
    norm: BatchNorm,
    second: Deconv,
    double: Deconv,
}

/// What backward reads.
pub(super) struct PyramidCache<B: Storage> {
    rows: Ids<B>,      // of the patch tokens
    shape: Vec<usize>, // [B,N,C]
    f0: Tensor<B>,     // [B,Gh,Gw,C]
    a: Tensor<B>,      // [B,2Gh,2Gw,C], first(f0)
    n: Tensor<B>,      // norm(a)
    stats: BatchStats<B>,
    g: Tensor<B>,     // gelu(n)
    f1: Tensor<B>,    // [B,Gh,Gw,C]
    choice: Ids<B>,   // of the max pool
    grid: [usize; 4], // [B,Gh,Gw,C]
}

impl Pyramid {
    pub(super) fn new(reg: &mut Registry, width: usize) -> Self {
        Self {
            first: Deconv::new(reg, "fpn1.0", width, width),
            norm: BatchNorm::new(reg, "fpn1.1", width),
            second: Deconv::new(reg, "fpn1.3", width, width),
            double: Deconv::new(reg, "fpn2.0", width, width),
        }
    }

    /// Streams `[B,N,C]` at the places of the four levels -> levels.
    pub(super) fn forward<B: Backend>(
        &self,
        ctx: Ctx<B>,
        features: &Features<B>,
        (places, (gh, gw)): (&[usize; 4], (usize, usize)),
        train: bool,
    ) -> ([Tensor<B>; 4], PyramidCache<B>) {
        let (bk, shape) = (ctx.bk, features.taps[0].shape().to_vec());
        let [b, n, c] = [shape[0], shape[1], shape[2]];
        // The class token comes first.
        let rows = (0..b * n).filter(|row| row % n > 0).map(|row| row as u32).collect();
        let rows = Ids::from_vec(bk, rows, &[b * gh * gw]);
        let grid = [b, gh, gw, c];
        let patches = |level: usize| {
            let stream = bk.to_elem(&features.taps[places[level]], 1.0);
            bk.gather_rows_forward(&stream, &rows).reshape(&grid)
        };
        let f0 = patches(0);
        let a = self.first.forward(ctx, &f0);
        let (normed, stats) = self.norm.forward(ctx, &a, train);
        let g = bk.gelu_forward(&normed);
        let p0 = self.second.forward(ctx, &g);
        let f1 = patches(1);
        let p1 = self.double.forward(ctx, &f1);
        let (p3, choice) = bk.max_pool_forward(&to_master(bk, &patches(3)));
        let levels = [p0, p1, patches(2), bk.to_elem(&p3, 1.0)];
        (levels, PyramidCache { rows, shape, f0, a, n: normed, stats, g, f1, choice, grid })
    }

    /// Gradients of the levels -> those of the streams `[B,N,C]`.
    pub(super) fn backward<B: Backend>(
        &self,
        grad: &mut Grad<B>,
        cache: &PyramidCache<B>,
        [d0, d1, d2, d3]: [Tensor<B>; 4],
    ) -> [Master<B>; 4] {
        let bk = grad.ctx.bk;
        // p3 = max pool(f3)
        let d3 = to_master(bk, &d3);
        let df3 = bk.to_elem(&bk.max_pool_backward(&cache.choice, &d3, &cache.grid), 1.0);
        // p1 = double(f1)
        let df1 = self.double.backward(grad, &cache.f1, &d1);
        // p0 = second(gelu(norm(first(f0))))
        let dg = self.second.backward(grad, &cache.g, &d0);
        let dn = bk.gelu_backward(&cache.n, dg);
        let da = self.norm.backward(grad, &cache.a, &cache.stats, &dn);
        let df0 = self.first.backward(grad, &cache.f0, &da);
        [df0, df1, d2, df3].map(|df| {
            let rows = [df.rows(), df.cols()];
            let ds = bk.gather_rows_backward(&cache.rows, &df.reshape(&rows), &cache.shape);
            to_master(bk, &ds)
        })
    }

    pub(super) fn statistics<B: Storage>(&self, cache: PyramidCache<B>) -> Statistics<B> {
        vec![(self.norm.clone(), cache.stats)]
    }
}
