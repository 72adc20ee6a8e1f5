//! Max pooling on CUDA: `cuda/max_pool.cu`.

use super::{MaxPoolOp, halved};
use crate::cuda::{Cuda, Grid, Precision, args};
use crate::tensor::{Ids, Master};

impl<T: Precision> MaxPoolOp for Cuda<T> {
    #[track_caller]
    fn max_pool_forward(&self, x: &Master<Self>) -> (Master<Self>, Ids<Self>) {
        let shape = halved("max_pool", x.shape());
        let (y, choice) = (self.unset(&shape), self.unset(&shape));
        let (n, height, width) = (y.len(), x.shape()[1], x.shape()[2]);
        let arguments = args![x, &y, &choice, n, height, width, shape[3]];
        self.launch("max_pool_forward", Grid::each(n), arguments);
        (y, choice)
    }

    #[track_caller]
    fn max_pool_backward(
        &self,
        choice: &Ids<Self>,
        dy: &Master<Self>,
        shape: &[usize],
    ) -> Master<Self> {
        let [.., channels] = halved("max_pool_backward", shape);
        dy.expect_shape("max_pool_backward", "dy", choice.shape());
        let dx = self.unset(shape);
        let n = dx.len();
        let arguments = args![choice, dy, &dx, n, shape[1], shape[2], channels];
        self.launch("max_pool_backward", Grid::each(n), arguments);
        dx
    }
}
