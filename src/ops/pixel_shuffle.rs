//! Channels to pixels: `y[b,2i+u,2j+v,o] = x[b,i,j,(2u+v)O+o] + bias[o]`, u and v in {0,1}.
//!
//! Shapes: x `[B,H,W,4O]` -> y `[B,2H,2W,O]`, bias `[O]`. Behind a linear layer of 4 O outputs this is a
//! transposed convolution of 2×2 and stride 2, whose taps do not overlap
//! ([`Deconv`](crate::layers::deconv::Deconv)).
//!
//! Backward: each number of y is one of x, so
//! * `dx[b,i,j,(2u+v)O+o] = dy[b,2i+u,2j+v,o]`
//! * `dbias[o] += Σ dy[b,i,j,o]`
//!
//! Kept for backward: nothing. Source: `torch.nn.ConvTranspose2d`; Shi et al., arXiv 1609.05158, §3.2.

#[cfg(feature = "cuda")]
mod cuda;

use crate::cpu::pieces::{Cut, Pieces};
use crate::cpu::scalar::Scalar;
use crate::cpu::{Cpu, fold_rows, simd};
use crate::ops::Backend;
use crate::ops::case::{Case, Cost, Inputs, Io, Large, Threshold, Visitor};
use crate::params::{Param, Params};
use crate::storage::Storage;
use crate::tensor::{Master, Tensor};

/// Channels to pixels, a bias on top, and the gradients.
pub trait PixelShuffleOp: Storage {
    /// x `[B,H,W,4O]` -> y `[B,2H,2W,O]`.
    fn pixel_shuffle_forward(
        &self,
        x: &Tensor<Self>,
        w: &Params<Self>,
        bias: &Param,
    ) -> Tensor<Self>;

    /// dy `[B,2H,2W,O]` -> dx `[B,H,W,4O]`; adds dbias to `g`.
    fn pixel_shuffle_backward(
        &self,
        dy: &Tensor<Self>,
        bias: &Param,
        g: &mut Params<Self>,
    ) -> Tensor<Self>;
}

/// The shape of y.
#[track_caller]
fn shuffled<B: Storage>(x: &Tensor<B>, bias: &Param) -> [usize; 4] {
    let &[b, h, w, c] = x.shape() else {
        panic!("pixel_shuffle: x is {:?}, expected [B,H,W,4O]", x.shape());
    };
    assert!(c.is_multiple_of(4), "pixel_shuffle: x is {:?}, expected [B,H,W,4O]", x.shape());
    bias.expect_shape("pixel_shuffle", &[c / 4]);
    [b, 2 * h, 2 * w, c / 4]
}

/// The shape of dx.
#[track_caller]
fn gathered<B: Storage>(dy: &Tensor<B>, bias: &Param) -> [usize; 4] {
    let whole = |&[_, h, w, _]: &[usize; 4]| h.is_multiple_of(2) && w.is_multiple_of(2);
    let shape = <[usize; 4]>::try_from(dy.shape()).ok().filter(whole);
    let Some([b, h, w, o]) = shape else {
        panic!("pixel_shuffle_backward: dy is {:?}, expected [B,2H,2W,O]", dy.shape());
    };
    bias.expect_shape("pixel_shuffle_backward", &[o]);
    [b, h / 2, w / 2, 4 * o]
}

impl<T: Scalar> PixelShuffleOp for Cpu<T> {
    #[track_caller]
    fn pixel_shuffle_forward(
        &self,
        x: &Tensor<Self>,
        w: &Params<Self>,
        bias: &Param,
    ) -> Tensor<Self> {
        let shape = shuffled(x, bias);
        let [.., width, o] = shape;
        let mut y: Master<Self> = self.unset(&shape);
        let (x, bias) = (x.wide(), w.get(bias));
        y.slice_mut().par_chunks_mut((width * o).max(1)).enumerate().for_each(|(line, y)| {
            // Line 2i + u of y has the pixels of line i of x.
            let (x, u) = (&x[line / 2 * width / 2 * 4 * o..], line % 2);
            for (j, y) in y.chunks_exact_mut(o).enumerate() {
                let x = &x[(j / 2 * 4 + 2 * u + j % 2) * o..][..o];
                y.iter_mut().zip(x.iter().zip(bias)).for_each(|(y, (&x, &b))| *y = x + b);
            }
        });
        self.narrow(y)
    }

