//! Convolution on the CPU: bands of lines, each as products of its padded input with the lines of the
//! kernel.

use super::{COPIES, Conv, Conv2dOp, GROUPS, Geometry, PIECE};
use crate::cpu::pieces::{Cut, Pieces, Tasks};
use crate::cpu::scalar::Scalar;
use crate::cpu::{Cpu, add_column_sums, gemm_serial, simd};
use crate::params::Params;
use crate::real::{Float, Real};
use crate::tensor::{Master, Tensor};
use ndarray::{ArrayView2, ArrayViewMut2, Axis};
use std::ops::Range;

/// Copies some lines of an image with pixels of `channels` numbers, and as much around them as there
/// is, between `pad` zeros on every side.
fn pad_lines<T: Real>(
    image: &[T],
    (width, channels): (usize, usize),
    lines: &Range<usize>,
    pad: usize,
    out: &mut [T],
) {
    let (line, pitch) = (width * channels, (width + 2 * pad) * channels);
    out.fill(T::ZERO);
    for i in lines.start.saturating_sub(pad)..(lines.end + pad).min(image.len() / line) {
        let at = (i + pad - lines.start) * pitch + pad * channels;
        out[at..at + line].copy_from_slice(&image[i * line..(i + 1) * line]);
    }
}

crate::simd_fn! {
    fn rectify<T>(x: &mut [T]) {
        for x in x {
            *x = x.maximum(T::ZERO);
        }
    }
}

/// Line `u` of the kernel, W[:,u,:,:], as `[O, k·I]`.
fn line_of<'a, T>(weight: &'a ArrayView2<T>, geo: &Geometry, u: usize) -> ArrayView2<'a, T> {
    weight.slice_axis(Axis(1), (u * geo.span()..(u + 1) * geo.span()).into())
}

/// `put(y, scale · Σ_u X_u W_uᵀ)` for every pixel of y; `weight` is `[O, k·k·I]`.
fn convolve<S: Scalar<Master = T>, T: Real>(
    bk: &Cpu<S>,
    geo: &Geometry,
    (x, relu): (&[T], bool),
    weight: ArrayView2<T>,
    scale: T,
    y: &mut [T],
    put: impl Fn(&mut [T], &[T]) + Sync,
) {
    let Geometry { height, width, input, output, .. } = *geo;
    let (size, image, band) = (height * width * input, height * width * output, geo.band());
    if y.is_empty() {
        return;
    }
    let bands = geo.bands(y.len() / image);
    let pieces = y.chunks_mut(image).flat_map(|y| y.chunks_mut(band * width * output));
    Tasks::new(bands.into_iter().zip(pieces)).for_each_alone(|((b, lines), y)| {
        let rows = geo.rows(lines.len());
        let (mut padded, mut sums) =
            (bk.scratch(geo.padded(lines.len())), bk.scratch(rows * output));
        pad_lines(&x[b * size..(b + 1) * size], (width, input), &lines, geo.pad(), &mut padded);
        if relu {
            rectify(&mut padded);
        }
        for u in 0..geo.kernel {
            let beta = if u == 0 { T::ZERO } else { T::ONE };
            let sums = ArrayViewMut2::from_shape((rows, output), &mut sums[..]).expect("fits");
            let (columns, kernel) = (geo.columns(&padded, u, rows), line_of(&weight, geo, u));
            gemm_serial(scale, columns, kernel.t(), beta, sums);
        }
        let y = y.chunks_exact_mut(width * output);
        for (y, sums) in y.zip(sums.chunks(geo.pitch() * output)) {
            y.chunks_exact_mut(output).zip(sums.chunks_exact(output)).for_each(|(y, s)| put(y, s));
        }
    });
}

