//! Layer normalisation: parameters. Where it follows a residual sum, the fused op is used instead
//! of `forward` (see [`super::block`]).

use crate::backend::Backend;
use crate::ops::layer_norm::NormStats;
use crate::params::{Decay, Init, Param, Params, Registry};
use crate::tensor::{Master, Tensor};

/// y = xhat ⊙ weight + bias over the last axis.
#[derive(Clone, Debug)]
pub struct Norm {
    /// `[C]`, starts at 1.
    pub weight: Param,
    /// `[C]`, starts at 0.
    pub bias: Param,
    /// Added to the variance.
    pub eps: f64,
}

impl Norm {
    /// `name.weight` and `name.bias`.
    pub fn new(reg: &mut Registry, name: &str, width: usize, eps: f64) -> Self {
        let mut add = |part: &str, start| {
            reg.add(format!("{name}.{part}"), &[width], Decay::No, Init::Constant(start))
        };
        Self { weight: add("weight", 1.0), bias: add("bias", 0.0), eps }
    }

    /// x `[..,C]` -> y `[..,C]`.
    pub fn forward<B: Backend>(
        &self,
        bk: &B,
        w: &Params<B>,
        x: &Master<B>,
    ) -> (Tensor<B>, NormStats<B>) {
        bk.layer_norm_forward(x, w, &self.weight, &self.bias, self.eps)
    }

    /// dy `[..,C]` -> dx `[..,C]`.
    pub fn backward<B: Backend>(
        &self,
        bk: &B,
        w: &Params<B>,
        x: &Master<B>,
        stats: &NormStats<B>,
        dy: &Tensor<B>,
        g: &mut Params<B>,
    ) -> Master<B> {
        bk.layer_norm_backward(x, stats, w, &self.weight, &self.bias, dy, g)
    }
}
