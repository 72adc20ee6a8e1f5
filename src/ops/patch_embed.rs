//! Patch embedding: each P x P patch, flattened, times a matrix; a convolution whose stride is its
//! kernel.
//!
//! Shapes: x `[B,Ih,Iw,3]`, weight `[C,P,P,3]` (a kernel, `[C,3,P,P]` in checkpoints), bias `[C]`,
//! e `[B,Np,C]` with Np = Gh Gw, Gh = Ih/P, Gw = Iw/P, patches row-major. The number of channels is
//! that of x. With X `[B*Np, P*P*3]` the flattened patches and W `[C, P*P*3]`: e = X Wᵀ + bias.
//!
//! Backward. Patches do not overlap, so flattening is a permutation of the pixels:
//! * dW += deᵀ X, dbias += column sums of de
//! * dX = de W, and dx is dX with each number back in its pixel
//!
//! Kept for backward: x; X is gathered again. Source: Dosovitskiy et al., arXiv 2010.11929, eq. 1;
//! BEiT `modeling_finetune.py`, class PatchEmbed.

#[cfg(feature = "cuda")]
mod cuda;

use crate::cpu::pieces::{Cut, Pieces};
use crate::cpu::scalar::Scalar;
use crate::cpu::{Cpu, add_column_sums, fill_rows, gemm};
use crate::ops::Backend;
use crate::ops::case::{Case, Cost, Inputs, Io, Large, Threshold, Visitor};
use crate::params::{Ctx, Decay, Form, Grad, Init, Param, Params, Registry};
use crate::real::Real;
use crate::storage::Storage;
use crate::tensor::{Master, Tensor};
use ndarray::{ArrayView2, ArrayViewMut2};

/// Parameters of a patch embedding.
#[derive(Clone, Debug)]
pub struct PatchEmbed {
    /// `[C,P,P,3]`.
    pub weight: Param,
    /// `[C]`.
    pub bias: Param,
}

impl PatchEmbed {
    /// `patch_embed.proj.weight` and `.bias`, of patches of this side and so many channels.
    pub fn new(
        reg: &mut Registry,
        (patch, channels): (usize, usize),
        width: usize,
        init: Init,
    ) -> Self {
        let shape = [width, patch, patch, channels];
        let (weight, bias) = ("patch_embed.proj.weight", "patch_embed.proj.bias");
        Self {
            weight: reg.add_as(weight, &shape, Decay::Yes, init, Form::Kernel),
            bias: reg.add(bias, &[width], Decay::No, Init::Constant(0.0)),
        }
    }

    /// x `[B,Ih,Iw,3]` -> e `[B,Np,C]`.
    pub fn forward<B: PatchEmbedOp>(&self, ctx: Ctx<B>, x: &Tensor<B>) -> Master<B> {
        ctx.bk.patch_embed_forward(x, ctx.w, self)
    }

    /// de `[B,Np,C]` -> dx where wanted (training never needs the gradient of the image).
    pub fn backward<B: PatchEmbedOp>(
        &self,
        grad: &mut Grad<B>,
        x: &Tensor<B>,
        de: &Master<B>,
        need_dx: bool,
    ) -> Option<Tensor<B>> {
        grad.ctx.bk.patch_embed_backward(x, grad.ctx.w, self, de, grad.g, need_dx)
    }
}

/// Patches to vectors, and the gradients.
pub trait PatchEmbedOp: Storage {
    /// x `[B,Ih,Iw,3]` -> e `[B,Np,C]`.
    fn patch_embed_forward(
        &self,
        x: &Tensor<Self>,
        w: &Params<Self>,
        p: &PatchEmbed,
    ) -> Master<Self>;

    /// de `[B,Np,C]` -> dx `[B,Ih,Iw,3]` if wanted; adds dweight and dbias to `g`.
    fn patch_embed_backward(
        &self,
        x: &Tensor<Self>,
        w: &Params<Self>,
        p: &PatchEmbed,
        de: &Master<Self>,
        g: &mut Params<Self>,
        need_dx: bool,
    ) -> Option<Tensor<Self>>;
}

/// Sizes of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patches {
    /// B
    pub batch: usize,
    /// Gh, Gw
    pub grid: (usize, usize),
    /// P
    pub side: usize,
    /// Channels of x.
    pub channels: usize,
    /// C
    pub width: usize,
}

impl Patches {
    /// Reads the sizes off the arguments. Panics where they do not fit together.
    #[track_caller]
    pub fn of<B: Storage>(op: &str, x: &Tensor<B>, p: &PatchEmbed) -> Self {
        let PatchEmbed { weight, bias } = p;
        let [batch, height, width, channels] = x.shape()[..] else {
            panic!("{op}: x is {:?}, expected [B,Ih,Iw,3]", x.shape())
        };
        let [out, side, ..] = weight.shape[..] else {
            panic!("{op}: parameter {} is {:?}, expected [C,P,P,3]", weight.name, weight.shape)
        };
        weight.expect_shape(op, &[out, side, side, channels]);
        bias.expect_shape(op, &[out]);
        assert!(
            side > 0 && height.is_multiple_of(side) && width.is_multiple_of(side),
            "{op}: x is {:?}, expected sides divisible by the patch side {side}",
            x.shape()
        );
        Self { batch, grid: (height / side, width / side), side, channels, width: out }
    }

