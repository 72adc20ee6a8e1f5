//! Conversion and sums on CUDA: `cuda/convert.cu`.

use super::ConvertOp;
use crate::cuda::{Cuda, Grid, Precision, args};
use crate::tensor::{Master, Tensor};

impl<T: Precision> ConvertOp for Cuda<T> {
    #[track_caller]
    fn to_elem(&self, x: &Master<Self>, scale: f64) -> Tensor<Self> {
        let (y, n) = (self.unset(x.shape()), x.len());
        self.launch("to_elem", Grid::each(n), args![x, &y, scale, n]);
        y
    }

    #[track_caller]
    fn accumulate(&self, acc: &mut Master<Self>, x: &Tensor<Self>) {
        x.expect_shape("accumulate", "x", acc.shape());
        let n = x.len();
        self.launch("accumulate", Grid::each(n), args![acc, x, n]);
    }

    #[track_caller]
    fn add(&self, acc: &mut Master<Self>, x: &Master<Self>) {
        x.expect_shape("add", "x", acc.shape());
        let n = x.len();
        self.launch("add", Grid::each(n), args![acc, x, n]);
    }
}
