//! Squared error of the first channels: per image Σ (out_c − x_c)².
//!
//! Shapes: x `[B,..,C]`, out `[B,..,D]` with D ≥ C; the other channels of out are not read and get
//! gradient 0 (the decoder's ln b has no meaning here). The result is the sum per image `[B]`.
//!
//! Backward: dout_c = 2 scale (out_c − x_c); with respect to x it is the negative of that. Kept for
//! backward: x and out. Source: the Gaussian likelihood's exponent, up to its constant.

#[cfg(feature = "cuda")]
mod cuda;

use crate::cpu::Cpu;
use crate::cpu::pieces::{Cut, Pieces};
use crate::cpu::scalar::Scalar;
use crate::ops::Backend;
use crate::ops::case::{Case, Cost, Inputs, Io, Large, Threshold, Visitor};
use crate::real::{Float, Real};
use crate::storage::Storage;
use crate::tensor::Master;

/// Squared error and its gradient.
pub trait MseOp: Storage {
    /// x `[B,..,C]`, out `[B,..,D]` -> sum per image `[B]`.
    fn mse_forward(&self, x: &Master<Self>, out: &Master<Self>) -> Master<Self>;
    /// Gradient of `scale · Σ (out − x)²` with respect to out.
    fn mse_backward(&self, x: &Master<Self>, out: &Master<Self>, scale: f64) -> Master<Self>;
}

/// Pixels that one task takes.
const PIECE: usize = 4096;

#[track_caller]
fn check<B: Storage>(op: &str, x: &Master<B>, out: &Master<B>) {
    let axes = x.shape().len();
    assert!(
        axes > 0
            && out.shape().len() == axes
            && x.shape()[..axes - 1] == out.shape()[..axes - 1]
            && x.cols() <= out.cols(),
        "{op}: out is {:?}, x is {:?}",
        out.shape(),
        x.shape()
    );
}

impl<T: Scalar> MseOp for Cpu<T> {
    #[track_caller]
    fn mse_forward(&self, x: &Master<Self>, out: &Master<Self>) -> Master<Self> {
        check("mse", x, out);
        let (images, c, d) = (x.shape()[0], x.cols(), out.cols());
        let mut sums = Master::zeros(self, &[images]);
        let pixels = x.rows() / images.max(1);
        let (x, out) = (x.slice(), out.slice());
        sums.slice_mut().par_iter_mut().enumerate().for_each(|(b, sum)| {
            for p in b * pixels..(b + 1) * pixels {
                for (&x, &out) in x[p * c..(p + 1) * c].iter().zip(&out[p * d..]) {
                    *sum += (out - x) * (out - x);
                }
            }
        });
        sums
    }

    #[track_caller]
    fn mse_backward(&self, x: &Master<Self>, out: &Master<Self>, scale: f64) -> Master<Self> {
        check("mse_backward", x, out);
        let (c, d, twice) = (x.cols(), out.cols(), T::Master::from_f64(2.0 * scale));
        let mut dout = self.unset(out.shape());
        let inputs = x.slice().par_chunks(PIECE * c).zip(out.slice().par_chunks(PIECE * d));
        dout.slice_mut().par_chunks_mut(PIECE * d).zip(inputs).for_each(|(dout, (x, out))| {
            let inputs = x.chunks_exact(c).zip(out.chunks_exact(d));
            for (dout, (x, out)) in dout.chunks_exact_mut(d).zip(inputs) {
                let (dout, others) = dout.split_at_mut(c);
                for ((dout, &x), &out) in dout.iter_mut().zip(x).zip(out) {
                    *dout = twice * (out - x);
                }
                others.fill(T::Master::ZERO);
            }
        });
        dout
    }
}

/// The op at one size; the output is the sum over images, because backward takes one weight for all.
pub struct MseCase {
    instance: &'static str,
    shape: &'static [usize],
    channels: usize,
}

impl Case for MseCase {
    fn name(&self) -> String {
        format!("mse/{}", self.instance)
    }

    fn inputs(&self) -> Inputs {
        let mut shape = self.shape.to_vec();
        *shape.last_mut().expect("channels") = self.channels;
        Inputs::new(&self.name()).master("x", self.shape).master("out", &shape)
    }

    fn run<B: Backend>(&self, bk: &B, io: &mut Io<B>) {
        let (x, out) = (io.master("x"), io.master("out"));
        io.output_sum(bk, &bk.mse_forward(&x, &out));
        if io.wants_backward() {
            let scale = io.upstream_scalar(0);
            io.grad(bk, "out", &bk.mse_backward(&x, &out, scale));
            // The roles swap when both have the same channels; else x meets only its own.
            let c = x.cols();
            let own: Vec<f64> =
                out.to_f64(bk).chunks(out.cols()).flat_map(|p| p[..c].to_vec()).collect();
            let own = Master::from_f64(bk, &own, x.shape());
            io.grad(bk, "x", &bk.mse_backward(&own, &x, scale));
        }
    }

    fn thresholds(&self) -> Vec<Threshold> {
        let (last, axes) = self.shape.split_last().expect("channels");
        vec![
            Threshold::new("PIECE", PIECE, axes.iter().product()),
            Threshold::new("channels", *last, self.channels),
        ]
    }

    fn cost(&self) -> Cost {
        let n = self.shape.iter().product::<usize>() as f64;
        Cost {
            flops_forward: 3.0 * n,
            flops_backward: 2.0 * n,
            elements_forward: 2.0 * n,
            elements_backward: 3.0 * n,
        }
    }
}

/// One number, odd, three of six channels, both kinds of grids, two pieces and many.
pub fn cases<V: Visitor>(v: &mut V) {
    for (instance, shape, channels) in [
        ("one", &[1, 1][..], 1),
        ("odd", &[3, 5, 2], 2),
        ("three_of_six", &[2, 4, 3, 3], 6),
        ("wide", &[4, 2, 5, 3], 4),
        ("tall", &[5, 7, 3, 2], 7),
    ] {
        v.visit(MseCase { instance, shape, channels });
    }
    for (instance, shape, channels) in
        [("piece_and_one", &[1, 17, 241, 2][..], 3), ("many_pieces", &[4, 61, 53, 2], 3)]
    {
        v.visit(Large(MseCase { instance, shape, channels }));
    }
}

/// An empty batch.
pub fn empty_case<V: Visitor>(v: &mut V) {
    v.visit(MseCase { instance: "empty", shape: &[0, 3], channels: 3 });
}

/// A size worth timing: BEiT-B and its tokenizer.
pub fn large_cases<V: Visitor>(v: &mut V) {
    v.visit(MseCase { instance: "64x112x112x3", shape: &[64, 112, 112, 3], channels: 6 });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_that_are_not_read_get_zero_whatever_the_buffer_held() {
        const PIXELS: usize = 4096; // Large enough for the pool to keep a buffer of that size.
        let bk = Cpu::<f64>::new();
        let x = Master::<Cpu<f64>>::from_vec(&bk, vec![1.0; PIXELS], &[PIXELS, 1]);
        let out = Master::<Cpu<f64>>::from_vec(&bk, [4.0, 9.0].repeat(PIXELS), &[PIXELS, 2]);
        // What the gradient is written to next.
        let mut used = bk.scratch(2 * PIXELS);
        used.fill(7.0);
        drop(used);
        let dout = bk.mse_backward(&x, &out, 0.5).to_vec(&bk);
        assert_eq!(dout, [3.0, 0.0].repeat(PIXELS));
    }
}
