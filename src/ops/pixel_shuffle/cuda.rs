//! Channels to pixels on CUDA: `cuda/pixel_shuffle.cu`, and sums over rows by `cuda/common.cu`.

use super::{PixelShuffleOp, gathered, shuffled};
use crate::cuda::{Cuda, Grid, Precision, args};
use crate::params::{Param, Params};
use crate::tensor::Tensor;

impl<T: Precision> PixelShuffleOp for Cuda<T> {
    #[track_caller]
    fn pixel_shuffle_forward(
        &self,
        x: &Tensor<Self>,
        w: &Params<Self>,
        bias: &Param,
    ) -> Tensor<Self> {
        let shape = shuffled(x, bias);
        let (y, n) = (self.unset(&shape), x.len());
        let arguments = args![x, w.at(bias), &y, n, shape[2], shape[3]];
        self.launch("pixel_shuffle_forward", Grid::each(n), arguments);
        y
    }

    #[track_caller]
    fn pixel_shuffle_backward(
        &self,
        dy: &Tensor<Self>,
        bias: &Param,
        g: &mut Params<Self>,
    ) -> Tensor<Self> {
        let shape = gathered(dy, bias);
        let (dx, n, o) = (self.unset(&shape), dy.len(), bias.len());
        self.add_column_sums(dy.start(), (dy.rows(), o), g.at(bias));
        let arguments = args![dy, &dx, n, dy.shape()[2], o];
        self.launch("pixel_shuffle_backward", Grid::each(n), arguments);
        dx
    }
}
