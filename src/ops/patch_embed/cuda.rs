//! Patch embedding on CUDA: one product over the flattened patches (`cuda/patch_embed.cu`).

use super::{PatchEmbed, PatchEmbedOp, Patches};
use crate::cuda::{Cuda, DeviceBuffer, Grid, Precision, args, plain, transposed};
use crate::ops::convert::ConvertOp;
use crate::params::Params;
use crate::tensor::{Master, Tensor};

/// The flattened patches of x.
#[track_caller]
fn gather<T: Precision>(
    bk: &Cuda<T>,
    patches: &Patches,
    x: &Tensor<Cuda<T>>,
) -> DeviceBuffer<T::Elem> {
    let (n, flat) = (x.len(), bk.scratch(x.len()));
    let arguments = args![x, &flat, n, patches.grid.1, patches.side, patches.channels];
    bk.launch("patch_embed_gather", Grid::each(n), arguments);
    flat
}

impl<T: Precision> PatchEmbedOp for Cuda<T> {
    #[track_caller]
    fn patch_embed_forward(
        &self,
        x: &Tensor<Self>,
        w: &Params<Self>,
        p: &PatchEmbed,
    ) -> Master<Self> {
        let PatchEmbed { weight, bias } = p;
        let patches = Patches::of("patch_embed", x, p);
        let (e, flat) = (self.unset(&patches.out()), gather(self, &patches, x));
        let (n, c) = (e.len(), patches.width);
        self.launch("fill_rows_master", Grid::each(n), args![&e, w.at(bias), 1.0, n, c]);
        let factors = (plain(flat.start()), transposed(w.elem_at(weight)));
        self.gemm((e.rows(), patches.len(), c), 1.0, factors.0, factors.1, 1.0, e.start());
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
        let (rows, c, taps) = (de.rows(), patches.width, patches.len());
        // e = X Wᵀ + bias   =>   dbias += column sums of de, dW += deᵀ X, dX = de W
        self.add_column_sums(de.start(), (rows, c), g.at(bias));
        let (flat, de) = (gather(self, &patches, x), self.to_elem(de, 1.0));
        if rows > 0 {
            let factors = (transposed(de.start()), plain(flat.start()));
            self.gemm((c, rows, taps), 1.0, factors.0, factors.1, 1.0, g.at(weight));
        }
        need_dx.then(|| {
            let (dx, n) = (self.unset(x.shape()), x.len());
            let factors = (plain(de.start()), plain(w.elem_at(weight)));
            self.gemm((rows, c, taps), 1.0, factors.0, factors.1, 0.0, flat.start());
            let arguments = args![&flat, &dx, n, patches.grid.1, patches.side, patches.channels];
            self.launch("patch_embed_scatter", Grid::each(n), arguments);
            dx
        })
    }
}
