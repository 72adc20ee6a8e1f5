//! Convolution on CUDA. At bf16 with channels in multiples of 8, on tensor cores with X gathered tile by
//! tile (`cuda/conv2d_mma.cu`); else, and for the gradient of W, as products with X written out a chunk
//! of pixels at a time (`cuda/conv2d.cu`), which judges the other.

use super::{Conv, Conv2dOp, Geometry};
use crate::cuda::{Cuda, Factor, Grid, Pointer, Precision, args, plain, transposed};
use crate::ops::relu::ReluOp;
use crate::params::Params;
use crate::tensor::{Master, Tensor};

/// Numbers of one chunk of X at most (128 MiB of bf16), if a pixel's fit.
const CHUNK: usize = 1 << 26;

impl Geometry {
    /// Numbers under the kernel at one pixel.
    fn taps(&self) -> usize {
        self.kernel * self.span()
    }
}

/// What the tensor-core form makes of a convolution.
enum ConvResult<'a, T: Precision> {
    /// y = conv + bias, 0 where the mask is not above 0.
    Elem { y: &'a Tensor<Cuda<T>>, mask: Option<&'a Tensor<Cuda<T>>> },
    /// sums = scale (conv + bias), or that added to them.
    Master { sums: &'a Master<Cuda<T>>, add: bool, scale: f64 },
}

/// Runs the tensor-core form, where it can; else says so and does nothing.
#[track_caller]
fn convolve_tiled<T: Precision>(
    bk: &Cuda<T>,
    geo: &Geometry,
    (x, relu): (&Tensor<Cuda<T>>, bool),
    weight: Pointer<T::Elem>,
    bias: Option<Pointer<T::Master>>,
    made: ConvResult<T>,
) -> bool {
    // It copies 16 bytes at a time.
    let aligned = weight.is_aligned(16) && geo.input.is_multiple_of(8);
    // A product as it is belongs to cuBLAS.
    let product = geo.kernel == 1 && !relu;
    if !T::NARROW || !aligned || !geo.output.is_multiple_of(2) || product {
        return false;
    }
    let pixels = x.rows();
    let outputs = if geo.output <= 64 { 64 } else { 128 };
    let grid = Grid::blocks([pixels.div_ceil(128), geo.output.div_ceil(outputs)], 256);
    let shared = 3 * (128 + outputs) * 40 * size_of::<T::Elem>();
    let (y, mask, sums, add, scale) = match made {
        ConvResult::Elem { y, mask } => (Some(y), mask, None, false, 1.0),
        ConvResult::Master { sums, add, scale } => (None, None, Some(sums), add, scale),
    };
    let arguments = args![
        x, weight, bias, y, sums, mask, scale, add, pixels, geo.height, geo.width, geo.input,
        geo.output, geo.kernel, relu,
    ];
    let name = if outputs == 64 { "conv2d_mma_64" } else { "conv2d_mma_128" };
    bk.launch_shared(name, grid, shared, arguments);
    true
}

/// Calls `work` with each chunk of X: its first pixel, its pixels, and where it is.
#[track_caller]
fn for_columns<T: Precision>(
    bk: &Cuda<T>,
    geo: &Geometry,
    (x, relu): (&Tensor<Cuda<T>>, bool),
    mut work: impl FnMut(usize, usize, Factor<T::Elem>),
) {
    let (taps, pixels) = (geo.taps(), x.rows());
    let step = (CHUNK / taps.max(1)).clamp(1, pixels.max(1));
    if geo.kernel == 1 && !relu {
        if pixels > 0 {
            work(0, pixels, plain(x.start()));
        }
        return;
    }
    let columns = bk.scratch::<T::Elem>(step * taps);
    for first in (0..pixels).step_by(step) {
        let count = step.min(pixels - first);
        let n = count * taps;
        let arguments =
            args![x, &columns, n, first, geo.height, geo.width, geo.input, geo.kernel, relu,];
        bk.launch("conv2d_columns", Grid::each(n), arguments);
        work(first, count, plain(columns.start()));
    }
}

/// y += scale · X Wᵀ, in either type of y.
#[track_caller]
fn convolve<T: Precision, C: crate::cuda::BlasType>(
    bk: &Cuda<T>,
    geo: &Geometry,
    input: (&Tensor<Cuda<T>>, bool),
    weight: Pointer<T::Elem>,
    (scale, beta): (f64, f64),
    y: Pointer<C>,
) {
    for_columns(bk, geo, input, |first, count, columns| {
        let sizes = (count, geo.taps(), geo.output);
        let y = y.plus(first * geo.output);
        bk.gemm(sizes, scale, columns, transposed(weight), beta, y);
    });
}

