//! Batch normalisation on CUDA: `cuda/batch_norm.cu`, and sums over rows by `cuda/common.cu`.

use super::{BatchNorm, BatchNormOp, BatchStats, expect_rows, unbias};
use crate::cuda::{Cuda, Grid, Precision, RowPieces, args};
use crate::params::{Param, Params};
use crate::tensor::{Master, Tensor};

impl<T: Precision> BatchNormOp for Cuda<T> {
    #[track_caller]
    fn batch_norm_statistics(&self, x: &Tensor<Self>) -> BatchStats<Self> {
        let (rows, c) = (x.rows(), x.cols());
        expect_rows(rows);
        let (mean, var): (Master<Self>, Master<Self>) = (self.unset(&[c]), self.unset(&[c]));
        let pieces = RowPieces::of(rows);
        let partials = self.scratch::<T::Master>(pieces.count * c);
        let grid = Grid::pieces(c, pieces.count);
        self.launch("column_sums", grid, args![x, &partials, rows, c, pieces.step]);
        let average = |to: &Master<Self>| {
            let arguments = args![&partials, to, c, pieces.count, rows];
            self.launch("batch_norm_average", Grid::each(c), arguments);
        };
        average(&mean);
        let arguments = args![x, &mean, &partials, rows, c, pieces.step];
        self.launch("batch_norm_squares", grid, arguments);
        average(&var);
        BatchStats { mean, var, rows, batch: true }
    }

    #[track_caller]
    fn batch_norm_running(&self, w: &Params<Self>, p: &BatchNorm) -> BatchStats<Self> {
        let of = |param: &Param| {
            let (copy, n): (Master<Self>, _) = (self.unset(&param.shape), param.len());
            self.launch("fill_rows_master", Grid::each(n), args![&copy, w.at(param), 1.0, n, n]);
            copy
        };
        BatchStats { mean: of(&p.mean), var: of(&p.var), rows: 0, batch: false }
    }

    #[track_caller]
    fn batch_norm_forward(
        &self,
        x: &Tensor<Self>,
        stats: &BatchStats<Self>,
        w: &Params<Self>,
        p: &BatchNorm,
    ) -> Tensor<Self> {
        let c = x.cols();
        p.expect_width("batch_norm", c);
        stats.expect_width("batch_norm", c);
        let (y, n) = (self.unset(x.shape()), x.len());
        let (weight, bias) = (w.at(&p.weight), w.at(&p.bias));
        let arguments = args![x, &stats.mean, &stats.var, weight, bias, &y, n, c, p.eps];
        self.launch("batch_norm_forward", Grid::each(n), arguments);
        y
    }

    #[track_caller]
    fn batch_norm_sums(
        &self,
        x: &Tensor<Self>,
        stats: &BatchStats<Self>,
        dy: &Tensor<Self>,
        p: &BatchNorm,
        g: &mut Params<Self>,
    ) -> Master<Self> {
        let (rows, c) = (x.rows(), x.cols());
        dy.expect_shape("batch_norm_sums", "dy", x.shape());
        p.expect_width("batch_norm_sums", c);
        stats.expect_width("batch_norm_sums", c);
        let pieces = RowPieces::of(rows);
        let partials = self.scratch(pieces.count * 2 * c);
        let arguments =
            args![x, &stats.mean, &stats.var, dy, &partials, rows, c, pieces.step, p.eps];
        self.launch("batch_norm_sums", Grid::pieces(c, pieces.count), arguments);
        let sums = Master::zeros(self, &[2, c]);
        self.add_partials(&partials, (0, 2 * c, 2 * c), pieces.count, sums.start());
        self.add_partials(&partials, (0, c, 2 * c), pieces.count, g.at(&p.weight));
        self.add_partials(&partials, (c, c, 2 * c), pieces.count, g.at(&p.bias));
        sums
    }

    #[track_caller]
    fn batch_norm_backward(
        &self,
        x: &Tensor<Self>,
        stats: &BatchStats<Self>,
        sums: &Master<Self>,
        dy: &Tensor<Self>,
        w: &Params<Self>,
        p: &BatchNorm,
    ) -> Tensor<Self> {
        let c = x.cols();
        dy.expect_shape("batch_norm_backward", "dy", x.shape());
        sums.expect_shape("batch_norm_backward", "sums", &[2, c]);
        stats.expect_width("batch_norm_backward", c);
        let (dx, n, weight) = (self.unset(x.shape()), x.len(), w.at(&p.weight));
        let share = if stats.batch { 1.0 / stats.rows as f64 } else { 0.0 };
        let (mean, var) = (&stats.mean, &stats.var);
        let arguments = args![x, mean, var, sums, dy, weight, &dx, n, c, share, p.eps];
        self.launch("batch_norm_backward", Grid::each(n), arguments);
        dx
    }

    #[track_caller]
    fn batch_norm_follow(&self, stats: &BatchStats<Self>, w: &mut Params<Self>, p: &BatchNorm) {
        let (factor, c) = (unbias(stats, p), p.weight.len());
        let running = (w.at(&p.mean), w.at(&p.var), w.at(&p.count));
        let arguments =
            args![&stats.mean, &stats.var, running.0, running.1, running.2, c, p.momentum, factor];
        self.launch("batch_norm_follow", Grid::each(c), arguments);
    }
}
