//! DINO's projection head.

use crate::layers::TRUNC_NORMAL;
use crate::layers::row_products::RowProducts;
use crate::models::config::DinoConfig;
use crate::ops::Backend;
use crate::ops::convert::to_master;
use crate::ops::linear::Linear;
use crate::ops::weight_norm::WeightNorm;
use crate::params::{Ctx, Grad, Init, Registry};
use crate::storage::Storage;
use crate::tensor::{Master, Tensor};
use std::ops::Range;

/// Three linear layers with GELU between them, rows of length one, and a layer with normalised weights.
pub struct DinoHead {
    fc: [Linear; 3],
    last: WeightNorm,
}

/// What backward reads.
pub struct DinoHeadCache<B: Storage> {
    h: Tensor<B>,                        // [n,C]
    hidden: [(Tensor<B>, Tensor<B>); 2], // after and before GELU, [n,hidden]
    b: Master<B>,                        // [n,bottleneck]
    z: Tensor<B>,                        // b / ‖b‖
    last: RowProducts<B>,
}

impl DinoHead {
    /// `head.mlp.0`, `head.mlp.2`, `head.mlp.4`, `head.last_layer`, which starts as a linear layer of PyTorch does.
    pub fn new(reg: &mut Registry, config: &DinoConfig) -> Self {
        let DinoConfig { hidden, bottleneck, outputs, .. } = *config;
        let width = config.encoder.width;
        let fc = [(0, width, hidden), (2, hidden, hidden), (4, hidden, bottleneck)];
        let fc = fc.map(|(i, input, output)| {
            Linear::new(reg, &format!("head.mlp.{i}"), input, output, TRUNC_NORMAL)
        });
        let init = Init::Uniform(1.0 / (bottleneck as f64).sqrt());
        let shape = [outputs, bottleneck];
        Self { fc, last: WeightNorm::new(reg, "head.last_layer", shape, config.lengths, init) }
    }

    /// Parameters of the last layer.
    pub fn last_range(&self) -> Range<usize> {
        let WeightNorm { direction, gain } = &self.last;
        direction.range.start..gain.as_ref().unwrap_or(direction).range.end
    }

    /// h `[n,C]` -> s `[n,K]`.
    pub fn forward<B: Backend>(&self, ctx: Ctx<B>, h: Tensor<B>) -> (Tensor<B>, DinoHeadCache<B>) {
        let Ctx { bk, w } = ctx;
        let first = bk.linear_gelu_forward(&h, w, &self.fc[0]);
        let second = bk.linear_gelu_forward(&first.0, w, &self.fc[1]);
        let b = to_master(bk, &self.fc[2].forward(ctx, &second.0));
        let z = bk.to_elem(&bk.unit_rows_forward(&b), 1.0);
        let last = RowProducts::new(bk, bk.weight_norm_forward(w, &self.last));
        (last.forward(bk, &z), DinoHeadCache { h, hidden: [first, second], b, z, last })
    }

    /// ds `[n,K]` -> dh `[n,C]`.
    pub fn backward<B: Backend>(
        &self,
        grad: &mut Grad<B>,
        cache: DinoHeadCache<B>,
        ds: &Tensor<B>,
    ) -> Tensor<B> {
        let DinoHeadCache { h, hidden: [first, second], b, z, last } = cache;
        let Ctx { bk, w } = grad.ctx;
        // s = z Wᵀ, W = weight_norm(v)
        let (dz, dlast) = last.backward(bk, &z, ds);
        bk.weight_norm_backward(w, &self.last, &dlast, grad.g);
        // z = b / ‖b‖
        let db = bk.to_elem(&bk.unit_rows_backward(&b, &to_master(bk, &dz)), 1.0);
        let dsecond = self.fc[2].backward(grad, &second.0, &db);
        let dfirst = bk.linear_gelu_backward(&first.0, &second.1, w, &self.fc[1], dsecond, grad.g);
        bk.linear_gelu_backward(&h, &first.1, w, &self.fc[0], dfirst, grad.g)
    }
}
