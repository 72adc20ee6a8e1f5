//! Rows of unit length on CUDA: `cuda/unit_rows.cu`.

use super::{EPS, UnitRowsOp};
use crate::cuda::{Cuda, Grid, Precision, args};
use crate::tensor::Master;

impl<T: Precision> UnitRowsOp for Cuda<T> {
    fn unit_rows_forward(&self, x: &Master<Self>) -> Master<Self> {
        let (rows, d, y) = (x.rows(), x.cols(), self.unset(x.shape()));
        self.launch("unit_rows_forward", Grid::rows(rows, d), args![x, &y, d, EPS]);
        y
    }

    #[track_caller]
    fn unit_rows_backward(&self, x: &Master<Self>, dy: &Master<Self>) -> Master<Self> {
        dy.expect_shape("unit_rows_backward", "dy", x.shape());
        let (rows, d, dx) = (x.rows(), x.cols(), self.unset(x.shape()));
        self.launch("unit_rows_backward", Grid::rows(rows, d), args![x, dy, &dx, d, EPS]);
        dx
    }
}
