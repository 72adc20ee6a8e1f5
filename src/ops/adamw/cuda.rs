//! AdamW on CUDA: `cuda/adamw.cu`, one launch for a range of the arena.

use super::{AdamW, AdamWOp, Moments, Update};
use crate::cuda::{Cuda, Grid, Precision, args};
use crate::params::Params;
use crate::storage::Storage;
use std::ops::Range;

impl<T: Precision> AdamWOp for Cuda<T> {
    #[track_caller]
    fn adamw_update(
        &self,
        w: &mut Params<Self>,
        moments: &mut Moments<Self>,
        g: &Params<Self>,
        update: &Update<'_, Self>,
    ) {
        update.check(w.master.len());
        let (first, n) = (update.range.start, update.range.len());
        let AdamW { beta1, beta2, eps, .. } = update.adamw;
        let [bias1, bias2] = update.adamw.bias_corrections();
        // The kernel counts from the first number of the range; what ends before it has no number.
        let ends = update.segments.iter().map(|s| s.end as f64 - first as f64);
        let ends = self.upload(ends.collect::<Vec<f64>>());
        let factors = update.segments.iter().flat_map(|s| {
            let lr = update.adamw.lr * s.lr_scale;
            [1.0 - lr * s.decay, lr / bias1]
        });
        let factors = self.upload(factors.collect::<Vec<f64>>());
        let (max_norm, root2) = (update.adamw.max_norm.unwrap_or(f64::INFINITY), bias2.sqrt());
        let copy = w.elem.as_ref().map(|copy| copy.start().plus(first));
        let arguments = args![
            w.master.start().plus(first),
            copy,
            g.master.start().plus(first),
            moments.m.master.start().plus(first),
            moments.v.master.start().plus(first),
            update.norm,
            max_norm,
            &ends,
            &factors,
            beta1,
            beta2,
            root2,
            eps,
            n,
        ];
        self.launch("adamw_update", Grid::each(n), arguments);
    }

    #[track_caller]
    fn ema_update(
        &self,
        average: &mut Params<Self>,
        w: &Params<Self>,
        decay: f64,
        range: Range<usize>,
    ) {
        let all = w.master.len();
        assert!(range.start <= range.end && range.end <= all, "ema: {range:?} of {all} parameters");
        let (first, n) = (range.start, range.len());
        let copy = average.elem.as_ref().map(|copy| copy.start().plus(first));
        let arguments =
            args![average.master.start().plus(first), copy, w.master.start().plus(first), decay, n];
        self.launch("ema_update", Grid::each(n), arguments);
    }
}
