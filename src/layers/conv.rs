//! Convolution of the discrete VAE: odd kernel, stride 1, same padding, bias always (`dall_e/utils.py`).

use crate::backend::Backend;
use crate::ops::conv2d::Conv;
use crate::params::{Decay, Form, Init, Param, Params, Registry};
use crate::tensor::{Master, Tensor};

/// y = conv(x) or conv(relu(x)), NHWC.
#[derive(Clone, Debug)]
pub struct Conv2d {
    weight: Param,
    bias: Param,
    relu: bool,
}

impl Conv2d {
    /// `name.w` `[out,k,k,in]` and `name.b` `[out]`, with a ReLU on the input where `relu`.
    ///
    /// Initialisation of `dall_e/utils.py`: deviation 1/√(in k²), without the gain for ReLU; bias 0.
    /// Both are decayed: the DALL-E paper (A.2) states its weight decay without exclusions.
    pub fn new(
        reg: &mut Registry,
        name: &str,
        input: usize,
        output: usize,
        kernel: usize,
        relu: bool,
    ) -> Self {
        let init = Init::Normal(1.0 / ((input * kernel * kernel) as f64).sqrt());
        let shape = [output, kernel, kernel, input];
        Self {
            weight: reg.add_as(format!("{name}.w"), &shape, Decay::Yes, init, Form::Kernel),
            bias: reg.add(format!("{name}.b"), &[output], Decay::Yes, Init::Constant(0.0)),
            relu,
        }
    }

    fn op(&self) -> Conv<'_> {
        Conv { weight: &self.weight, bias: &self.bias, relu: self.relu }
    }

    /// x `[B,H,W,in]` -> `[B,H,W,out]`, inside a branch.
    pub fn forward<B: Backend>(&self, bk: &B, w: &Params<B>, x: &Tensor<B>) -> Tensor<B> {
        bk.conv2d_forward(x, w, self.op())
    }

    /// residual + scale · conv(x), on the stream.
    pub fn forward_master<B: Backend>(
        &self,
        bk: &B,
        w: &Params<B>,
        x: &Tensor<B>,
        scale: f64,
        residual: Option<Master<B>>,
    ) -> Master<B> {
        bk.conv2d_residual_forward(x, w, self.op(), scale, residual)
    }

    /// dy -> dx.
    pub fn backward<B: Backend>(
        &self,
        bk: &B,
        w: &Params<B>,
        x: &Tensor<B>,
        dy: &Tensor<B>,
        g: &mut Params<B>,
    ) -> Tensor<B> {
        bk.conv2d_backward(x, w, self.op(), dy, g, true).expect("asked for")
    }

    /// dy -> dx where wanted: the first convolution of a network needs no gradient of the image.
    pub fn backward_first<B: Backend>(
        &self,
        bk: &B,
        w: &Params<B>,
        x: &Tensor<B>,
        dy: &Tensor<B>,
        g: &mut Params<B>,
        need_dx: bool,
    ) -> Option<Tensor<B>> {
        bk.conv2d_backward(x, w, self.op(), dy, g, need_dx)
    }
}
