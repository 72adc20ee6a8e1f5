//! The logit-Laplace likelihood on CUDA: `cuda/logit_laplace.cu`.

use super::{LN_B, LogitLaplaceOp, check};
use crate::cuda::{Cuda, Grid, Precision, args};
use crate::tensor::Master;

impl<T: Precision> LogitLaplaceOp for Cuda<T> {
    #[track_caller]
    fn logit_laplace_forward(&self, x: &Master<Self>, out: &Master<Self>) -> Master<Self> {
        check("logit_laplace", x, out);
        let images = x.shape()[0];
        let (n, sums) = (x.len() / images.max(1), self.unset(&[images]));
        let arguments = args![x, out, &sums, n, LN_B.0, LN_B.1];
        self.launch("logit_laplace_forward", Grid::rows(images, n), arguments);
        sums
    }

    #[track_caller]
    fn logit_laplace_backward(
        &self,
        x: &Master<Self>,
        out: &Master<Self>,
        scale: f64,
    ) -> (Master<Self>, Master<Self>) {
        check("logit_laplace_backward", x, out);
        let (dout, dx, n) = (self.unset(out.shape()), self.unset(x.shape()), x.len());
        let arguments = args![x, out, scale, &dout, &dx, n, LN_B.0, LN_B.1];
        self.launch("logit_laplace_backward", Grid::each(n), arguments);
        (dout, dx)
    }
}
