//! The residual sum on CUDA: `cuda/residual.cu`.

use super::{ResidualOp, expect_residual};
use crate::cuda::{Cuda, Grid, Pieces, Precision, args};
use crate::params::{Param, Params};
use crate::tensor::{Master, Tensor};

impl<T: Precision> ResidualOp for Cuda<T> {
    #[track_caller]
    fn residual_forward(
        &self,
        mut s: Master<Self>,
        branch: &Tensor<Self>,
        w: &Params<Self>,
        gamma: Option<&Param>,
        keep: Option<&Master<Self>>,
    ) -> Master<Self> {
        expect_residual("residual", s.shape(), branch, gamma, keep);
        let (n, c) = (s.len(), s.cols());
        let sample = n / s.shape()[0].max(1);
        let gamma = gamma.map(|p| w.at(p));
        let arguments = args![&mut s, branch, gamma, keep, n, c, sample];
        self.launch("residual_forward", Grid::each(n), arguments);
        s
    }

    #[track_caller]
    fn residual_backward(
        &self,
        branch: &Tensor<Self>,
        w: &Params<Self>,
        gamma: Option<&Param>,
        keep: Option<&Master<Self>>,
        ds: &Master<Self>,
        g: &mut Params<Self>,
    ) -> Tensor<Self> {
        expect_residual("residual_backward", ds.shape(), branch, gamma, keep);
        let (rows, c, dbranch) = (ds.rows(), ds.cols(), self.unset(ds.shape()));
        let (per_sample, pieces) = (rows / ds.shape()[0].max(1), Pieces::of(rows));
        let partials = self.scratch(if gamma.is_some() { pieces.count * c } else { 0 });
        let scale = gamma.map(|p| w.at(p));
        let arguments =
            args![branch, scale, keep, ds, &dbranch, &partials, rows, c, pieces.step, per_sample,];
        self.launch("residual_backward", Grid::pieces(c, pieces.count), arguments);
        if let Some(gamma) = gamma {
            self.add_partials(&partials, (0, c, c), pieces.count, g.at(gamma));
        }
        dbranch
    }
}
