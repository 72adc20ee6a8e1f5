//! Dropout of channels on CUDA: `cuda/dropout2d.cu`.

use super::{Dropout2dOp, plane};
use crate::cuda::{Cuda, Grid, Precision, args};
use crate::tensor::{Master, Tensor};

impl<T: Precision> Dropout2dOp for Cuda<T> {
    #[track_caller]
    fn dropout2d(&self, x: &Tensor<Self>, keep: &Master<Self>) -> Tensor<Self> {
        let (h, w, c) = plane(x, keep);
        let (y, n) = (self.unset(x.shape()), x.len());
        self.launch("dropout2d", Grid::each(n), args![x, keep, &y, n, h * w, c]);
        y
    }
}