impl<T: Scalar> Conv2dOp for Cpu<T> {
    #[track_caller]
    fn conv2d_forward(&self, x: &Tensor<Self>, w: &Params<Self>, conv: &Conv) -> Tensor<Self> {
        self.narrow(self.conv2d_residual_forward(x, w, conv, 1.0, None))
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
        let scale = T::Master::from_f64(scale);
        let bias: Vec<T::Master> = match &conv.bias {
            Some(bias) => w.get(bias).iter().map(|&b| scale * b).collect(),
            None => vec![T::Master::ZERO; geo.output],
        };
        let (x, weight) = (x.wide(), w.operand_matrix(&conv.weight));
        let (input, weight) = ((&*x, conv.relu), weight.view());
        match residual {
            None => {
                let mut y: Master<Self> = self.unset(&shape);
                convolve(self, &geo, input, weight, scale, y.slice_mut(), |y, sums| {
                    let terms = sums.iter().zip(&bias);
                    y.iter_mut().zip(terms).for_each(|(y, (&s, &b))| *y = s + b);
                });
                y
            }
            Some(mut y) => {
                y.expect_shape("conv2d", "residual", &shape);
                convolve(self, &geo, input, weight, scale, y.slice_mut(), |y, sums| {
                    let terms = sums.iter().zip(&bias);
                    y.iter_mut().zip(terms).for_each(|(y, (&s, &b))| *y += s + b);
                });
                y
            }
        }
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
        // y = X Wᵀ + bias
        let (shape, x, dy) = (x.shape(), x.wide(), dy.wide());
        if let Some(bias) = &conv.bias {
            add_column_sums(&dy, g.get_mut(bias));
        }
        add_weight_gradient(self, &geo, (&x, conv.relu), &dy, g.get_mut(&conv.weight));
        if !need_dx {
            return None;
        }
        let mut dx: Master<Self> = self.unset(shape);
        let swapped = Geometry { input: geo.output, output: geo.input, ..geo };
        let flipped = flip(&geo, &w.operand(&conv.weight));
        let taps = swapped.kernel * swapped.span();
        let flipped = ArrayView2::from_shape((geo.input, taps), &flipped).expect("fits");
        convolve(
            self,
            &swapped,
            (&*dy, false),
            flipped,
            T::Master::ONE,
            dx.slice_mut(),
            |dx, sums| {
                dx.copy_from_slice(sums);
            },
        );
        // f(x) = max(x, 0)
        if conv.relu {
            let pieces = dx.slice_mut().par_chunks_mut(PIECE).zip(x.par_chunks(PIECE));
            pieces.for_each(|(dx, x)| {
                for (dx, &x) in dx.iter_mut().zip(x) {
                    *dx = if x > T::Master::ZERO { *dx } else { T::Master::ZERO };
                }
            });
        }
        Some(self.narrow(dx))
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

/// Groups of `bands` bands, each with a copy of a dW of `numbers` numbers.
fn groups(bands: usize, numbers: usize) -> usize {
    bands.min(GROUPS).min((COPIES / numbers.max(1)).max(2))
}

/// dW_u += dyᵀ X_u by groups of bands, whose sums are added in order. The number of groups depends on
/// the shape alone; few where dW is large, because each group has a copy of it.
fn add_weight_gradient<S: Scalar<Master = T>, T: Real>(
    bk: &Cpu<S>,
    geo: &Geometry,
    (x, relu): (&[T], bool),
    dy: &[T],
    dw: &mut [T],
) {
    let Geometry { height, width, input, output, .. } = *geo;
    let (size, image) = (height * width * input, height * width * output);
    if dy.is_empty() {
        return;
    }
    let bands = geo.bands(dy.len() / image);
    let groups = groups(bands.len(), dw.len());
    let add_group = |bands: &[(usize, Range<usize>)]| {
        let mut sums = vec![T::ZERO; dw.len()];
        for (b, lines) in bands {
            let rows = geo.rows(lines.len());
            let mut padded = bk.scratch(geo.padded(lines.len()));
            let mut upstream = bk.scratch(rows * output);
            pad_lines(&x[b * size..(b + 1) * size], (width, input), lines, geo.pad(), &mut padded);
            if relu {
                rectify(&mut padded);
            }
            // dy with lines as far apart as those of X, and zeros between them.
            upstream.fill(T::ZERO);
            let dy = &dy[b * image..][lines.start * width * output..lines.end * width * output];
            let lines = dy.chunks_exact(width * output);
            for (to, from) in upstream.chunks_mut(geo.pitch() * output).zip(lines) {
                to[..from.len()].copy_from_slice(from);
            }
            let dy = ArrayView2::from_shape((rows, output), &upstream[..]).expect("fits");
            let taps = geo.kernel * geo.span();
            for u in 0..geo.kernel {
                let sums = ArrayViewMut2::from_shape((output, taps), &mut sums[..]).expect("dW");
                let (_, from_u) = sums.split_at(Axis(1), u * geo.span());
                let (sums, _) = from_u.split_at(Axis(1), geo.span());
                gemm_serial(T::ONE, dy.t(), geo.columns(&padded, u, rows), T::ONE, sums);
            }
        }
        sums
    };
    let step = bands.len().div_ceil(groups);
    let partial: Vec<Vec<T>> = bands.par_chunks(step).collect_alone(add_group);
    for sums in partial {
        simd::add_assign(dw, &sums);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_by_hand() {
        assert_eq!([1, 16, 17].map(|bands| groups(bands, 9)), [1, 16, 16]);
        // 2^24 numbers are 5 copies of 3 · 2^20, and two copies of whatever size are made.
        assert_eq!([2, 40].map(|bands| groups(bands, 3 << 20)), [2, 5]);
        assert_eq!([1, 40].map(|bands| groups(bands, 1 << 25)), [1, 2]);
    }
}
