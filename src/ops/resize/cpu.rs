//! Maps of planes on the CPU, line by line.

use super::map::{Axes, Bands};
use super::{Pixels, PlaneMap, ResizeOp, checked};
use crate::cpu::pieces::{Cut, Pieces};
use crate::cpu::scalar::Scalar;
use crate::cpu::{Cpu, simd};
use crate::real::Real;
use crate::simd_fn;
use crate::tensor::{Master, Tensor};

simd_fn! {
    /// y += a x
    fn add_scaled<T>(y: &mut [T], a: T, x: &[T]) {
        for (y, &x) in y.iter_mut().zip(x) {
            *y += a * x;
        }
    }
}

impl<T: Scalar> Bands<Cpu<T>> {
    /// First place of band `i`, and its weights.
    fn band(&self, i: usize) -> BandWeights<'_, T::Master> {
        let [first, count] = [0, 1].map(|k| self.places.slice()[2 * i + k] as usize);
        (first, &self.weights.slice()[i * self.weights.cols()..][..count])
    }
}

/// A first place and the weights from there on.
type BandWeights<'a, T> = (usize, &'a [T]);

/// Sums of one line of y: `line[J,c] = Σ_ij P_Ii Q_Jj x[i,j,c]` of the image `x` with lines of `width` pixels.
fn sum_line<T: Scalar>(
    (rows, columns): (BandWeights<T::Master>, &Bands<Cpu<T>>),
    (x, width, of): (&[T::Master], usize, Pixels),
    channels: usize,
    line: &mut [T::Master],
) {
    line.fill(T::Master::ZERO);
    for (to, y) in line.chunks_exact_mut(channels).enumerate() {
        let (first, weights) = columns.band(to);
        for (i, &p) in (rows.0..).zip(rows.1) {
            for (j, &q) in (first..).zip(weights) {
                let pixel = &x[(i * width + j) * of.stride + of.at..][..channels];
                add_scaled(y, p * q, pixel);
            }
        }
    }
}

/// Takes the images of x along `axes` into channels of y.
fn apply<T: Scalar>(
    bk: &Cpu<T>,
    (axes, identity): (&Axes<Cpu<T>>, bool),
    (x, from): (&Tensor<Cpu<T>>, Pixels),
    (y, to): (&mut Tensor<Cpu<T>>, Pixels),
    (channels, add): (usize, bool),
) {
    if x.is_empty() {
        return;
    }
    let ([_, h, w, _], [_, height, width, _]) = (sides(x), sides(y));
    if identity && !add {
        let lines = y.slice_mut().par_chunks_mut(width * to.stride);
        lines.zip(x.slice().par_chunks(w * from.stride)).for_each(|(y, x)| {
            put(y, to, x, from, channels);
        });
        return;
    }
    let ([rows, columns], x) = (axes, x.wide());
    let image = h * w * from.stride;
    let lines = y.slice_mut().par_chunks_mut(width * to.stride).enumerate();
    lines.for_each_alone(|(i, y)| {
        let x = &x[i / height * image..][..image];
        let mut line: Master<Cpu<T>> = bk.unset(&[width, channels]);
        sum_line((rows.band(i % height), columns), (x, w, from), channels, line.slice_mut());
        if add {
            let old = y.chunks_exact(to.stride);
            for (sum, old) in line.slice_mut().chunks_exact_mut(channels).zip(old) {
                simd::add_assign(sum, &T::wide(&old[to.at..][..channels]));
            }
        }
        put(y, to, bk.narrow(line).slice(), Pixels { stride: channels, at: 0 }, channels);
    });
}

/// The four axes of a tensor that was checked at entry.
fn sides<T: Scalar>(x: &Tensor<Cpu<T>>) -> [usize; 4] {
    x.shape().try_into().expect("checked at entry")
}

/// Copies channels of the pixels of a line.
fn put<T: Copy>(y: &mut [T], to: Pixels, x: &[T], from: Pixels, channels: usize) {
    for (y, x) in y.chunks_exact_mut(to.stride).zip(x.chunks_exact(from.stride)) {
        y[to.at..][..channels].copy_from_slice(&x[from.at..][..channels]);
    }
}

impl<T: Scalar> ResizeOp for Cpu<T> {
    #[track_caller]
    fn resize_forward(
        &self,
        x: &Tensor<Self>,
        map: &PlaneMap<Self>,
        y: &mut Tensor<Self>,
        at: usize,
        add: bool,
    ) {
        let (from, to, c) = checked("resize", (x, map.from()), (y, map.to()), at);
        apply(self, (&map.forward, map.identity), (x, from), (y, to), (c, add));
    }

    #[track_caller]
    fn resize_backward(
        &self,
        dy: &Tensor<Self>,
        at: usize,
        map: &PlaneMap<Self>,
        dx: &mut Tensor<Self>,
        add: bool,
    ) {
        let (to, from, c) = checked("resize_backward", (dx, map.from()), (dy, map.to()), at);
        if c > 0 {
            apply(self, (&map.backward, map.identity), (dy, from), (dx, to), (c, add));
        }
    }
}
