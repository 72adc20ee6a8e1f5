//! 2-D convolution, stride 1, odd kernel k, zero padding (k−1)/2, NHWC, with bias; optionally a ReLU
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
//! Kept for backward: x, before the ReLU (by its owner). X is never stored: pieces of it are built
//! again. Source: spec dvae 2.7; `dall_e/utils.py`, class Conv2d.

use crate::backend::{Backend, Storage};
use crate::case::{Case, Cost, Inputs, Io, Kind, Visitor};
use crate::cpu::{Cpu, add_column_sums, gemm_serial, simd};
use crate::params::{Param, Params};
use crate::real::Real;
use crate::tensor::{Master, Tensor};
use ndarray::{ArrayView2, ArrayViewMut2};
use rayon::prelude::*;

/// Parameters and options of one convolution.
#[derive(Clone, Copy)]
pub struct Conv<'a> {
    /// `[O,k,k,I]`.
    pub weight: &'a Param,
    /// `[O]`.
    pub bias: &'a Param,
    /// Whether the input passes a ReLU first.
    pub relu: bool,
}

/// Convolution and its gradients.
pub trait Conv2dOp: Storage {
    /// x `[B,H,W,I]` -> y `[B,H,W,O]`, inside a branch.
    fn conv2d_forward(&self, x: &Tensor<Self>, w: &Params<Self>, conv: Conv) -> Tensor<Self>;

    /// residual + scale · conv(x), on the stream; takes the residual `[B,H,W,O]` (zero where `None`).
    fn conv2d_residual_forward(
        &self,
        x: &Tensor<Self>,
        w: &Params<Self>,
        conv: Conv,
        scale: f64,
        residual: Option<Master<Self>>,
    ) -> Master<Self>;

    /// dy `[B,H,W,O]` -> dx `[B,H,W,I]` where wanted; adds dW and dbias to `g`. For the residual form
    /// the caller passes dy = scale · dy'.
    fn conv2d_backward(
        &self,
        x: &Tensor<Self>,
        w: &Params<Self>,
        conv: Conv,
        dy: &Tensor<Self>,
        g: &mut Params<Self>,
        need_dx: bool,
    ) -> Option<Tensor<Self>>;
}

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
        conv.bias.expect_shape(op, &[output]);
        Self { height, width, input, output, kernel }
    }

    /// Columns of X.
    fn taps(&self) -> usize {
        self.kernel * self.kernel * self.input
    }

    /// Rows of X that are built at a time: about 512 KiB of f32, so that they stay in cache.
    fn rows_at_once(&self) -> usize {
        (131_072 / self.taps().max(1)).clamp(16, 1024)
    }
}

/// Writes rows `first..` of X (as many as `out` holds), with the ReLU where `relu`.
fn gather<T: Real>(geo: &Geometry, x: &[T], relu: bool, first: usize, out: &mut [T]) {
    let Geometry { height, width, input, kernel, .. } = *geo;
    let (pad, span) = (kernel / 2, kernel * input);
    for (row, out) in (first..).zip(out.chunks_exact_mut(geo.taps())) {
        let (image, i, j) = (row / (height * width), row / width % height, row % width);
        // Columns of the image under the kernel, and how many of them lie left of it.
        let (left, right) = (j.saturating_sub(pad), (j + pad + 1).min(width));
        let skipped = (left + pad - j) * input;
        for (u, out) in out.chunks_exact_mut(span).enumerate() {
            let inside = i + u >= pad && i + u - pad < height;
            if !inside {
                out.fill(T::ZERO);
                continue;
            }
            let line = (image * height + i + u - pad) * width;
            let source = &x[(line + left) * input..(line + right) * input];
            out[..skipped].fill(T::ZERO);
            out[skipped..skipped + source.len()].copy_from_slice(source);
            out[skipped + source.len()..].fill(T::ZERO);
        }
    }
    if relu {
        rectify(out);
    }
}

crate::simd_fn! {
    fn rectify<T>(x: &mut [T]) {
        for x in x {
            *x = x.maximum(T::ZERO);
        }
    }
}

