//! Gaussian latents on CUDA: `cuda/gaussian.cu`.

use super::{GaussianOp, LN_VARIANCE, check, half};
use crate::cuda::{Cuda, Grid, Precision, args};
use crate::ops::gumbel_softmax::Noise;
use crate::rng::Purpose;
use crate::tensor::{Master, Tensor};

/// The noise that is given, whether it is drawn, and the stream's seed and step.
type Drawn<'a, T> = (Option<&'a Master<Cuda<T>>>, bool, usize, usize);

fn drawn<'a, T: Precision>(noise: &Noise<'a, Cuda<T>>) -> Drawn<'a, T> {
    match noise {
        Noise::None => (None, false, 0, 0),
        Noise::Given(noise) => (Some(*noise), false, 0, 0),
        Noise::Philox { seed, step } => (None, true, *seed as usize, *step as usize),
    }
}

impl<T: Precision> Cuda<T> {
    /// The normal noise of a step as the kernel draws it, for comparison with the CPU's.
    #[track_caller]
    pub fn gaussian_noise(&self, shape: &[usize], seed: u64, step: u64) -> Master<Self> {
        let noise = self.unset(shape);
        let (n, purpose) = (noise.len(), Purpose::Gaussian as usize);
        let arguments = args![&noise, n, purpose, seed as usize, step as usize];
        self.launch("gaussian_noise", Grid::each(n), arguments);
        noise
    }
}

impl<T: Precision> GaussianOp for Cuda<T> {
    #[track_caller]
    fn gaussian_forward(
        &self,
        moments: &Master<Self>,
        noise: &Noise<Self>,
    ) -> (Tensor<Self>, Master<Self>) {
        let shape = check("gaussian", moments, noise);
        let (z, kl) = (self.unset(&shape), self.unset(&shape[..shape.len() - 1]));
        let ((given, draw, seed, step), d) = (drawn(noise), half(moments));
        let (purpose, (low, high)) = (Purpose::Gaussian as usize, LN_VARIANCE);
        let arguments = args![moments, given, draw, purpose, seed, step, &z, &kl, d, low, high];
        self.launch("gaussian_forward", Grid::rows(moments.rows(), d), arguments);
        (z, kl)
    }

    #[track_caller]
    fn gaussian_backward(
        &self,
        moments: &Master<Self>,
        noise: &Noise<Self>,
        dz: &Tensor<Self>,
        kl_weight: f64,
    ) -> Master<Self> {
        dz.expect_shape("gaussian_backward", "dz", &check("gaussian_backward", moments, noise));
        let (dmoments, n, d) = (self.unset(moments.shape()), dz.len(), half(moments));
        let (given, draw, seed, step) = drawn(noise);
        let (purpose, (low, high)) = (Purpose::Gaussian as usize, LN_VARIANCE);
        let arguments = args![
            moments, given, draw, purpose, seed, step, dz, kl_weight, &dmoments, d, n, low, high
        ];
        self.launch("gaussian_backward", Grid::each(n), arguments);
        dmoments
    }
}