    #[track_caller]
    fn pixel_shuffle_backward(
        &self,
        dy: &Tensor<Self>,
        bias: &Param,
        g: &mut Params<Self>,
    ) -> Tensor<Self> {
        let shape = gathered(dy, bias);
        let ([_, _, width, c], o) = (shape, bias.len());
        let mut dx: Master<Self> = self.unset(&shape);
        let dy = dy.wide();
        dx.slice_mut().par_chunks_mut((width * c).max(1)).enumerate().for_each(|(line, dx)| {
            for (place, dx) in dx.chunks_exact_mut(o).enumerate() {
                let (j, u, v) = (place / 4, place % 4 / 2, place % 2);
                let at = ((2 * line + u) * width + j) * 2 + v;
                dx.copy_from_slice(&dy[at * o..][..o]);
            }
        });
        let rows = dx.rows();
        let sums = fold_rows(rows, o, |rows, sums| {
            let numbers = &dx.slice()[rows.start * c..rows.end * c];
            numbers.chunks_exact(o.max(1)).for_each(|dx| simd::add_assign(sums, dx));
        });
        simd::add_assign(g.get_mut(bias), &sums);
        self.narrow(dx)
    }
}

/// The op at one size.
pub struct PixelShuffleCase {
    instance: &'static str,
    grid: [usize; 3],
    output: usize,
}

impl Case for PixelShuffleCase {
    fn name(&self) -> String {
        format!("pixel_shuffle/{}", self.instance)
    }

    fn inputs(&self) -> Inputs {
        let [b, h, w] = self.grid;
        Inputs::new(&self.name())
            .elem("x", &[b, h, w, 4 * self.output])
            .param("bias", &[self.output])
    }

    fn run<B: Backend>(&self, bk: &B, io: &mut Io<B>) {
        let (x, bias) = (io.elem("x"), io.param("bias"));
        io.output(bk, &bk.pixel_shuffle_forward(&x, &io.w, &bias));
        if io.wants_backward() {
            let dy = io.upstream(bk, 0);
            let dx = bk.pixel_shuffle_backward(&dy, &bias, &mut io.g);
            io.grad(bk, "x", &dx);
        }
    }

    fn thresholds(&self) -> Vec<Threshold> {
        Threshold::fold_rows(self.grid.iter().product()).to_vec()
    }

    fn cost(&self) -> Cost {
        let n = 4.0 * (self.grid.iter().product::<usize>() * self.output) as f64;
        Cost {
            flops_forward: n,
            flops_backward: n,
            elements_forward: 2.0 * n,
            elements_backward: 2.0 * n,
        }
    }
}

/// One pixel, both kinds of grids, a batch, several pieces of the sum.
pub fn cases<V: Visitor>(v: &mut V) {
    for (instance, grid, output) in [
        ("one", [1, 1, 1], 1),
        ("tall", [2, 3, 2], 3),
        ("wide", [3, 2, 5], 2),
        ("batch", [5, 3, 2], 4),
        ("pieces", [1, 11, 3], 2),
    ] {
        v.visit(PixelShuffleCase { instance, grid, output });
    }
    for (instance, grid, output) in [("sum_and_one", [1, 27, 19], 2), ("many_sums", [4, 31, 17], 1)]
    {
        v.visit(Large(PixelShuffleCase { instance, grid, output }));
    }
}

/// An empty batch.
pub fn empty_case<V: Visitor>(v: &mut V) {
    v.visit(PixelShuffleCase { instance: "empty", grid: [0, 2, 2], output: 3 });
}

/// The second deconvolution of BEiT-B's neck.
pub fn large_cases<V: Visitor>(v: &mut V) {
    v.visit(PixelShuffleCase { instance: "2x64x64x768", grid: [2, 64, 64], output: 768 });
}
