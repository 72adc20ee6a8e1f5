//! A plane seen through a separable banded map: `y[b,I,J,c] = Σ_ij P_Ii Q_Jj x[b,i,j,c]`, which is bilinear
//! resizing and adaptive average pooling.
//!
//! Shapes: x `[B,h,w,C]`, P `[H,h]` and Q `[W,w]`; y `[B,H,W,C]` is some of the channels of a larger tensor, so
//! that what is to lie side by side in one tensor is written there at once. It may be added to what is there.
//!
//! * Bilinear, corners not aligned: row I of P has 1 − t at ⌊s⌋ and t at min(⌊s⌋ + 1, h − 1), where
//!   s = max((I + ½) h/H − ½, 0) and t = s − ⌊s⌋. Nothing is smoothed where a plane shrinks.
//! * Adaptive average: row I has 1/n at the n pixels ⌊I h/H⌋ .. ⌈(I + 1) h/H⌉. Bins overlap where H does not
//!   divide h, and repeat pixels where H > h.
//!
//! The numbers of a row other than 0 lie side by side: a band. The same is true of the columns, because bands
//! only move forwards.
//!
//! Backward: `dx[b,i,j,c] = Σ_IJ P_Ii Q_Jj dy[b,I,J,c]`, the transposed map. Kept for backward: nothing.
//! Source: `torch.nn.functional.interpolate` and `torch.nn.AdaptiveAvgPool2d`.

mod cpu;
#[cfg(feature = "cuda")]
mod cuda;
mod map;

pub use map::PlaneMap;

use crate::ops::Backend;
use crate::ops::case::{Case, Cost, Inputs, Io, Visitor};
use crate::storage::Storage;
use crate::tensor::Tensor;

/// A plane through a map, and its gradient.
pub trait ResizeOp: Storage {
    /// x `[B,h,w,C]`: writes its image `[B,H,W,C]` to the channels of y `[B,H,W,Cy]` from `at` on, or adds it
    /// to them. Other channels of y stay.
    fn resize_forward(
        &self,
        x: &Tensor<Self>,
        map: &PlaneMap<Self>,
        y: &mut Tensor<Self>,
        at: usize,
        add: bool,
    );

    /// dy `[B,H,W,Cy]`: writes dx `[B,h,w,C]`, or adds it, of the channels from `at` on.
    fn resize_backward(
        &self,
        dy: &Tensor<Self>,
        at: usize,
        map: &PlaneMap<Self>,
        dx: &mut Tensor<Self>,
        add: bool,
    );
}

impl<B: ResizeOp> PlaneMap<B> {
    /// x `[B,h,w,C]` -> y `[B,H,W,C]`.
    #[track_caller]
    pub fn forward(&self, bk: &B, x: &Tensor<B>) -> Tensor<B> {
        let mut y = resized(bk, x, self.to());
        bk.resize_forward(x, self, &mut y, 0, false);
        y
    }

    /// dy `[B,H,W,C]` -> dx `[B,h,w,C]`.
    #[track_caller]
    pub fn backward(&self, bk: &B, dy: &Tensor<B>) -> Tensor<B> {
        let mut dx = resized(bk, dy, self.from());
        bk.resize_backward(dy, 0, self, &mut dx, false);
        dx
    }
}

/// A tensor for planes of another size.
#[track_caller]
fn resized<B: Storage>(bk: &B, x: &Tensor<B>, (h, w): (usize, usize)) -> Tensor<B> {
    x.expect_rank("resize", "x", 4);
    Tensor::zeros(bk, &[x.shape()[0], h, w, x.cols()])
}

/// Where the channels of a call lie in a tensor: from `at` on in each pixel of `stride` numbers.
#[derive(Clone, Copy)]
struct Pixels {
    stride: usize,
    at: usize,
}

/// Where the channels of x and of y lie, and how many there are. Panics where x, the map and y do not fit
/// together; `op` names the direction, and x and y are dx and dy in the other.
#[track_caller]
fn checked<B: Storage>(
    op: &str,
    (narrow, from): (&Tensor<B>, (usize, usize)),
    (broad, to): (&Tensor<B>, (usize, usize)),
    at: usize,
) -> (Pixels, Pixels, usize) {
    let &[b, h, w, c] = narrow.shape() else {
        panic!("{op}: x is {:?}, expected [B,h,w,C]", narrow.shape());
    };
    assert!((h, w) == from, "{op}: x is {:?}, the map is from {from:?}", narrow.shape());
    let stride = broad.cols();
    broad.expect_shape(op, "y", &[b, to.0, to.1, stride]);
    assert!(at + c <= stride, "{op}: channels {at}..{} of {stride} of y", at + c);
    (Pixels { stride: c, at: 0 }, Pixels { stride, at }, c)
}

