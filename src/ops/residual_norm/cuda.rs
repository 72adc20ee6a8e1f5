//! The residual sum and layer normalisation on CUDA: `cuda/residual_norm.cu`.

use super::{ResidualNormOp, Stream};
use crate::cuda::{Cuda, Grid, Precision, RowPieces, args};
use crate::ops::layer_norm::{Norm, NormStats};
use crate::ops::residual::Branch;
use crate::params::{Param, Params};
use crate::tensor::{Master, Tensor};

impl<T: Precision> ResidualNormOp for Cuda<T> {
    #[track_caller]
    fn residual_norm_forward(
        &self,
        s: &Master<Self>,
        branch: &Branch<Self>,
        w: &Params<Self>,
        norm: &Norm,
    ) -> (Stream<Self>, Tensor<Self>) {
        branch.expect_fit("residual_norm", s.shape());
        let ((rows, c), Branch { out, gamma, keep }) = ((s.rows(), s.cols()), *branch);
        norm.expect_width("residual_norm", c);
        let (s_out, y) = (self.unset(s.shape()), self.unset(s.shape()));
        let stats = NormStats { mean: self.unset(&[rows]), rstd: self.unset(&[rows]) };
        let (gamma, eps) = (gamma.map(|p| w.at(p)), norm.eps);
        let (weight, bias) = (w.at(&norm.weight), w.at(&norm.bias));
        let per_sample = rows / s.shape()[0].max(1);
        let (mean, rstd) = (&stats.mean, &stats.rstd);
        let arguments =
            args![s, out, gamma, keep, weight, bias, &s_out, &y, mean, rstd, c, per_sample, eps,];
        self.launch("residual_norm_forward", Grid::rows(rows, c), arguments);
        (Stream { s: s_out, stats: Some(stats) }, y)
    }

    #[track_caller]
    fn residual_norm_backward(
        &self,
        stream: &Stream<Self>,
        branch: &Branch<Self>,
        w: &Params<Self>,
        norm: &Norm,
        (mut ds, dy): (Master<Self>, &Tensor<Self>),
        g: &mut Params<Self>,
    ) -> (Master<Self>, Tensor<Self>) {
        let op = "residual_norm_backward";
        let (s_out, Branch { out, gamma, keep }) = (&stream.s, *branch);
        branch.expect_fit(op, s_out.shape());
        ds.expect_shape(op, "ds", s_out.shape());
        dy.expect_shape(op, "dy", s_out.shape());
        let (rows, c) = (s_out.rows(), s_out.cols());
        norm.expect_width(op, c);
        let stats = stream.stats.as_ref().expect("kept by forward");
        let (dbranch, pieces) = (self.unset(s_out.shape()), RowPieces::of(rows));
        let (mean, rstd) = (&stats.mean, &stats.rstd);
        let (scale, weight) = (gamma.map(|p| w.at(p)), w.at(&norm.weight));
        let per_sample = rows / s_out.shape()[0].max(1);
        // 2. y = LN(s')   =>   ds' += LN backward (dy); 1. dbranch = keep·γ⊙ds'
        let arguments =
            args![s_out, mean, rstd, scale, keep, weight, dy, &mut ds, &dbranch, c, per_sample,];
        self.launch("residual_norm_backward", Grid::rows(rows, c), arguments);
        // dweight, dbias, dγ
        let partials = self.scratch(pieces.count * 3 * c);
        let arguments = args![
            s_out,
            mean,
            rstd,
            out,
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
        add(0, &norm.weight);
        add(c, &norm.bias);
        if let Some(gamma) = gamma {
            add(2 * c, gamma);
        }
        (ds, dbranch)
    }
}
