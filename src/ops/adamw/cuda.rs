//! AdamW on CUDA: `cuda/adamw.cu`, one launch for all parameters.

use super::{AdamW, AdamWOp, Segment};
use crate::cuda::{Cuda, Grid, Precision, args};
use crate::params::Params;
use crate::storage::Storage;
use crate::tensor::Master;

impl<T: Precision> AdamWOp for Cuda<T> {
    #[track_caller]
    fn adamw_update(
        &self,
        w: &mut Params<Self>,
        g: &Params<Self>,
        m: &mut Params<Self>,
        v: &mut Params<Self>,
        norm: Option<&Master<Self>>,
        segments: &[Segment],
        adamw: &AdamW,
    ) {
        let n = w.master.len();
        let covered = segments.last().is_some_and(|s| s.end >= n);
        assert!(n == 0 || covered, "adamw: the segments do not cover the {n} parameters");
        let [bias1, bias2] = adamw.bias_corrections();
        assert!(adamw.max_norm.is_none() || norm.is_some(), "adamw: max_norm needs the norm");
        let ends = self.upload(segments.iter().map(|s| s.end as f64).collect());
        let factors = segments.iter().flat_map(|s| {
            let lr = adamw.lr * s.lr_scale;
            [1.0 - lr * s.decay, lr / bias1]
        });
        let factors = self.upload(factors.collect::<Vec<f64>>());
        let (max_norm, root2) = (adamw.max_norm.unwrap_or(f64::INFINITY), bias2.sqrt());
        let AdamW { beta1, beta2, eps, .. } = *adamw;
        let arguments = args![
            &mut w.master,
            w.elem.as_ref(),
            &g.master,
            &mut m.master,
            &mut v.master,
            norm,
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
    fn ema_update(&self, average: &mut Params<Self>, w: &Params<Self>, decay: f64) {
        let n = w.master.len();
        let copy = average.elem.as_ref();
        let arguments = args![&average.master, copy, &w.master, decay, n];
        self.launch("ema_update", Grid::each(n), arguments);
    }
}