/// y <- scale · X Wᵀ + beta · y for `weight` `[O,taps]`, then `finish` on each row of y.
fn convolve<T: Real>(
    geo: &Geometry,
    (x, relu): (&[T], bool),
    weight: ArrayView2<T>,
    (scale, beta): (T, T),
    y: &mut [T],
    finish: impl Fn(&mut [T]) + Sync,
) {
    let (rows, taps, output) = (geo.rows_at_once(), geo.taps(), weight.nrows());
    if y.is_empty() {
        return;
    }
    let plain = geo.kernel == 1 && !relu;
    y.par_chunks_mut(rows * output).enumerate().for_each_init(Vec::new, |buffer, (piece, y)| {
        let (first, count) = (piece * rows, y.len() / output);
        let columns = if plain {
            &x[first * taps..(first + count) * taps]
        } else {
            buffer.resize(count * taps, T::ZERO);
            gather(geo, x, relu, first, buffer);
            &buffer[..]
        };
        let columns = ArrayView2::from_shape((count, taps), columns).expect("rows of X");
        let out = ArrayViewMut2::from_shape((count, output), &mut *y).expect("rows of y");
        gemm_serial(scale, columns, weight.t(), beta, out);
        y.chunks_exact_mut(output).for_each(&finish);
    });
}

impl<T: Real> Conv2dOp for Cpu<T> {
    #[track_caller]
    fn conv2d_forward(&self, x: &Tensor<Self>, w: &Params<Self>, conv: Conv) -> Tensor<Self> {
        self.conv2d_residual_forward(x, w, conv, 1.0, None)
    }

    #[track_caller]
    fn conv2d_residual_forward(
        &self,
        x: &Tensor<Self>,
        w: &Params<Self>,
        conv: Conv,
        scale: f64,
        residual: Option<Master<Self>>,
    ) -> Master<Self> {
        let geo = Geometry::new("conv2d", x.shape(), &conv);
        let shape = [x.shape()[0], geo.height, geo.width, geo.output];
        let scale = T::from_f64(scale);
        let beta = if residual.is_some() { T::ONE } else { T::ZERO };
        let mut y = residual.unwrap_or_else(|| Master::zeros(self, &shape));
        y.expect_shape("conv2d", "residual", &shape);
        let bias: Vec<T> = w.get(conv.bias).iter().map(|&b| scale * b).collect();
        let input = (x.slice(), conv.relu);
        convolve(&geo, input, w.matrix(conv.weight), (scale, beta), y.slice_mut(), |row| {
            simd::add_assign(row, &bias);
        });
        y
    }

    #[track_caller]
    fn conv2d_backward(
        &self,
        x: &Tensor<Self>,
        w: &Params<Self>,
        conv: Conv,
        dy: &Tensor<Self>,
        g: &mut Params<Self>,
        need_dx: bool,
    ) -> Option<Tensor<Self>> {
        let geo = Geometry::new("conv2d_backward", x.shape(), &conv);
        let shape = [x.shape()[0], geo.height, geo.width, geo.output];
        dy.expect_shape("conv2d_backward", "dy", &shape);
        // y = X Wᵀ + bias
        add_column_sums(dy.slice(), g.get_mut(conv.bias));
        add_weight_gradient(&geo, (x.slice(), conv.relu), dy.slice(), g.get_mut(conv.weight));
        if !need_dx {
            return None;
        }
        let mut dx = Tensor::zeros(self, x.shape());
        let swapped = Geometry { input: geo.output, output: geo.input, ..geo };
        let flipped = flip(&geo, w.get(conv.weight));
        let flipped = ArrayView2::from_shape((geo.input, swapped.taps()), &flipped).expect("fits");
        let out = (T::ONE, T::ZERO);
        convolve(&swapped, (dy.slice(), false), flipped, out, dx.slice_mut(), |_| {});
        // f(x) = max(x, 0)
        if conv.relu {
            let step = 16_384;
            let pieces = dx.slice_mut().par_chunks_mut(step).zip(x.slice().par_chunks(step));
            pieces.for_each(|(dx, x)| {
                for (dx, &x) in dx.iter_mut().zip(x) {
                    *dx = if x > T::ZERO { *dx } else { T::ZERO };
                }
            });
        }
        Some(dx)
    }
}

/// W `[O,k,k,I]` with both spatial axes reversed and channels swapped: `[I,k,k,O]`.
fn flip<T: Real>(geo: &Geometry, weight: &[T]) -> Vec<T> {
    let (k, input, output) = (geo.kernel * geo.kernel, geo.input, geo.output);
    let mut flipped = vec![T::ZERO; weight.len()];
    for o in 0..output {
        for tap in 0..k {
            for i in 0..input {
                flipped[(i * k + k - 1 - tap) * output + o] = weight[(o * k + tap) * input + i];
            }
        }
    }
    flipped
}

