//! 2-D convolution, stride 1, odd kernel k, zero padding (k−1)/2, NHWC; optionally a bias, a ReLU
//! on the input, and a scaled residual on the output.
//!
//! ```text
//! y[b,i,j,o] = bias[o] + Σ_{u,v,c} W[o,u,v,c] f(x[b, i+u−p, j+v−p, c])    f = identity or ReLU
//! residual form: y' = r + scale · y
//! ```
//! Shapes: x `[B,H,W,I]`, W `[O,k,k,I]`, bias `[O]`, y and r `[B,H,W,O]`. No kernel flip. With X the
//! matrix whose row (b,i,j) holds the k·k·I inputs under the kernel, y = X Wᵀ + bias.
//!
//! Backward:
//! * `dbias[o] = Σ dy[b,i,j,o]`
//! * dW = dyᵀ X
//! * `df[b,m,n,c] = Σ_{u,v,o} W[o,u,v,c] dy[b, m+p−u, n+p−v, o]`: a convolution of dy with the kernel
//!   flipped in both directions and its channels swapped
//! * dx = df, zero where a ReLU saw x ≤ 0
//!
//! Kept for backward: x, before the ReLU (by its owner). X is never stored: with zeros around it, the
//! input is X already. Source: `dall_e/utils.py`, class Conv2d.

mod cpu;
#[cfg(feature = "cuda")]
mod cuda;

use crate::cpu::overlapping_rows;
use crate::ops::Backend;
use crate::ops::case::{Case, Cost, Inputs, Io, Kind, Large, Threshold, Visitor};
use crate::params::{Ctx, Decay, Form, Grad, Init, Param, Params, Registry};
use crate::storage::Storage;
use crate::tensor::{Master, Tensor};
use ndarray::ArrayView2;
use std::ops::Range;

/// Parameters and options of one convolution.
#[derive(Clone, Debug)]
pub struct Conv {
    /// `[O,k,k,I]`.
    pub weight: Param,
    /// `[O]`.
    pub bias: Option<Param>,
    /// Whether the input passes a ReLU first.
    pub relu: bool,
}

impl Conv {
    /// `name.w` `[O,k,k,I]` and `name.b` `[O]`, for `channels` (I, O), with a ReLU on the input where
    /// `relu`.
    ///
    /// Initialisation of `dall_e/utils.py`: deviation 1/√(I k²), without the gain for ReLU; bias 0.
    /// Both are decayed: the DALL-E paper (A.2) states its weight decay without exclusions.
    pub fn new(
        reg: &mut Registry,
        name: &str,
        (input, output): (usize, usize),
        kernel: usize,
        relu: bool,
    ) -> Self {
        let init = Init::Normal(1.0 / ((input * kernel * kernel) as f64).sqrt());
        let shape = [output, kernel, kernel, input];
        Self {
            weight: reg.add_as(format!("{name}.w"), &shape, Decay::Yes, init, Form::Kernel),
            bias: Some(reg.add(format!("{name}.b"), &[output], Decay::Yes, Init::Constant(0.0))),
            relu,
        }
    }

    /// `weight` `[O,k,k,I]` for `channels` (I, O), decayed, neither bias nor ReLU: in front of a
    /// normalisation, which takes every constant off again.
    pub fn without_bias(
        reg: &mut Registry,
        weight: &str,
        (input, output): (usize, usize),
        kernel: usize,
        init: Init,
    ) -> Self {
        let shape = [output, kernel, kernel, input];
        let weight = reg.add_as(weight, &shape, Decay::Yes, init, Form::Kernel);
        Self { weight, bias: None, relu: false }
    }

    /// x `[B,H,W,I]` -> `[B,H,W,O]`, inside a branch.
    pub fn forward<B: Conv2dOp>(&self, ctx: Ctx<B>, x: &Tensor<B>) -> Tensor<B> {
        ctx.bk.conv2d_forward(x, ctx.w, self)
    }

    /// residual + scale · conv(x), on the stream.
    pub fn forward_residual<B: Conv2dOp>(
        &self,
        ctx: Ctx<B>,
        x: &Tensor<B>,
        scale: f64,
        residual: Option<Master<B>>,
    ) -> Master<B> {
        ctx.bk.conv2d_residual_forward(x, ctx.w, self, scale, residual)
    }

    /// dy -> dx.
    pub fn backward<B: Conv2dOp>(
        &self,
        grad: &mut Grad<B>,
        x: &Tensor<B>,
        dy: &Tensor<B>,
    ) -> Tensor<B> {
        self.backward_first(grad, x, dy, true).expect("asked for")
    }

