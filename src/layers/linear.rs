//! Linear layer: weight `[out,in]` and bias `[out]`.

use crate::ops::Backend;
use crate::params::{Decay, Init, Param, Params, Registry};
use crate::tensor::Tensor;

/// y = x Wᵀ + b.
#[derive(Clone, Debug)]
pub struct Linear {
    /// `[out,in]`, decayed.
    pub weight: Param,
    /// `[out]`, not decayed, starts at 0.
    pub bias: Param,
}

impl Linear {
    /// `name.weight` and `name.bias`.
    pub fn new(reg: &mut Registry, name: &str, input: usize, output: usize, init: Init) -> Self {
        Self {
            weight: reg.add(format!("{name}.weight"), &[output, input], Decay::Yes, init),
            bias: reg.add(format!("{name}.bias"), &[output], Decay::No, Init::Constant(0.0)),
        }
    }

    /// x `[..,in]` -> y `[..,out]`.
    pub fn forward<B: Backend>(&self, bk: &B, w: &Params<B>, x: &Tensor<B>) -> Tensor<B> {
        bk.linear_forward(x, w, &self.weight, Some(&self.bias))
    }

    /// dy `[..,out]` -> dx `[..,in]`.
    pub fn backward<B: Backend>(
        &self,
        bk: &B,
        w: &Params<B>,
        x: &Tensor<B>,
        dy: &Tensor<B>,
        g: &mut Params<B>,
    ) -> Tensor<B> {
        bk.linear_backward(x, w, &self.weight, Some(&self.bias), dy, g)
    }
}
