//! Upsampling on CUDA: `cuda/upsample.cu`.

use super::UpsampleOp;
use crate::cuda::{Cuda, Grid, Precision, args};
use crate::tensor::Master;

impl<T: Precision> UpsampleOp for Cuda<T> {
    #[track_caller]
    fn upsample_forward(&self, x: &Master<Self>) -> Master<Self> {
        x.expect_rank("upsample", "x", 4);
        let [b, h, w, c] = [0, 1, 2, 3].map(|i| x.shape()[i]);
        let y = self.unset(&[b, 2 * h, 2 * w, c]);
        let n = y.len();
        self.launch("upsample_forward", Grid::each(n), args![x, &y, n, w, c]);
        y
    }

    #[track_caller]
    fn upsample_backward(&self, dy: &Master<Self>) -> Master<Self> {
        dy.expect_rank("upsample_backward", "dy", 4);
        let [b, h, w, c] = [0, 1, 2, 3].map(|i| dy.shape()[i]);
        assert!(h % 2 == 0 && w % 2 == 0, "upsample_backward: dy is {:?}", dy.shape());
        let dx = self.unset(&[b, h / 2, w / 2, c]);
        let n = dx.len();
        self.launch("upsample_backward", Grid::each(n), args![dy, &dx, n, w / 2, c]);
        dx
    }
}