/// dW += dyᵀ X by groups of rows, whose sums are added in order. The number of groups depends on the
/// shape alone; few where dW is large, because each group has a copy of it.
fn add_weight_gradient<T: Real>(geo: &Geometry, (x, relu): (&[T], bool), dy: &[T], dw: &mut [T]) {
    let (taps, output) = (geo.taps(), geo.output);
    let rows = dy.len() / output.max(1);
    let at_once = geo.rows_at_once();
    let groups = (rows / at_once).clamp(1, 16).min(((1 << 24) / dw.len().max(1)).max(2));
    let step = rows.div_ceil(groups).max(1);
    let partial: Vec<Vec<T>> = (0..rows.div_ceil(step))
        .into_par_iter()
        .map(|group| {
            let mut sums = vec![T::ZERO; dw.len()];
            let mut buffer = Vec::new();
            let end = ((group + 1) * step).min(rows);
            let mut first = group * step;
            while first < end {
                let count = at_once.min(end - first);
                buffer.resize(count * taps, T::ZERO);
                gather(geo, x, relu, first, &mut buffer);
                let columns =
                    ArrayView2::from_shape((count, taps), &buffer[..]).expect("rows of X");
                let dy = &dy[first * output..(first + count) * output];
                let dy = ArrayView2::from_shape((count, output), dy).expect("rows of dy");
                let out = ArrayViewMut2::from_shape((output, taps), &mut sums[..]).expect("dW");
                gemm_serial(T::ONE, dy.t(), columns, T::ONE, out);
                first += count;
            }
            sums
        })
        .collect();
    for sums in partial {
        simd::add_assign(dw, &sums);
    }
}

/// The op at one size.
pub struct Conv2dCase {
    instance: &'static str,
    shape: [usize; 4],
    output: usize,
    kernel: usize,
    relu: bool,
    residual: bool,
}

impl Case for Conv2dCase {
    fn name(&self) -> String {
        format!("conv2d/{}", self.instance)
    }

    fn inputs(&self) -> Inputs {
        let ([b, h, w, i], k, o) = (self.shape, self.kernel, self.output);
        let mut inputs = Inputs::new(&self.name());
        // Away from the kink of the ReLU.
        let x = crate::case::away_from_zero(inputs.normal(b * h * w * i));
        let inputs = inputs
            .push("x", &self.shape, x, Kind::Elem, true)
            .param("weight", &[o, k, k, i])
            .param("bias", &[o]);
        if self.residual { inputs.master("residual", &[b, h, w, o]) } else { inputs }
    }

    fn run<B: Backend>(&self, bk: &B, io: &mut Io<B>) {
        let (x, weight, bias) = (io.elem("x"), io.param("weight"), io.param("bias"));
        let conv = Conv { weight: &weight, bias: &bias, relu: self.relu };
        if !self.residual {
            let y = bk.conv2d_forward(&x, &io.w, conv);
            io.output(bk, &y);
            if io.wants_backward() {
                let dy = io.upstream(bk, 0);
                let dx = bk.conv2d_backward(&x, &io.w, conv, &dy, &mut io.g, true);
                io.grad(bk, "x", &dx.expect("asked for"));
            }
            return;
        }
        let (scale, residual) = (0.25, io.master("residual"));
        let y = bk.conv2d_residual_forward(&x, &io.w, conv, scale, Some(residual));
        io.output(bk, &y);
        if io.wants_backward() {
            let dy: Master<B> = io.upstream(bk, 0);
            let scaled = bk.to_elem(&dy, scale);
            let dx = bk.conv2d_backward(&x, &io.w, conv, &scaled, &mut io.g, true);
            io.grad(bk, "x", &dx.expect("asked for"));
            io.grad(bk, "residual", &dy);
        }
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

/// All three kernels, images smaller than the kernel, odd and rectangular, every option.
pub fn cases<V: Visitor>(v: &mut V) {
    for (instance, shape, output, kernel, relu, residual) in [
        ("one", [1, 1, 1, 1], 1, 1, false, false),
        ("k1_relu", [2, 3, 2, 5], 4, 1, true, false),
        ("k3", [2, 4, 3, 2], 3, 3, false, false),
        ("k3_relu_residual", [1, 5, 3, 3], 2, 3, true, true),
        ("k7_small_image", [1, 2, 3, 2], 2, 7, false, false),
        ("k7_residual", [2, 8, 7, 1], 2, 7, false, true),
        ("tiny", [2, 16, 16, 32], 8, 3, true, false),
    ] {
        v.visit(Conv2dCase { instance, shape, output, kernel, relu, residual });
    }
}
