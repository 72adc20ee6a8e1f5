//! Gumbel-softmax on CUDA: `cuda/gumbel_softmax.cu`.

use super::{GumbelSoftmaxOp, Noise};
use crate::cuda::{Cuda, Grid, Precision, args};
use crate::rng::Purpose;
use crate::tensor::{Ids, Master, Tensor};

impl<T: Precision> Cuda<T> {
    /// The Gumbel noise of a step as the kernel draws it, for comparison with the CPU's.
    #[track_caller]
    pub fn gumbel_noise(&self, shape: &[usize], seed: u64, step: u64) -> Master<Self> {
        let noise = self.unset(shape);
        let (n, purpose) = (noise.len(), Purpose::Gumbel as usize);
        let arguments = args![&noise, n, purpose, seed as usize, step as usize];
        self.launch("gumbel_noise", Grid::each(n), arguments);
        noise
    }
}

impl<T: Precision> GumbelSoftmaxOp for Cuda<T> {
    #[track_caller]
    fn gumbel_softmax_forward(
        &self,
        logits: &Master<Self>,
        noise: &Noise<Self>,
        temperature: f64,
        straight_through: bool,
    ) -> (Tensor<Self>, Master<Self>) {
        assert!(temperature > 0.0, "gumbel_softmax: temperature {temperature} is not above 0");
        let (given, draw, seed, step) = match noise {
            Noise::None => (None, false, 0, 0),
            Noise::Given(noise) => {
                noise.expect_shape("gumbel_softmax", "noise", logits.shape());
                (Some(*noise), false, 0, 0)
            }
            Noise::Philox { seed, step } => (None, true, *seed, *step),
        };
        let (k, inverse) = (logits.cols(), 1.0 / temperature);
        let (z, y) = (self.unset(logits.shape()), self.unset(logits.shape()));
        let (seed, step, purpose) = (seed as usize, step as usize, Purpose::Gumbel as usize);
        let hard = straight_through;
        let arguments = args![logits, given, draw, purpose, seed, step, inverse, hard, &z, &y, k];
        self.launch("gumbel_softmax_forward", Grid::rows(logits.rows(), k), arguments);
        (z, y)
    }

    #[track_caller]
    fn gumbel_softmax_backward(
        &self,
        y: &Master<Self>,
        dz: &Tensor<Self>,
        temperature: f64,
    ) -> Master<Self> {
        dz.expect_shape("gumbel_softmax_backward", "dz", y.shape());
        let (k, dlogits) = (y.cols(), self.unset(y.shape()));
        let arguments = args![y, dz, 1.0 / temperature, &dlogits, k];
        self.launch("gumbel_softmax_backward", Grid::rows(y.rows(), k), arguments);
        dlogits
    }

    #[track_caller]
    fn argmax(&self, x: &Master<Self>) -> Ids<Self> {
        let places = self.unset(&x.shape()[..x.shape().len() - 1]);
        self.launch("argmax", Grid::rows(x.rows(), x.cols()), args![x, &places, x.cols()]);
        places
    }
}
