//! The mean over the patch tokens on CUDA: `cuda/mean_pool.cu`.

use super::MeanPoolOp;
use crate::cuda::{Cuda, Grid, Precision, args};
use crate::tensor::Master;

impl<T: Precision> MeanPoolOp for Cuda<T> {
    #[track_caller]
    fn mean_pool_forward(&self, s: &Master<Self>) -> Master<Self> {
        let [batch, tokens, c] = s.shape()[..] else {
            panic!("mean_pool: s is {:?}, expected [B,N,C]", s.shape())
        };
        assert!(tokens >= 2, "mean_pool: s is {:?}, expected at least 2 tokens", s.shape());
        let (y, n) = (self.unset(&[batch, c]), batch * c);
        self.launch("mean_pool_forward", Grid::each(n), args![s, &y, n, tokens, c]);
        y
    }

    #[track_caller]
    fn mean_pool_backward(&self, dy: &Master<Self>, tokens: usize) -> Master<Self> {
        dy.expect_rank("mean_pool_backward", "dy", 2);
        assert!(tokens >= 2, "mean_pool_backward: tokens is {tokens}, expected at least 2");
        let (batch, c) = (dy.shape()[0], dy.shape()[1]);
        let ds = self.unset(&[batch, tokens, c]);
        let n = ds.len();
        self.launch("mean_pool_backward", Grid::each(n), args![dy, &ds, n, tokens, c]);
        ds
    }
}
