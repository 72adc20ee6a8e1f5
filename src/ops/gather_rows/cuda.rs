//! Rows picked by number on CUDA: `cuda/gather_rows.cu`.

use super::GatherRowsOp;
use crate::cuda::{Cuda, Grid, Precision, args};
use crate::tensor::{Ids, Tensor};

impl<T: Precision> GatherRowsOp for Cuda<T> {
    #[track_caller]
    fn gather_rows_forward(&self, x: &Tensor<Self>, rows: &Ids<Self>) -> Tensor<Self> {
        let (c, count) = (x.cols(), x.rows());
        let y = self.unset(&[rows.len(), c]);
        let n = y.len();
        let arguments = args![x, rows, &y, n, c, count, self.fault()];
        self.launch("gather_rows_forward", Grid::each(n), arguments);
        y
    }

    #[track_caller]
    fn gather_ids(&self, x: &Ids<Self>, places: &Ids<Self>) -> Ids<Self> {
        let (n, picked) = (places.len(), self.unset(&[places.len()]));
        let arguments = args![x, places, &picked, n, x.len(), self.fault()];
        self.launch("gather_ids", Grid::each(n), arguments);
        picked
    }

    #[track_caller]
    fn gather_rows_backward(
        &self,
        rows: &Ids<Self>,
        dy: &Tensor<Self>,
        shape: &[usize],
    ) -> Tensor<Self> {
        let dx = Tensor::zeros(self, shape);
        let (c, count, picked) = (dx.cols(), dx.rows(), rows.len());
        dy.expect_shape("gather_rows_backward", "dy", &[picked, c]);
        let arguments = args![rows, dy, &dx, picked, c, count, self.fault()];
        self.launch("gather_rows_backward", Grid::rows(picked, c), arguments);
        dx
    }
}
