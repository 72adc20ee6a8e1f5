//! KL to the uniform prior on CUDA: `cuda/kl_uniform.cu`.

use super::KlUniformOp;
use crate::cuda::{Cuda, Grid, Precision, args};
use crate::tensor::Master;

impl<T: Precision> KlUniformOp for Cuda<T> {
    #[track_caller]
    fn kl_uniform_forward(&self, logits: &Master<Self>) -> Master<Self> {
        let (rows, k) = (logits.rows(), logits.cols());
        let kl = self.unset(&logits.shape()[..logits.shape().len() - 1]);
        self.launch("kl_uniform_forward", Grid::rows(rows, k), args![logits, &kl, k]);
        kl
    }

    #[track_caller]
    fn kl_uniform_backward(&self, logits: &Master<Self>, scale: f64) -> Master<Self> {
        let (rows, k, dlogits) = (logits.rows(), logits.cols(), self.unset(logits.shape()));
        let arguments = args![logits, &dlogits, scale, k];
        self.launch("kl_uniform_backward", Grid::rows(rows, k), arguments);
        dlogits
    }
}
