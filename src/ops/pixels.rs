//! Bytes of images to the numbers that a model reads: y = table[c, x], where c is the channel of x.
//!
//! Shapes: x `[B,H,W,3]` bytes, table `[3,256]`, y as x. A table has every answer of (x/255 − mean)/std and of
//! the tokenizer's φ, so that images travel to a device as bytes, a quarter of their numbers, and all
//! devices make the same numbers of them.
//!
//! Backward: none; images have no gradient.

#[cfg(feature = "cuda")]
mod cuda;

use crate::cpu::Cpu;
use crate::cpu::pieces::{Cut, Pieces};
use crate::cpu::scalar::Scalar;
use crate::ops::Backend;
use crate::ops::case::{Case, Cost, Inputs, Io, Kind, Large, Rounding, Threshold, Visitor};
use crate::storage::Storage;
use crate::tensor::{Bytes, Master, Tensor};

/// Bytes to numbers by table.
pub trait PixelsOp: Storage {
    /// table[c, x], in master precision.
    fn pixels(&self, x: &Bytes<Self>, table: &Master<Self>) -> Master<Self>;
    /// table[c, x], rounded to `Elem`.
    fn pixels_elem(&self, x: &Bytes<Self>, table: &Master<Self>) -> Tensor<Self>;
}

/// Channels.
const RGB: usize = 3;
/// Values of a byte.
const BYTES: usize = 256;

/// Pixels of a piece.
const PIECE: usize = 4096;

/// Panics unless the last axis of `x` is a pixel and the table has a row for each of its channels.
#[track_caller]
fn check<B: Storage>(x: &Bytes<B>, table: &Master<B>) {
    assert!(x.cols() == RGB, "pixels: x is {:?}, expected 3 channels", x.shape());
    table.expect_shape("pixels", "table", &[RGB, BYTES]);
}

impl<T: Scalar> PixelsOp for Cpu<T> {
    #[track_caller]
    fn pixels(&self, x: &Bytes<Self>, table: &Master<Self>) -> Master<Self> {
        check(x, table);
        let mut y: Master<Self> = self.unset(x.shape());
        let (table, _) = table.slice().as_chunks::<BYTES>();
        let pieces =
            y.slice_mut().par_chunks_mut(RGB * PIECE).zip(x.slice().par_chunks(RGB * PIECE));
        pieces.for_each(|(y, x)| {
            for (y, x) in y.as_chunks_mut::<RGB>().0.iter_mut().zip(x.as_chunks::<RGB>().0) {
                for c in 0..RGB {
                    y[c] = table[c][usize::from(x[c])];
                }
            }
        });
        y
    }

    #[track_caller]
    fn pixels_elem(&self, x: &Bytes<Self>, table: &Master<Self>) -> Tensor<Self> {
        self.narrow(self.pixels(x, table))
    }
}

/// The op at one size.
pub struct PixelsCase {
    instance: &'static str,
    shape: &'static [usize],
}

impl Case for PixelsCase {
    fn name(&self) -> String {
        format!("pixels/{}", self.instance)
    }

    fn inputs(&self) -> Inputs {
        let mut inputs = Inputs::new(&self.name());
        let n = self.shape.iter().product();
        // All bytes occur where there are enough numbers.
        let offset = inputs.rng().integer(BYTES - 1);
        let x = (0..n).map(|i| ((i * 7 + offset) % BYTES) as u32).collect();
        let table = inputs.normal(RGB * BYTES);
        inputs
            .ids("x", self.shape, x)
            .push("table", &[RGB, BYTES], table, Kind::Master, false)
            .without_backward()
    }

    fn run<B: Backend>(&self, bk: &B, io: &mut Io<B>) {
        let (x, table) = (io.ids("x"), io.master("table"));
        let bytes = x.to_vec(bk).into_iter().map(|x| x as u8).collect();
        let bytes = Bytes::from_vec(bk, bytes, self.shape);
        io.forward_begins(bk);
        let (wide, narrow) = (bk.pixels(&bytes, &table), bk.pixels_elem(&bytes, &table));
        io.output(bk, &wide);
        io.output(bk, &narrow);
    }

    fn rounding(&self) -> Rounding {
        Rounding::Single
    }

    fn thresholds(&self) -> Vec<Threshold> {
        vec![Threshold::new("PIECE", PIECE, self.shape.iter().product::<usize>() / RGB)]
    }

    fn cost(&self) -> Cost {
        let n = self.shape.iter().product::<usize>() as f64;
        // A byte is a quarter of a number.
        Cost { elements_forward: 2.5 * n, ..Cost::default() }
    }
}

/// One pixel, odd, two pieces and many.
pub fn cases<V: Visitor>(v: &mut V) {
    for (instance, shape) in
        [("one", &[1, 1, 1, 3][..]), ("odd", &[4, 5, 7, 3]), ("pieces", &[1, 17, 241, 3])]
    {
        v.visit(PixelsCase { instance, shape });
    }
    v.visit(Large(PixelsCase { instance: "many_pieces", shape: &[4, 61, 53, 3] }));
}

/// No images.
pub fn empty_case<V: Visitor>(v: &mut V) {
    v.visit(PixelsCase { instance: "empty", shape: &[0, 4, 4, 3] });
}

/// A size worth timing: views of the encoder.
pub fn large_cases<V: Visitor>(v: &mut V) {
    v.visit(PixelsCase { instance: "64x224x224x3", shape: &[64, 224, 224, 3] });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pixel_of_every_piece_is_looked_up() {
        let bk = Cpu::<f64>::new();
        // Channel c of byte x is 1000 c + x.
        let table: Vec<f64> =
            (0..RGB * BYTES).map(|i| (i / BYTES * 1000 + i % BYTES) as f64).collect();
        let table = Master::from_f64(&bk, &table, &[RGB, BYTES]);
        for pixels in [1, PIECE, PIECE + 1, 4 * PIECE + 3] {
            let x: Vec<u8> = (0..RGB * pixels).map(|i| (i * 7 % BYTES) as u8).collect();
            let want = x.iter().enumerate().map(|(i, &x)| (i % RGB * 1000) as f64 + f64::from(x));
            let want: Vec<f64> = want.collect();
            let x = Bytes::from_vec(&bk, x, &[pixels, RGB]);
            assert!(bk.pixels(&x, &table).to_vec(&bk) == want, "{pixels} pixels");
            assert!(bk.pixels_elem(&x, &table).to_vec(&bk) == want, "{pixels} pixels");
        }
    }
}
