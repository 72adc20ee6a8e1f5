//! The residual sum on CUDA: `cuda/residual.cu`.

use super::{Branch, ResidualOp};
use crate::cuda::{Cuda, Grid, Precision, RowPieces, args};
use crate::params::Params;
use crate::tensor::{Master, Tensor};

impl<T: Precision> ResidualOp for Cuda<T> {
    #[track_caller]
    fn residual_forward(
        &self,
        mut s: Master<Self>,
        branch: &Branch<Self>,
        w: &Params<Self>,
    ) -> Master<Self> {
        branch.expect_fit("residual", s.shape());
        let Branch { out, gamma, keep } = *branch;
        let (n, c) = (s.len(), s.cols());
        let sample = n / s.shape()[0].max(1);
        let gamma = gamma.map(|p| w.at(p));
        let arguments = args![&mut s, out, gamma, keep, n, c, sample];
        self.launch("residual_forward", Grid::each(n), arguments);
        s
    }

    #[track_caller]
    fn residual_backward(
        &self,
        branch: &Branch<Self>,
        w: &Params<Self>,
        ds: &Master<Self>,
        g: &mut Params<Self>,
    ) -> Tensor<Self> {
        branch.expect_fit("residual_backward", ds.shape());
        let Branch { out, gamma, keep } = *branch;
        let (rows, c, dbranch) = (ds.rows(), ds.cols(), self.unset(ds.shape()));
        let (per_sample, pieces) = (rows / ds.shape()[0].max(1), RowPieces::of(rows));
        let partials = self.scratch(if gamma.is_some() { pieces.count * c } else { 0 });
        let scale = gamma.map(|p| w.at(p));
        let arguments =
            args![out, scale, keep, ds, &dbranch, &partials, rows, c, pieces.step, per_sample,];
        self.launch("residual_backward", Grid::pieces(c, pieces.count), arguments);
        if let Some(gamma) = gamma {
            self.add_partials(&partials, (0, c, c), pieces.count, g.at(gamma));
        }
        dbranch
    }
}
