//! Targets and centre of DINO on CUDA: `cuda/self_distillation.cu`.

use super::{SelfDistillationOp, expect_teacher};
use crate::cuda::{Cuda, Grid, Precision, args};
use crate::tensor::Master;
use std::ops::Range;

impl<T: Precision> SelfDistillationOp for Cuda<T> {
    #[track_caller]
    fn teacher_distributions(
        &self,
        t: &Master<Self>,
        center: &Master<Self>,
        temperature: f64,
    ) -> (Master<Self>, Master<Self>) {
        let [b, g, k] = expect_teacher("teacher_distributions", t, center, temperature);
        let (q, entropies) = (self.unset(t.shape()), self.unset(&[b, g]));
        let arguments = args![t, center, 1.0 / temperature, &q, &entropies, k];
        self.launch("teacher_distributions", Grid::rows(b * g, k), arguments);
        (q, entropies)
    }

    #[track_caller]
    fn teacher_targets(&self, q: &Master<Self>, views: Range<usize>) -> Master<Self> {
        q.expect_rank("teacher_targets", "q", 3);
        let [b, g, k] = [q.shape()[0], q.shape()[1], q.shape()[2]];
        let targets = self.unset(&[b, views.len(), k]);
        let n = targets.len();
        let arguments = args![q, &targets, n, g, views.start, views.len(), k];
        self.launch("teacher_targets", Grid::each(n), arguments);
        targets
    }

    #[track_caller]
    fn follow_center(
        &self,
        center: &Master<Self>,
        t: &Master<Self>,
        keep: f64,
        share: f64,
    ) -> Master<Self> {
        center.expect_shape("follow_center", "center", &[t.cols()]);
        let (rows, k, moved) = (t.rows(), t.cols(), self.unset(center.shape()));
        let arguments = args![center, t, &moved, rows, k, keep, share];
        self.launch("follow_center", Grid::each(k), arguments);
        moved
    }
}
