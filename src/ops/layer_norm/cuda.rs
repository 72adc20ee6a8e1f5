//! Layer normalisation on CUDA: `cuda/layer_norm.cu`.

use super::{LayerNormOp, Norm, NormStats};
use crate::cuda::{Cuda, Grid, Precision, RowPieces, args};
use crate::params::Params;
use crate::tensor::{Master, Tensor};

impl<T: Precision> LayerNormOp for Cuda<T> {
    #[track_caller]
    fn layer_norm_forward(
        &self,
        x: &Master<Self>,
        w: &Params<Self>,
        norm: &Norm,
    ) -> (Tensor<Self>, NormStats<Self>) {
        let (rows, c) = (x.rows(), x.cols());
        norm.expect_width("layer_norm", c);
        let y = self.unset(x.shape());
        let stats = NormStats { mean: self.unset(&[rows]), rstd: self.unset(&[rows]) };
        let (weight, bias) = (w.at(&norm.weight), w.at(&norm.bias));
        let arguments = args![x, weight, bias, &y, &stats.mean, &stats.rstd, c, norm.eps];
        self.launch("layer_norm_forward", Grid::rows(rows, c), arguments);
        (y, stats)
    }

    #[track_caller]
    fn layer_norm_backward(
        &self,
        x: &Master<Self>,
        stats: &NormStats<Self>,
        w: &Params<Self>,
        norm: &Norm,
        dy: &Tensor<Self>,
        g: &mut Params<Self>,
    ) -> Master<Self> {
        let Norm { weight, bias, .. } = norm;
        dy.expect_shape("layer_norm_backward", "dy", x.shape());
        let (rows, c, dx) = (x.rows(), x.cols(), self.unset(x.shape()));
        let (mean, rstd, scale) = (&stats.mean, &stats.rstd, w.at(weight));
        let arguments = args![x, mean, rstd, scale, dy, &dx, c];
        self.launch("layer_norm_backward", Grid::rows(rows, c), arguments);
        let pieces = RowPieces::of(rows);
        let partials = self.scratch(pieces.count * 2 * c);
        let arguments = args![x, mean, rstd, dy, &partials, rows, c, pieces.step];
        self.launch("layer_norm_param_sums", Grid::pieces(c, pieces.count), arguments);
        self.add_partials(&partials, (0, c, 2 * c), pieces.count, g.at(weight));
        self.add_partials(&partials, (c, c, 2 * c), pieces.count, g.at(bias));
        dx
    }
}
