//! Squared error on CUDA: `cuda/mse.cu`.

use super::{MseOp, check};
use crate::cuda::{Cuda, Grid, Precision, args};
use crate::tensor::Master;

impl<T: Precision> MseOp for Cuda<T> {
    #[track_caller]
    fn mse_forward(&self, x: &Master<Self>, out: &Master<Self>) -> Master<Self> {
        check("mse", x, out);
        let images = x.shape()[0];
        let (n, sums) = (x.len() / images.max(1), self.unset(&[images]));
        let arguments = args![x, out, &sums, n, x.cols(), out.cols()];
        self.launch("mse_forward", Grid::rows(images, n), arguments);
        sums
    }

    #[track_caller]
    fn mse_backward(&self, x: &Master<Self>, out: &Master<Self>, scale: f64) -> Master<Self> {
        check("mse_backward", x, out);
        let (dout, n) = (self.unset(out.shape()), out.len());
        let arguments = args![x, out, scale, &dout, n, x.cols(), out.cols()];
        self.launch("mse_backward", Grid::each(n), arguments);
        dout
    }
}
