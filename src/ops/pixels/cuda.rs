//! Bytes to numbers on CUDA: `cuda/pixels.cu`.

use super::{PixelsOp, RGB, check};
use crate::cuda::{Cuda, Grid, Precision, args};
use crate::tensor::{Bytes, Master, Tensor};

impl<T: Precision> PixelsOp for Cuda<T> {
    #[track_caller]
    fn pixels(&self, x: &Bytes<Self>, table: &Master<Self>) -> Master<Self> {
        check(x, table);
        let (y, n) = (self.unset(x.shape()), x.len() / RGB);
        self.launch("pixels", Grid::each(n), args![x, table, &y, n]);
        y
    }

    #[track_caller]
    fn pixels_elem(&self, x: &Bytes<Self>, table: &Master<Self>) -> Tensor<Self> {
        check(x, table);
        let (y, n) = (self.unset(x.shape()), x.len() / RGB);
        self.launch("pixels_elem", Grid::each(n), args![x, table, &y, n]);
        y
    }
}