    /// `[B,Np,C]`
    pub fn out(&self) -> [usize; 3] {
        [self.batch, self.grid.0 * self.grid.1, self.width]
    }

    /// Numbers in one patch.
    fn len(&self) -> usize {
        self.side * self.side * self.channels
    }

    /// One image's rows of patches: P rows of pixels each.
    fn band(&self) -> usize {
        self.grid.1 * self.len()
    }

    /// For each run of pixels of a band that stays together: where it starts in the band, and where
    /// in the band's flattened patches.
    fn runs(&self) -> impl Iterator<Item = (usize, usize)> {
        let (gw, side, run) = (self.grid.1, self.side, self.side * self.channels);
        (0..side)
            .flat_map(move |u| (0..gw).map(move |p| ((u * gw + p) * run, (p * side + u) * run)))
    }

    /// The flattened patches `[B*Np, P*P*3]`.
    fn gather<T: Real>(&self, x: &[T]) -> Vec<T> {
        let (band, run) = (self.band(), self.side * self.channels);
        let mut flat = vec![T::ZERO; x.len()];
        flat.par_chunks_mut(band).zip(x.par_chunks(band)).for_each(|(flat, x)| {
            for (from, to) in self.runs() {
                flat[to..to + run].copy_from_slice(&x[from..from + run]);
            }
        });
        flat
    }

    fn matrix<'a, T>(&self, flat: &'a [T]) -> ArrayView2<'a, T> {
        let rows = self.batch * self.grid.0 * self.grid.1;
        ArrayView2::from_shape((rows, self.len()), flat).expect("checked at entry")
    }
}

impl<T: Scalar> PatchEmbedOp for Cpu<T> {
    #[track_caller]
    fn patch_embed_forward(
        &self,
        x: &Tensor<Self>,
        w: &Params<Self>,
        p: &PatchEmbed,
    ) -> Master<Self> {
        let PatchEmbed { weight, bias } = p;
        let patches = Patches::of("patch_embed", x, p);
        let mut e: Master<Self> = self.unset(&patches.out());
        let (flat, weight) = (patches.gather(&x.wide()), w.operand_matrix(weight));
        fill_rows(e.slice_mut(), w.get(bias));
        gemm(T::Master::ONE, patches.matrix(&flat), weight.t(), T::Master::ONE, e.matrix_mut());
        e
    }

    #[track_caller]
    fn patch_embed_backward(
        &self,
        x: &Tensor<Self>,
        w: &Params<Self>,
        p: &PatchEmbed,
        de: &Master<Self>,
        g: &mut Params<Self>,
        need_dx: bool,
    ) -> Option<Tensor<Self>> {
        let PatchEmbed { weight, bias } = p;
        let patches = Patches::of("patch_embed_backward", x, p);
        de.expect_shape("patch_embed_backward", "de", &patches.out());
        // e = X Wᵀ + bias   =>   dbias += column sums of de, dW += deᵀ X, dX = de W
        add_column_sums(de.slice(), g.get_mut(bias));
        let (mut flat, one) = (patches.gather(&x.wide()), T::Master::ONE);
        let de = de.operand_matrix();
        gemm(one, de.t(), patches.matrix(&flat), one, g.matrix_mut(weight));
        need_dx.then(|| {
            let dx =
                ArrayViewMut2::from_shape(patches.matrix(&flat).dim(), &mut flat).expect("fits");
            gemm(one, de.view(), w.operand_matrix(weight).view(), T::Master::ZERO, dx);
            let mut dx = Master::zeros(self, x.shape());
            let (band, run) = (patches.band(), patches.side * patches.channels);
            let bands = dx.slice_mut().par_chunks_mut(band).zip(flat.par_chunks(band));
            bands.for_each(|(dx, flat)| {
                for (to, from) in patches.runs() {
                    dx[to..to + run].copy_from_slice(&flat[from..from + run]);
                }
            });
            self.narrow(dx)
        })
    }
}

/// The op at one size.
pub struct PatchEmbedCase {
    pub(crate) instance: &'static str,
    pub(crate) patches: Patches,
}

impl Case for PatchEmbedCase {
    fn name(&self) -> String {
        format!("patch_embed/{}", self.instance)
    }

    fn inputs(&self) -> Inputs {
        let Patches { batch, grid: (gh, gw), side, channels, width } = self.patches;
        Inputs::new(&self.name())
            .elem("x", &[batch, gh * side, gw * side, channels])
            .param("weight", &[width, side, side, channels])
            .param("bias", &[width])
    }

    fn run<B: Backend>(&self, bk: &B, io: &mut Io<B>) {
        let x = io.elem("x");
        let p = PatchEmbed { weight: io.param("weight"), bias: io.param("bias") };
        let e = bk.patch_embed_forward(&x, &io.w, &p);
        io.output(bk, &e);
        if io.wants_backward() {
            let de = io.upstream(bk, 0);
            let dx = bk.patch_embed_backward(&x, &io.w, &p, &de, &mut io.g, true);
            io.grad(bk, "x", &dx.expect("asked for"));
        }
    }

