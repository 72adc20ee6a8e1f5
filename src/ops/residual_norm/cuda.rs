//! The residual sum and layer normalisation on CUDA: `cuda/residual_norm.cu`.

use super::ResidualNormOp;
use crate::cuda::{Cuda, Grid, Pieces, Precision, args};
use crate::ops::layer_norm::NormStats;
use crate::ops::residual::expect_residual;
use crate::params::{Param, Params};
use crate::tensor::{Master, Tensor};

impl<T: Precision> ResidualNormOp for Cuda<T> {
    #[track_caller]
    fn residual_norm_forward(
        &self,
        s: &Master<Self>,
        branch: &Tensor<Self>,
        w: &Params<Self>,
        gamma: Option<&Param>,
        keep: Option<&Master<Self>>,
        weight: &Param,
        bias: &Param,
        eps: f64,
    ) -> (Master<Self>, Tensor<Self>, NormStats<Self>) {
        expect_residual("residual_norm", s.shape(), branch, gamma, keep);
        let (rows, c) = (s.rows(), s.cols());
        weight.expect_shape("residual_norm", &[c]);
        bias.expect_shape("residual_norm", &[c]);
        let (s_out, y) = (self.unset(s.shape()), self.unset(s.shape()));
        let stats = NormStats { mean: self.unset(&[rows]), rstd: self.unset(&[rows]) };
        let (gamma, weight, bias) = (gamma.map(|p| w.at(p)), w.at(weight), w.at(bias));
        let per_sample = rows / s.shape()[0].max(1);
        let (mean, rstd) = (&stats.mean, &stats.rstd);
        let arguments = args![
            s, branch, gamma, keep, weight, bias, &s_out, &y, mean, rstd, c, per_sample, eps,
        ];
        self.launch("residual_norm_forward", Grid::rows(rows, c), arguments);
        (s_out, y, stats)
    }

    #[track_caller]
    fn residual_norm_backward(
        &self,
        s_out: &Master<Self>,
        stats: &NormStats<Self>,
        branch: &Tensor<Self>,
        w: &Params<Self>,
        gamma: Option<&Param>,
        keep: Option<&Master<Self>>,
        weight: &Param,
        bias: &Param,
        mut ds: Master<Self>,
        dy: &Tensor<Self>,
        g: &mut Params<Self>,
    ) -> (Master<Self>, Tensor<Self>) {
        let op = "residual_norm_backward";
        expect_residual(op, s_out.shape(), branch, gamma, keep);
        ds.expect_shape(op, "ds", s_out.shape());
        dy.expect_shape(op, "dy", s_out.shape());
        let (rows, c) = (s_out.rows(), s_out.cols());
        weight.expect_shape(op, &[c]);
        bias.expect_shape(op, &[c]);
        let (dbranch, pieces) = (self.unset(s_out.shape()), Pieces::of(rows));
        let (mean, rstd) = (&stats.mean, &stats.rstd);
        let (scale, norm) = (gamma.map(|p| w.at(p)), w.at(weight));
        let per_sample = rows / s_out.shape()[0].max(1);
        // 2. y = LN(s')   =>   ds' += LN backward (dy); 1. dbranch = keep·γ⊙ds'
        let arguments =
            args![s_out, mean, rstd, scale, keep, norm, dy, &mut ds, &dbranch, c, per_sample,];
        self.launch("residual_norm_backward", Grid::rows(rows, c), arguments);
        // dweight, dbias, dγ
        let partials = self.scratch(pieces.count * 3 * c);
        let arguments = args![
            s_out,
            mean,
            rstd,
            branch,
            scale,
            keep,
            &ds,
            dy,
            &partials,
            rows,
            c,
            pieces.step,
            per_sample,
        ];
        self.launch("residual_norm_param_sums", Grid::pieces(c, pieces.count), arguments);
        let add = |from: usize, out: &Param| {
            self.add_partials(&partials, (from, c, 3 * c), pieces.count, g.at(out));
        };
        add(0, weight);
        add(c, bias);
        if let Some(gamma) = gamma {
            add(2 * c, gamma);
        }
        (ds, dbranch)
    }
}