impl<T: Precision> Conv2dOp for Cuda<T> {
    #[track_caller]
    fn conv2d_forward(&self, x: &Tensor<Self>, w: &Params<Self>, conv: &Conv) -> Tensor<Self> {
        let geo = Geometry::new("conv2d", x.shape(), conv);
        let y: Tensor<Self> = self.unset(&[x.shape()[0], geo.height, geo.width, geo.output]);
        let (n, weight) = (y.len(), w.elem_at(&conv.weight));
        let bias = conv.bias.as_ref().map(|bias| w.at(bias));
        let made = ConvResult::Elem { y: &y, mask: None };
        if convolve_tiled(self, &geo, (x, conv.relu), weight, bias, made) {
            return y;
        }
        if let Some(bias) = bias {
            self.launch("fill_rows", Grid::each(n), args![&y, bias, 1.0, n, geo.output]);
        }
        let beta = if bias.is_some() { 1.0 } else { 0.0 };
        convolve(self, &geo, (x, conv.relu), weight, (1.0, beta), y.start());
        y
    }

    #[track_caller]
    fn conv2d_residual_forward(
        &self,
        x: &Tensor<Self>,
        w: &Params<Self>,
        conv: &Conv,
        scale: f64,
        residual: Option<Master<Self>>,
    ) -> Master<Self> {
        let geo = Geometry::new("conv2d", x.shape(), conv);
        let shape = [x.shape()[0], geo.height, geo.width, geo.output];
        let (weight, add) = (w.elem_at(&conv.weight), residual.is_some());
        let bias = conv.bias.as_ref().map(|bias| w.at(bias));
        let y = residual.unwrap_or_else(|| self.unset(&shape));
        y.expect_shape("conv2d", "residual", &shape);
        let made = ConvResult::Master { sums: &y, add, scale };
        if convolve_tiled(self, &geo, (x, conv.relu), weight, bias, made) {
            return y;
        }
        if let Some(bias) = bias {
            let (n, kernel) = (y.len(), if add { "add_rows" } else { "fill_rows_master" });
            self.launch(kernel, Grid::each(n), args![&y, bias, scale, n, geo.output]);
        }
        let beta = if add || bias.is_some() { 1.0 } else { 0.0 };
        convolve(self, &geo, (x, conv.relu), weight, (scale, beta), y.start());
        y
    }

    #[track_caller]
    fn conv2d_backward(
        &self,
        x: &Tensor<Self>,
        w: &Params<Self>,
        conv: &Conv,
        dy: &Tensor<Self>,
        g: &mut Params<Self>,
        need_dx: bool,
    ) -> Option<Tensor<Self>> {
        let geo = Geometry::new("conv2d_backward", x.shape(), conv);
        let shape = [x.shape()[0], geo.height, geo.width, geo.output];
        dy.expect_shape("conv2d_backward", "dy", &shape);
        // y = X Wᵀ + bias   =>   dbias += column sums of dy, dW += dyᵀ X
        if let Some(bias) = &conv.bias {
            self.add_column_sums(dy.start(), (dy.rows(), geo.output), g.at(bias));
        }
        let dw = g.at(&conv.weight);
        for_columns(self, &geo, (x, conv.relu), |first, count, columns| {
            let dy = transposed(dy.start().plus(first * geo.output));
            self.gemm((geo.output, count, geo.taps()), 1.0, dy, columns, 1.0, dw);
        });
        if !need_dx {
            return None;
        }
        // A convolution of dy with the kernel flipped and its channels swapped.
        let swapped = Geometry { input: geo.output, output: geo.input, ..geo };
        let flipped = self.scratch(conv.weight.len());
        let (n, taps) = (flipped.len(), geo.kernel * geo.kernel);
        let weight = w.elem_at(&conv.weight);
        let arguments = args![weight, &flipped, n, taps, geo.input, geo.output];
        self.launch("conv2d_flip", Grid::each(n), arguments);
        let dx: Tensor<Self> = self.unset(x.shape());
        let made = ConvResult::Elem { y: &dx, mask: conv.relu.then_some(x) };
        if convolve_tiled(self, &swapped, (dy, false), flipped.start(), None, made) {
            return Some(dx);
        }
        convolve(self, &swapped, (dy, false), flipped.start(), (1.0, 0.0), dx.start());
        // f(x) = max(x, 0)
        Some(if conv.relu { self.relu_backward(x, &dx) } else { dx })
    }
}
