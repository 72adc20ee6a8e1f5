//! Layer normalisation on CUDA: `cuda/layer_norm.cu`.

use super::{LayerNormOp, NormStats};
use crate::cuda::{Cuda, Grid, Pieces, Precision, args};
use crate::params::{Param, Params};
use crate::tensor::{Master, Tensor};

impl<T: Precision> LayerNormOp for Cuda<T> {
    #[track_caller]
    fn layer_norm_forward(
        &self,
        x: &Master<Self>,
        w: &Params<Self>,
        weight: &Param,
        bias: &Param,
        eps: f64,
    ) -> (Tensor<Self>, NormStats<Self>) {
        let (rows, c) = (x.rows(), x.cols());
        weight.expect_shape("layer_norm", &[c]);
        bias.expect_shape("layer_norm", &[c]);
        let y = self.unset(x.shape());
        let stats = NormStats { mean: self.unset(&[rows]), rstd: self.unset(&[rows]) };
        let (weight, bias) = (w.at(weight), w.at(bias));
        let arguments = args![x, weight, bias, &y, &stats.mean, &stats.rstd, c, eps];
        self.launch("layer_norm_forward", Grid::rows(rows, c), arguments);
        (y, stats)
    }

    #[track_caller]
    fn layer_norm_backward(
        &self,
        x: &Master<Self>,
        stats: &NormStats<Self>,
        w: &Params<Self>,
        weight: &Param,
        bias: &Param,
        dy: &Tensor<Self>,
        g: &mut Params<Self>,
    ) -> Master<Self> {
        dy.expect_shape("layer_norm_backward", "dy", x.shape());
        let (rows, c, dx) = (x.rows(), x.cols(), self.unset(x.shape()));
        let (mean, rstd, scale) = (&stats.mean, &stats.rstd, w.at(weight));
        let arguments = args![x, mean, rstd, scale, dy, &dx, c];
        self.launch("layer_norm_backward", Grid::rows(rows, c), arguments);
        let pieces = Pieces::of(rows);
        let partials = self.scratch(pieces.count * 2 * c);
        let arguments = args![x, mean, rstd, dy, &partials, rows, c, pieces.step];
        self.launch("layer_norm_param_sums", Grid::pieces(c, pieces.count), arguments);
        self.add_partials(&partials, (0, c, 2 * c), pieces.count, g.at(weight));
        self.add_partials(&partials, (c, c, 2 * c), pieces.count, g.at(bias));
        dx
    }
}
