//! The norm of an arena on CUDA: `cuda/global_norm.cu`.

use super::{GlobalNormOp, STEP};
use crate::cuda::{Cuda, Grid, Precision, args};
use crate::params::Params;
use crate::tensor::Master;
use std::ops::Range;

impl<T: Precision> GlobalNormOp for Cuda<T> {
    #[track_caller]
    fn global_norm(&self, g: &Params<Self>, range: Range<usize>) -> Master<Self> {
        let (all, n) = (g.master.len(), range.len());
        assert!(range.start <= range.end && range.end <= all, "global_norm: {range:?} of {all}");
        let (count, norm) = (n.div_ceil(STEP), self.unset(&[1]));
        let pieces = self.scratch::<f64>(count);
        let arguments = args![g.master.start().plus(range.start), &pieces, n, STEP];
        self.launch("global_norm_pieces", Grid::rows(count, STEP), arguments);
        self.launch("global_norm", Grid::rows(1, count), args![&pieces, &norm, count]);
        norm
    }
}