    /// dy -> dx where wanted: the first convolution of a network needs no gradient of the image.
    pub fn backward_first<B: Conv2dOp>(
        &self,
        grad: &mut Grad<B>,
        x: &Tensor<B>,
        dy: &Tensor<B>,
        need_dx: bool,
    ) -> Option<Tensor<B>> {
        grad.ctx.bk.conv2d_backward(x, grad.ctx.w, self, dy, grad.g, need_dx)
    }
}

/// Convolution and its gradients.
pub trait Conv2dOp: Storage {
    /// x `[B,H,W,I]` -> y `[B,H,W,O]`, inside a branch.
    fn conv2d_forward(&self, x: &Tensor<Self>, w: &Params<Self>, conv: &Conv) -> Tensor<Self>;

    /// residual + scale · conv(x), on the stream; takes the residual `[B,H,W,O]` (zero where `None`).
    fn conv2d_residual_forward(
        &self,
        x: &Tensor<Self>,
        w: &Params<Self>,
        conv: &Conv,
        scale: f64,
        residual: Option<Master<Self>>,
    ) -> Master<Self>;

    /// dy `[B,H,W,O]` -> dx `[B,H,W,I]` where wanted; adds dW and dbias to `g`. For the residual form
    /// the caller passes dy = scale · dy'.
    fn conv2d_backward(
        &self,
        x: &Tensor<Self>,
        w: &Params<Self>,
        conv: &Conv,
        dy: &Tensor<Self>,
        g: &mut Params<Self>,
        need_dx: bool,
    ) -> Option<Tensor<Self>>;
}

/// Numbers of the input of a band of lines: 256 KiB of f32, which stay in cache...
const BAND: usize = 65_536;
/// ... and fewest pixels, so that the products do not become thin.
const PIXELS: usize = 256;
/// Most groups of bands whose sums of dW are added.
const GROUPS: usize = 16;
/// Most numbers of their copies of dW, where there are more than two.
const COPIES: usize = 1 << 24;
/// Numbers of dx that a task takes through the ReLU.
const PIECE: usize = 16_384;

/// Sizes of one call, checked.
#[derive(Clone, Copy)]
struct Geometry {
    height: usize,
    width: usize,
    input: usize,
    output: usize,
    kernel: usize,
}

impl Geometry {
    #[track_caller]
    fn new(op: &str, shape: &[usize], conv: &Conv) -> Self {
        let &[_, height, width, input] = shape else {
            panic!("{op}: x is {shape:?}, expected [B,H,W,I]");
        };
        let &[output, kernel, _, _] = conv.weight.shape.as_slice() else {
            panic!(
                "{op}: parameter {} is {:?}, expected [O,k,k,I]",
                conv.weight.name, conv.weight.shape
            );
        };
        assert!(kernel % 2 == 1, "{op}: kernel {kernel} of {} is not odd", conv.weight.name);
        conv.weight.expect_shape(op, &[output, kernel, kernel, input]);
        if let Some(bias) = &conv.bias {
            bias.expect_shape(op, &[output]);
        }
        Self { height, width, input, output, kernel }
    }

    /// Elements of a row of X, for one line of the kernel.
    fn span(&self) -> usize {
        self.kernel * self.input
    }

    /// Zeros on each side.
    fn pad(&self) -> usize {
        self.kernel / 2
    }

    /// Pixels of a line between its zeros.
    fn pitch(&self) -> usize {
        self.width + 2 * self.pad()
    }

    /// Lines that one task takes where an image has as many.
    fn lines(&self) -> usize {
        let cached = BAND / (self.pitch() * self.input).max(1);
        cached.max(PIXELS.div_ceil(self.pitch()))
    }

    /// Lines of an image that one task takes.
    fn band(&self) -> usize {
        self.lines().min(self.height).max(1)
    }

    /// Pieces of work for `images` images: (image, lines).
    fn bands(&self, images: usize) -> Vec<(usize, Range<usize>)> {
        let lines = |i: usize| i..(i + self.band()).min(self.height);
        let of_image = |b| (0..self.height).step_by(self.band()).map(move |i| (b, lines(i)));
        (0..images).flat_map(of_image).collect()
    }

    /// Rows of X for some lines: as many as reach from their first pixel to their last.
    fn rows(&self, lines: usize) -> usize {
        (lines - 1) * self.pitch() + self.width
    }

    /// Elements of some lines of input and the zeros around them.
    fn padded(&self, lines: usize) -> usize {
        (lines + 2 * self.pad()) * self.pitch() * self.input
    }

