//! Patch embedding: a convolution with kernel and stride P, as one matrix product over patches.

use crate::backend::Backend;
use crate::layers::TRUNC_NORMAL;
use crate::params::{Decay, Form, Init, Param, Params, Registry};
use crate::tensor::{Master, Tensor};

/// Image `[B,Ih,Iw,3]` -> patches `[B,Gh·Gw,C]`, row-major over the grid.
#[derive(Clone, Debug)]
pub struct PatchEmbed {
    /// `[C,P,P,3]` (in files `[C,3,P,P]`).
    pub weight: Param,
    /// `[C]`.
    pub bias: Param,
}

impl PatchEmbed {
    /// `patch_embed.proj.weight` and `.bias`.
    pub fn new(reg: &mut Registry, patch: usize, width: usize) -> Self {
        let shape = [width, patch, patch, 3];
        let (weight, bias) = ("patch_embed.proj.weight", "patch_embed.proj.bias");
        Self {
            weight: reg.add_as(weight, &shape, Decay::Yes, TRUNC_NORMAL, Form::Kernel),
            bias: reg.add(bias, &[width], Decay::No, Init::Constant(0.0)),
        }
    }

    /// x `[B,Ih,Iw,3]` -> e `[B,Gh·Gw,C]`.
    pub fn forward<B: Backend>(&self, bk: &B, w: &Params<B>, x: &Tensor<B>) -> Master<B> {
        bk.patch_embed_forward(x, w, &self.weight, &self.bias)
    }

    /// de -> dx where wanted (training never needs the gradient of the image).
    pub fn backward<B: Backend>(
        &self,
        bk: &B,
        w: &Params<B>,
        x: &Tensor<B>,
        de: &Master<B>,
        g: &mut Params<B>,
        need_dx: bool,
    ) -> Option<Tensor<B>> {
        bk.patch_embed_backward(x, w, &self.weight, &self.bias, de, g, need_dx)
    }
}
