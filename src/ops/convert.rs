//! Between the stream and its branches: y = round(scale · x), and sums on the stream.
//!
//! Where `Elem` is narrower than `Master`, this is the only place where a stream loses precision.
//! Backward of `to_elem` is `scale · dy` on the stream, which is `accumulate` of a scaled gradient.

#[cfg(feature = "cuda")]
mod cuda;

use crate::cpu::pieces::{Cut, Pieces};
use crate::cpu::scalar::Scalar;
use crate::cpu::{Cpu, simd};
use crate::ops::Backend;
use crate::ops::case::{Case, Cost, Inputs, Io, Large, Rounding, Threshold, Visitor};
use crate::real::{Float, Real};
use crate::storage::Storage;
use crate::tensor::{Master, Tensor};

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

impl<T: Scalar> ConvertOp for Cpu<T> {
    fn to_elem(&self, x: &Master<Self>, scale: f64) -> Tensor<Self> {
        if scale == 1.0 {
            return self.narrow(x.duplicate(self));
        }
        let (mut y, scale): (Master<Self>, _) = (self.unset(x.shape()), T::Master::from_f64(scale));
        let pieces = y.slice_mut().par_chunks_mut(PIECE).zip(x.slice().par_chunks(PIECE));
        pieces.for_each(|(y, x)| y.iter_mut().zip(x).for_each(|(y, &x)| *y = scale * x));
        self.narrow(y)
    }

    #[track_caller]
    fn accumulate(&self, acc: &mut Master<Self>, x: &Tensor<Self>) {
        x.expect_shape("add", "x", acc.shape());
        add(acc.slice_mut(), &x.wide());
    }

    #[track_caller]
    fn add(&self, acc: &mut Master<Self>, x: &Master<Self>) {
        x.expect_shape("add", "x", acc.shape());
        add(acc.slice_mut(), x.slice());
    }
}

/// acc += x
fn add<T: Real>(acc: &mut [T], x: &[T]) {
    let pieces = acc.par_chunks_mut(PIECE).zip(x.par_chunks(PIECE));
    pieces.for_each(|(acc, x)| simd::add_assign(acc, x));
}

/// The same numbers in master precision.
pub fn to_master<B: ConvertOp>(bk: &B, x: &Tensor<B>) -> Master<B> {
    let mut wide = Master::zeros(bk, x.shape());
    bk.accumulate(&mut wide, x);
    wide
}

/// The op at one size: y = scale · x, and s + x.
pub struct ConvertCase {
    instance: &'static str,
    shape: &'static [usize],
    scale: f64,
}

impl Case for ConvertCase {
    fn name(&self) -> String {
        format!("convert/{}", self.instance)
    }

    fn inputs(&self) -> Inputs {
        Inputs::new(&self.name()).master("x", self.shape).master("s", self.shape)
    }

    fn run<B: Backend>(&self, bk: &B, io: &mut Io<B>) {
        let (x, mut s) = (io.master("x"), io.master("s"));
        io.output(bk, &bk.to_elem(&x, self.scale));
        bk.add(&mut s, &x);
        io.output(bk, &s);
        if io.wants_backward() {
            let (dy, ds): (Master<B>, Master<B>) = (io.upstream(bk, 0), io.upstream(bk, 1));
            // y = scale x and s += x   =>   dx = scale dy + ds
            let mut dx = ds.duplicate(bk);
            bk.accumulate(&mut dx, &bk.to_elem(&dy, self.scale));
            io.grad(bk, "x", &dx);
            io.grad(bk, "s", &ds);
        }
    }

    fn rounding(&self) -> Rounding {
        Rounding::Single
    }

    fn thresholds(&self) -> Vec<Threshold> {
        vec![Threshold::new("PIECE", PIECE, self.shape.iter().product())]
    }

    fn cost(&self) -> Cost {
        let n = self.shape.iter().product::<usize>() as f64;
        Cost {
            flops_forward: 2.0 * n,
            flops_backward: 2.0 * n,
            elements_forward: 5.0 * n,
            elements_backward: 5.0 * n,
        }
    }
}

/// One element, odd, not scaled, two pieces and many.
pub fn cases<V: Visitor>(v: &mut V) {
    for (instance, shape, scale) in [
        ("one", &[1][..], 0.5),
        ("odd", &[3, 5, 7], -0.375),
        ("plain", &[2, 9], 1.0),
        ("pieces", &[5, 29, 113], 0.25),
    ] {
        v.visit(ConvertCase { instance, shape, scale });
    }
    v.visit(Large(ConvertCase { instance: "many_pieces", shape: &[4, 113, 113], scale: -1.5 }));
}

/// No elements.
pub fn empty_case<V: Visitor>(v: &mut V) {
    v.visit(ConvertCase { instance: "empty", shape: &[0, 3], scale: 0.5 });
}

/// A size worth timing: BEiT-B and its tokenizer.
pub fn large_cases<V: Visitor>(v: &mut V) {
    v.visit(ConvertCase { instance: "64x197x768", shape: &[64, 197, 768], scale: 0.25 });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_scaled() {
        let bk = Cpu::<f64>::new();
        let x = Master::from_f64(&bk, &[1.0, -3.0], &[2]);
        for scale in [1.0, -0.5] {
            assert_eq!(bk.to_elem(&x, scale).to_f64(&bk), [scale, -3.0 * scale]);
        }
    }
}