    /// X for line `u` of the kernel. A row holds what lies under that line at one output pixel, and the
    /// next begins one pixel later: X is the padded input itself, read with overlapping rows. The
    /// 2·pad rows between two lines belong to no pixel.
    fn columns<'a, T>(&self, padded: &'a [T], u: usize, rows: usize) -> ArrayView2<'a, T> {
        let first = u * self.pitch() * self.input;
        overlapping_rows(&padded[first..], (rows, self.span()), self.input)
    }
}

/// The op at one size.
pub struct Conv2dCase {
    pub(crate) instance: &'static str,
    pub(crate) shape: [usize; 4],
    pub(crate) output: usize,
    pub(crate) kernel: usize,
    pub(crate) bias: bool,
    pub(crate) relu: bool,
    pub(crate) residual: bool,
}

impl Case for Conv2dCase {
    fn name(&self) -> String {
        format!("conv2d/{}", self.instance)
    }

    fn inputs(&self) -> Inputs {
        let ([b, h, w, i], k, o) = (self.shape, self.kernel, self.output);
        let mut inputs = Inputs::new(&self.name());
        // Away from the kink of the ReLU.
        let x = crate::ops::case::away_from_zero(inputs.normal(b * h * w * i));
        let inputs =
            inputs.push("x", &self.shape, x, Kind::Elem, true).param("weight", &[o, k, k, i]);
        let inputs = if self.bias { inputs.param("bias", &[o]) } else { inputs };
        if self.residual { inputs.master("residual", &[b, h, w, o]) } else { inputs }
    }

    fn run<B: Backend>(&self, bk: &B, io: &mut Io<B>) {
        let (x, weight) = (io.elem("x"), io.param("weight"));
        let bias = self.bias.then(|| io.param("bias"));
        let conv = Conv { weight, bias, relu: self.relu };
        if !self.residual {
            let y = bk.conv2d_forward(&x, &io.w, &conv);
            io.output(bk, &y);
            if io.wants_backward() {
                let dy = io.upstream(bk, 0);
                let dx = bk.conv2d_backward(&x, &io.w, &conv, &dy, &mut io.g, true);
                io.grad(bk, "x", &dx.expect("asked for"));
            }
            return;
        }
        let (scale, residual) = (0.25, io.master("residual"));
        let y = bk.conv2d_residual_forward(&x, &io.w, &conv, scale, Some(residual));
        io.output(bk, &y);
        if io.wants_backward() {
            let dy: Master<B> = io.upstream(bk, 0);
            let scaled = bk.to_elem(&dy, scale);
            let dx = bk.conv2d_backward(&x, &io.w, &conv, &scaled, &mut io.g, true);
            io.grad(bk, "x", &dx.expect("asked for"));
            io.grad(bk, "residual", &dy);
        }
    }

    fn thresholds(&self) -> Vec<Threshold> {
        let ([b, height, width, input], kernel) = (self.shape, self.kernel);
        let geo = Geometry { height, width, input, output: self.output, kernel };
        let back = Geometry { input: self.output, output: input, ..geo };
        let [first, second] = Threshold::fold_rows(b * height * width);
        vec![
            Threshold::new("BAND", geo.lines(), height),
            Threshold::new("BAND of dx", back.lines(), height),
            Threshold::new("GROUPS", GROUPS, geo.bands(b).len()),
            Threshold::new("PIECE", PIECE, if self.relu { b * height * width * input } else { 0 }),
            first,
            second,
        ]
    }

    fn cost(&self) -> Cost {
        let [b, h, w, i] = self.shape.map(|n| n as f64);
        let (o, k) = (self.output as f64, self.kernel as f64);
        let forward = 2.0 * b * h * w * i * o * k * k;
        Cost {
            flops_forward: forward,
            flops_backward: 2.0 * forward,
            elements_forward: b * h * w * (i + o) + k * k * i * o,
            elements_backward: 2.0 * (b * h * w * (i + o) + k * k * i * o),
        }
    }
}

