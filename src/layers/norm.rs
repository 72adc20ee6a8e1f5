//! Layer normalisation: parameters. Where it follows a residual sum, both are one op.

use crate::ops::Backend;
use crate::ops::layer_norm::NormStats;
use crate::params::{Decay, Init, Param, Params, Registry};
use crate::storage::Storage;
use crate::tensor::{Master, Tensor};

/// The residual stream at some place and the statistics of the norm that follows there.
pub struct Stream<B: Storage> {
    /// `[B,N,C]`.
    pub s: Master<B>,
    /// Of the norm that follows, if any.
    pub stats: Option<NormStats<B>>,
}

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

    /// s' = s + keep γ ⊙ branch and y = LN(s'), all `[B,N,C]`.
    pub fn forward_residual<B: Backend>(
        &self,
        bk: &B,
        w: &Params<B>,
        s: &Master<B>,
        branch: &Tensor<B>,
        gamma: Option<&Param>,
        keep: Option<&Master<B>>,
    ) -> (Stream<B>, Tensor<B>) {
        let (weight, bias) = (&self.weight, &self.bias);
        let (s, y, stats) =
            bk.residual_norm_forward(s, branch, w, gamma, keep, weight, bias, self.eps);
        (Stream { s, stats: Some(stats) }, y)
    }

    /// ds' (from beyond the norm) and dy -> ds and dbranch.
    #[allow(clippy::too_many_arguments)]
    pub fn backward_residual<B: Backend>(
        &self,
        bk: &B,
        w: &Params<B>,
        stream: &Stream<B>,
        branch: &Tensor<B>,
        gamma: Option<&Param>,
        keep: Option<&Master<B>>,
        ds: Master<B>,
        dy: &Tensor<B>,
        g: &mut Params<B>,
    ) -> (Master<B>, Tensor<B>) {
        let (weight, bias) = (&self.weight, &self.bias);
        let stats = stream.stats.as_ref().expect("kept by forward_residual");
        bk.residual_norm_backward(&stream.s, stats, branch, w, gamma, keep, weight, bias, ds, dy, g)
    }
}
