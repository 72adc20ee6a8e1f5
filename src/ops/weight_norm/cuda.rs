//! Weight normalisation on CUDA: `cuda/weight_norm.cu`.

use super::{WeightNorm, WeightNormOp};
use crate::cuda::{Cuda, Grid, Precision, args};
use crate::params::Params;
use crate::tensor::Master;

impl<T: Precision> WeightNormOp for Cuda<T> {
    #[track_caller]
    fn weight_norm_forward(&self, w: &Params<Self>, p: &WeightNorm) -> Master<Self> {
        let [rows, d] = p.expect_shape("weight_norm");
        let (made, gain) = (self.unset(&[rows, d]), p.gain.as_ref().map(|gain| w.at(gain)));
        let arguments = args![w.at(&p.direction), gain, &made, d];
        self.launch("weight_norm_forward", Grid::rows(rows, d), arguments);
        made
    }

    #[track_caller]
    fn weight_norm_backward(
        &self,
        w: &Params<Self>,
        p: &WeightNorm,
        dmade: &Master<Self>,
        g: &mut Params<Self>,
    ) {
        let [rows, d] = p.expect_shape("weight_norm_backward");
        dmade.expect_shape("weight_norm_backward", "dw", &[rows, d]);
        let [gain, dgain] = [w, &*g].map(|of| p.gain.as_ref().map(|gain| of.at(gain)));
        let (v, dv) = (w.at(&p.direction), g.at(&p.direction));
        self.launch(
            "weight_norm_backward",
            Grid::rows(rows, d),
            args![v, gain, dmade, dv, dgain, d],
        );
    }
}