    fn thresholds(&self) -> Vec<Threshold> {
        let Patches { batch, grid: (gh, gw), width, .. } = self.patches;
        let rows = batch * gh * gw;
        let [first, second] = Threshold::fold_rows(rows);
        vec![
            Threshold::rows_per_task(rows, width),
            Threshold::new("batch", 3, batch),
            first,
            second,
        ]
    }

    fn cost(&self) -> Cost {
        let [b, n, c] = self.patches.out().map(|n| n as f64);
        let k = self.patches.len() as f64;
        Cost {
            flops_forward: 2.0 * b * n * k * c,
            flops_backward: 4.0 * b * n * k * c,
            elements_forward: b * n * (k + c) + k * c,
            elements_backward: b * n * (2.0 * k + c) + 2.0 * k * c,
        }
    }
}

/// Smallest, a grid and a channel count that are odd, the tiny preset (32 x 32 pixels, patches of 4),
/// batches of both kinds of grids, several tasks and pieces of sums.
pub fn cases<V: Visitor>(v: &mut V) {
    for (instance, batch, grid, side, channels, width) in [
        ("one", 1, (1, 1), 1, 1, 1),
        ("odd", 2, (2, 3), 3, 3, 5),
        ("tall", 3, (5, 2), 2, 2, 3),
        ("tiny", 2, (8, 8), 4, 3, 128),
        ("wide", 4, (2, 5), 3, 2, 3),
        ("pieces", 11, (3, 1), 2, 1, 3),
    ] {
        let patches = Patches { batch, grid, side, channels, width };
        v.visit(PatchEmbedCase { instance, patches });
    }
    // 16 rows of 1024 numbers are filled by a task.
    for (instance, batch, grid, side, channels, width) in [
        ("task_and_one", 1, (1, 17), 1, 2, 1024),
        ("many_tasks", 1, (7, 7), 1, 2, 1024),
        ("sum_and_one", 1, (27, 19), 2, 1, 3),
        ("many_sums", 4, (31, 17), 2, 1, 2),
    ] {
        let patches = Patches { batch, grid, side, channels, width };
        v.visit(Large(PatchEmbedCase { instance, patches }));
    }
}

/// An empty batch.
pub fn empty_case<V: Visitor>(v: &mut V) {
    v.visit(PatchEmbedCase {
        instance: "empty",
        patches: Patches { batch: 0, grid: (2, 2), side: 2, channels: 3, width: 2 },
    });
}

/// A size worth timing: BEiT-B and its tokenizer.
pub fn large_cases<V: Visitor>(v: &mut V) {
    let patches = Patches { batch: 32, grid: (14, 14), side: 16, channels: 3, width: 768 };
    v.visit(PatchEmbedCase { instance: "32x14x14_p16_768", patches });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first number of each patch, row by row, on a grid that is wider than high.
    #[test]
    fn patches_are_in_the_order_of_the_image() {
        let (bk, mut registry) = (Cpu::<f64>::new(), Registry::new());
        let p = PatchEmbed::new(&mut registry, (2, 3), 1, Init::Constant(0.0));
        let layout = registry.finish();
        let mut values = vec![0.0; crate::params::arena_len(&layout)];
        values[p.weight.range.start] = 1.0;
        let w = Params::from_host(&bk, &layout, &values);
        let pixels: Vec<f64> = (0..4 * 14 * 3).map(f64::from).collect();
        let e = p.forward(Ctx::new(&bk, &w), &Tensor::from_f64(&bk, &pixels, &[1, 4, 14, 3]));
        let first = |row: u32, col: u32| f64::from((2 * row * 14 + 2 * col) * 3);
        let want: Vec<f64> = (0..14).map(|i| first(i / 7, i % 7)).collect();
        assert_eq!(e.to_f64(&bk), want);
    }

    #[test]
    #[should_panic(
        expected = "patch_embed: x is [1, 6, 8, 3], expected sides divisible by the patch side 4"
    )]
    fn a_side_that_is_no_multiple_of_the_patch() {
        let bk = Cpu::<f32>::new();
        let mut registry = Registry::new();
        let weight = registry.add("weight", &[2, 4, 4, 3], Decay::Yes, Init::Constant(0.0));
        let bias = registry.add("bias", &[2], Decay::No, Init::Constant(0.0));
        let w = Params::zeros(&bk, &registry.finish());
        bk.patch_embed_forward(
            &Tensor::zeros(&bk, &[1, 6, 8, 3]),
            &w,
            &PatchEmbed { weight, bias },
        );
    }

    #[test]
    fn patches_come_row_by_row_and_scatter_undoes_gather() {
        let patches = Patches { batch: 1, grid: (2, 2), side: 2, channels: 1, width: 1 };
        let image: Vec<f64> = (0..16).map(f64::from).collect();
        // The 4 x 4 image 0..16 in 2 x 2 patches, by hand.
        let want = [0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15].map(f64::from);
        assert_eq!(patches.gather(&image), want);
    }
}
