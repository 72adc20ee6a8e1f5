//! ReLU on CUDA: `cuda/relu.cu`.

use super::ReluOp;
use crate::cuda::{Cuda, Grid, Precision, args};
use crate::tensor::Tensor;

impl<T: Precision> ReluOp for Cuda<T> {
    #[track_caller]
    fn relu_forward(&self, x: &Tensor<Self>) -> Tensor<Self> {
        let (y, n) = (self.unset(x.shape()), x.len());
        self.launch("relu_forward", Grid::each(n), args![x, &y, n]);
        y
    }

    #[track_caller]
    fn relu_backward(&self, x: &Tensor<Self>, dy: &Tensor<Self>) -> Tensor<Self> {
        dy.expect_shape("relu_backward", "dy", x.shape());
        let (dx, n) = (self.unset(x.shape()), x.len());
        self.launch("relu_backward", Grid::each(n), args![x, dy, &dx, n]);
        dx
    }
}
