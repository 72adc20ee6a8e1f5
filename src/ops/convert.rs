//! Between the stream and its branches: y = round(scale · x), and sums on the stream.
//!
//! Where `Elem` is narrower than `Master`, this is the only place where a stream loses precision.
//! Backward of `to_elem` is `scale · dy` on the stream, which is `accumulate` of a scaled gradient.

use crate::backend::Storage;
use crate::cpu::{Cpu, simd};
use crate::real::Real;
use crate::tensor::{Master, Tensor};
use rayon::prelude::*;

/// Conversion and sums; both tensors have one shape.
pub trait ConvertOp: Storage {
    /// scale · x, rounded to `Elem`.
    fn to_elem(&self, x: &Master<Self>, scale: f64) -> Tensor<Self>;
    /// acc += x
    fn accumulate(&self, acc: &mut Master<Self>, x: &Tensor<Self>);
    /// acc += x
    fn add(&self, acc: &mut Master<Self>, x: &Master<Self>);
}

const PIECE: usize = 16_384;

impl<T: Real> ConvertOp for Cpu<T> {
    fn to_elem(&self, x: &Master<Self>, scale: f64) -> Tensor<Self> {
        if scale == 1.0 {
            return x.duplicate(self);
        }
        let (mut y, scale) = (self.unset(x.shape()), T::from_f64(scale));
        let pieces = y.slice_mut().par_chunks_mut(PIECE).zip(x.slice().par_chunks(PIECE));
        pieces.for_each(|(y, x)| y.iter_mut().zip(x).for_each(|(y, &x)| *y = scale * x));
        y
    }

    #[track_caller]
    fn accumulate(&self, acc: &mut Master<Self>, x: &Tensor<Self>) {
        self.add(acc, x);
    }

    #[track_caller]
    fn add(&self, acc: &mut Master<Self>, x: &Master<Self>) {
        x.expect_shape("add", "x", acc.shape());
        let pieces = acc.slice_mut().par_chunks_mut(PIECE).zip(x.slice().par_chunks(PIECE));
        pieces.for_each(|(acc, x)| simd::add_assign(acc, x));
    }
}