/// The op at one size.
pub struct ResizeCase {
    instance: &'static str,
    /// B, h, w, C.
    shape: [usize; 4],
    to: (usize, usize),
    average: bool,
    /// Channels of y.
    channels: usize,
    /// Where x is written to, and whether it is added.
    parts: &'static [(usize, bool)],
}

impl ResizeCase {
    fn map<B: Storage>(&self, bk: &B) -> PlaneMap<B> {
        let [_, h, w, _] = self.shape;
        match self.average {
            true => PlaneMap::average(bk, (h, w), self.to),
            false => PlaneMap::bilinear(bk, (h, w), self.to),
        }
    }
}

impl Case for ResizeCase {
    fn name(&self) -> String {
        format!("resize/{}", self.instance)
    }

    fn inputs(&self) -> Inputs {
        let y = [self.shape[0], self.to.0, self.to.1, self.channels];
        Inputs::new(&self.name()).elem("x", &self.shape).elem("y", &y)
    }

    fn run<B: Backend>(&self, bk: &B, io: &mut Io<B>) {
        let (map, x, mut y) = (self.map(bk), io.elem("x"), io.elem("y"));
        io.forward_begins(bk);
        for &(at, add) in self.parts {
            bk.resize_forward(&x, &map, &mut y, at, add);
        }
        io.output(bk, &y);
        if io.wants_backward() {
            let mut dy: Tensor<B> = io.upstream(bk, 0);
            let mut dx = Tensor::zeros(bk, x.shape());
            for (i, &(at, _)) in self.parts.iter().enumerate() {
                bk.resize_backward(&dy, at, &map, &mut dx, i > 0);
            }
            io.grad(bk, "x", &dx);
            // What is written over has no gradient.
            let nothing = Tensor::zeros(bk, x.shape());
            for &(at, _) in self.parts.iter().filter(|(_, add)| !add) {
                bk.resize_forward(&nothing, &map, &mut dy, at, false);
            }
            io.grad(bk, "y", &dy);
        }
    }

    fn cost(&self) -> Cost {
        let [b, h, w, c] = self.shape.map(|n| n as f64);
        let (to_h, to_w) = (self.to.0 as f64, self.to.1 as f64);
        let taps = |from: f64, to: f64| match self.average {
            true => (from / to.max(1.0)).max(1.0),
            false => 2.0,
        };
        let parts = self.parts.len() as f64;
        let flops = 2.0 * parts * b * to_h * to_w * c * taps(h, to_h) * taps(w, to_w);
        let elements = parts * b * c * (h * w + to_h * to_w);
        Cost {
            flops_forward: flops,
            flops_backward: flops,
            elements_forward: elements,
            elements_backward: elements,
        }
    }
}

/// Up, down, across, from and to one pixel, the identity; bins that divide, overlap and repeat; alone, beside
/// other channels, added to them, twice.
pub fn cases<V: Visitor>(v: &mut V) {
    const ALONE: &[(usize, bool)] = &[(0, false)];
    for (instance, shape, to, average, channels, parts) in [
        ("up", [1, 2, 3, 2], (4, 6), false, 2, ALONE),
        ("up_odd", [4, 5, 2, 1], (7, 3), false, 3, &[(1, true)]),
        ("down", [2, 7, 5, 3], (3, 4), false, 5, &[(2, false)]),
        ("one_pixel", [2, 1, 1, 3], (3, 4), false, 3, ALONE),
        ("to_one_pixel", [1, 4, 6, 2], (1, 1), false, 3, &[(0, true)]),
        ("identity", [2, 3, 4, 2], (3, 4), false, 5, &[(0, false), (3, true)]),
        ("twice", [1, 3, 2, 2], (5, 4), false, 4, &[(2, false), (1, true)]),
        ("average", [2, 6, 4, 2], (3, 2), true, 2, ALONE),
        ("average_uneven", [5, 5, 7, 2], (3, 3), true, 3, &[(1, false)]),
        ("average_repeats", [1, 2, 3, 3], (6, 6), true, 3, ALONE),
        ("average_of_all", [3, 4, 3, 5], (1, 1), true, 6, &[(0, true)]),
    ] {
        v.visit(ResizeCase { instance, shape, to, average, channels, parts });
    }
}

/// An empty batch.
pub fn empty_case<V: Visitor>(v: &mut V) {
    let (to, parts) = ((4, 4), &[(0, false)]);
    let shape = [0, 2, 2, 3];
    v.visit(ResizeCase { instance: "empty", shape, to, average: false, channels: 3, parts });
}

/// The coarsest map of a pyramid put beside the finest, and pooling in front of a pyramid.
pub fn large_cases<V: Visitor>(v: &mut V) {
    for (instance, shape, to, average, channels) in [
        ("2x16x16x512_up", [2, 16, 16, 512], (128, 128), false, 2048),
        ("2x16x16x768_average", [2, 16, 16, 768], (6, 6), true, 768),
    ] {
        let parts = &[(0, false)];
        v.visit(ResizeCase { instance, shape, to, average, channels, parts });
    }
}