/// All three kernels, images smaller than the kernel, odd and rectangular, every option; on tensor
/// cores, channels and pixels that fill no tile, one and several tiles each way. Then batches, bands and
/// groups of them.
pub fn cases<V: Visitor>(v: &mut V) {
    for (instance, shape, output, kernel, relu, residual) in [
        ("one", [1, 1, 1, 1], 1, 1, false, false),
        ("k1_relu", [2, 3, 2, 5], 4, 1, true, false),
        ("k3", [2, 4, 3, 2], 3, 3, false, false),
        ("k3_relu_residual", [1, 5, 3, 3], 2, 3, true, true),
        ("k7_small_image", [1, 2, 3, 2], 2, 7, false, false),
        ("k7_residual", [2, 8, 7, 1], 2, 7, false, true),
        ("tiny", [2, 16, 16, 32], 8, 3, true, false),
        ("k3_bands", [1, 40, 10, 200], 2, 3, false, false),
        ("k1_wide", [1, 5, 7, 16], 24, 1, true, false),
        ("k3_wide_residual", [2, 12, 11, 8], 72, 3, true, true),
        ("k7_wide", [1, 6, 5, 8], 6, 7, false, false),
        ("batch", [4, 3, 5, 2], 3, 3, true, true),
        ("rows", [3, 1, 11, 2], 2, 1, false, false),
        ("full_groups", [16, 2, 3, 1], 2, 3, false, false),
        ("group_and_one", [17, 3, 2, 1], 2, 3, true, false),
        ("many_groups", [50, 1, 2, 1], 1, 3, true, true),
    ] {
        v.visit(Conv2dCase { instance, shape, output, kernel, bias: true, relu, residual });
    }
    for (instance, shape, output, kernel, relu, residual) in [
        ("no_bias", [2, 4, 3, 2], 3, 3, false, false),
        ("no_bias_k1", [1, 3, 2, 4], 2, 1, false, false),
        ("no_bias_wide", [1, 5, 7, 16], 24, 3, false, false),
        ("no_bias_residual", [1, 3, 4, 2], 3, 3, true, true),
    ] {
        v.visit(Conv2dCase { instance, shape, output, kernel, bias: false, relu, residual });
    }
    // 27 lines are a band of 200 channels in, or out.
    for (instance, shape, output, kernel, relu, residual) in [
        ("band_and_one", [1, 28, 10, 200], 2, 3, false, true),
        ("band_and_one_of_dx", [1, 28, 10, 2], 200, 3, false, false),
        ("many_bands", [1, 83, 10, 200], 2, 3, true, false),
        ("many_bands_of_dx", [1, 83, 10, 2], 200, 3, true, true),
        ("piece_and_one", [1, 5, 29, 113], 2, 1, true, false),
        ("sum_and_one", [1, 27, 19, 2], 3, 3, true, false),
        ("many_sums", [4, 31, 17, 2], 1, 3, false, true),
    ] {
        v.visit(Large(Conv2dCase { instance, shape, output, kernel, bias: true, relu, residual }));
    }
}

/// An empty batch.
pub fn empty_case<V: Visitor>(v: &mut V) {
    v.visit(Conv2dCase {
        instance: "empty",
        shape: [0, 3, 3, 2],
        output: 2,
        kernel: 3,
        bias: true,
        relu: true,
        residual: true,
    });
}

/// Convolutions of DALL-E's tokenizer: inside its second group, and onto a wider one.
pub fn large_cases<V: Visitor>(v: &mut V) {
    for (instance, shape, output, kernel) in [
        ("8x56x56x128_k3_128", [8, 56, 56, 128], 128, 3),
        ("8x28x28x256_k1_1024", [8, 28, 28, 256], 1024, 1),
    ] {
        let (bias, relu, residual) = (true, true, false);
        v.visit(Conv2dCase { instance, shape, output, kernel, bias, relu, residual });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Cpu;
    use crate::params::arena_len;

    /// A kernel of 1, 10, 100, ... over a single pixel of an image: its mirror image.
    #[test]
    fn a_pixel_shows_the_kernel() {
        let (bk, mut reg) = (Cpu::<f64>::new(), Registry::new());
        let conv = Conv::new(&mut reg, "c", (1, 1), 3, false);
        let layout = reg.finish();
        let mut values = vec![0.0; arena_len(&layout)];
        for (i, w) in values[conv.weight.range.clone()].iter_mut().enumerate() {
            *w = 10f64.powi(i as i32);
        }
        let w = Params::from_host(&bk, &layout, &values);
        let mut pixels = vec![0.0; 25];
        pixels[12] = 1.0;
        let y = bk.conv2d_forward(&Tensor::from_f64(&bk, &pixels, &[1, 5, 5, 1]), &w, &conv);
        let y = y.to_f64(&bk);
        let seen: Vec<f64> = (1..4).flat_map(|r| y[5 * r + 1..5 * r + 4].to_vec()).collect();
        let mirrored: Vec<f64> = (0..9).rev().map(|i| 10f64.powi(i)).collect();
        assert_eq!((seen, y.iter().sum::<f64>()), (mirrored, 111_111_111.0));
    }
}
