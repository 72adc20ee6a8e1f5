//! KL of the aggregate posterior on CUDA: `cuda/kl_aggregate.cu`.

use super::KlAggregateOp;
use crate::cuda::{Cuda, Grid, Precision, RowPieces, args};
use crate::tensor::Master;

impl<T: Precision> KlAggregateOp for Cuda<T> {
    #[track_caller]
    fn kl_aggregate_forward(&self, logits: &Master<Self>) -> (Master<Self>, Master<Self>) {
        let (k, rows) = (logits.cols(), logits.rows());
        assert!(rows > 0, "kl_aggregate: logits is {:?}, expected a row", logits.shape());
        let (lse, kl) = (self.scratch::<T::Master>(rows), self.unset(&[1]));
        self.launch("kl_aggregate_lse", Grid::rows(rows, k), args![logits, &lse, k]);
        let pieces = RowPieces::of(rows);
        let partials = self.scratch(pieces.count * k);
        let arguments = args![logits, &lse, &partials, rows, k, pieces.step];
        self.launch("kl_aggregate_sums", Grid::pieces(k, pieces.count), arguments);
        let mean = Master::zeros(self, &[k]);
        self.add_partials(&partials, (0, k, k), pieces.count, mean.start());
        self.launch("kl_aggregate_forward", Grid::rows(1, k), args![&mean, &kl, rows, k]);
        (kl, mean)
    }

    #[track_caller]
    fn kl_aggregate_backward(
        &self,
        logits: &Master<Self>,
        mean: &Master<Self>,
        scale: f64,
    ) -> Master<Self> {
        let (k, rows, dlogits) = (logits.cols(), logits.rows(), self.unset(logits.shape()));
        mean.expect_shape("kl_aggregate_backward", "mean", &[k]);
        let arguments = args![logits, mean, &dlogits, scale / rows as f64, k];
        self.launch("kl_aggregate_backward", Grid::rows(rows, k), arguments);
        dlogits
    }
}
