//! GELU on CUDA: `cuda/gelu.cu`.

use super::GeluOp;
use crate::cuda::{Cuda, Grid, Precision, args};
use crate::tensor::Tensor;

impl<T: Precision> GeluOp for Cuda<T> {
    #[track_caller]
    fn gelu_forward(&self, x: &Tensor<Self>) -> Tensor<Self> {
        let (y, n) = (self.unset(x.shape()), x.len());
        self.launch("gelu_forward", Grid::each(n), args![x, &y, n]);
        y
    }

    #[track_caller]
    fn gelu_backward(&self, x: &Tensor<Self>, mut dy: Tensor<Self>) -> Tensor<Self> {
        dy.expect_shape("gelu_backward", "dy", x.shape());
        let n = x.len();
        self.launch("gelu_backward", Grid::each(n), args![x, &mut dy, n]);
        dy
    }
}
