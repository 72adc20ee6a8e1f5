//! A parameter seen through a matrix on CUDA: `cuda/resample.cu`.

use super::{ResampleOp, columns};
use crate::cuda::{Cuda, Grid, Precision, args};
use crate::params::{Param, Params};
use crate::tensor::Master;

impl<T: Precision> ResampleOp for Cuda<T> {
    #[track_caller]
    fn resample_forward(&self, map: &Master<Self>, w: &Params<Self>, x: &Param) -> Master<Self> {
        let c = columns("resample", map, x);
        let y: Master<Self> = self.unset(&[map.rows(), c]);
        let (n, from) = (y.len(), map.cols());
        self.launch("resample_forward", Grid::each(n), args![map, w.at(x), &y, n, from, c]);
        y
    }

    #[track_caller]
    fn resample_backward(
        &self,
        map: &Master<Self>,
        dy: &Master<Self>,
        x: &Param,
        g: &mut Params<Self>,
    ) {
        let c = columns("resample_backward", map, x);
        dy.expect_shape("resample_backward", "dy", &[map.rows(), c]);
        let (n, to, from) = (x.len(), map.rows(), map.cols());
        let arguments = args![map, dy, g.at(x), n, to, from, c];
        self.launch("resample_backward", Grid::each(n), arguments);
    }
}
