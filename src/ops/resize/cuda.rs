//! Maps of planes on CUDA: `cuda/resize.cu`.

use super::map::Axes;
use super::{Pixels, PlaneMap, ResizeOp, checked};
use crate::cuda::{Cuda, Grid, Precision, args};
use crate::tensor::Tensor;

/// Takes the images of x along `axes` into channels of y.
#[track_caller]
fn apply<T: Precision>(
    bk: &Cuda<T>,
    ([rows, columns], identity): (&Axes<Cuda<T>>, bool),
    (x, from): (&Tensor<Cuda<T>>, Pixels),
    (y, to): (&Tensor<Cuda<T>>, Pixels),
    (channels, add): (usize, bool),
) {
    let (pixels, height, width) = (y.rows(), y.shape()[1], y.shape()[2]);
    let n = pixels * channels;
    if identity && !add {
        let arguments = args![x, y, n, channels, from.stride, from.at, to.stride, to.at];
        bk.launch("resize_copy", Grid::each(n), arguments);
        return;
    }
    let arguments = args![
        x,
        y,
        n,
        channels,
        from.stride,
        from.at,
        to.stride,
        to.at,
        x.shape()[1],
        x.shape()[2],
        height,
        width,
        &rows.places,
        &rows.weights,
        rows.weights.cols(),
        &columns.places,
        &columns.weights,
        columns.weights.cols(),
        add,
    ];
    bk.launch("resize", Grid::each(n), arguments);
}

impl<T: Precision> ResizeOp for Cuda<T> {
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
        apply(self, (&map.backward, map.identity), (dy, from), (dx, to), (c, add));
    }
}
