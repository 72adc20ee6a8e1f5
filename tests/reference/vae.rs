//! Case 16, `vae/*`: the Gaussian sample, the KL and the gradients of both.

use crate::fixture::{Fixture, Precision};
use beit::cpu::Cpu;
use beit::ops::gaussian::GaussianOp;
use beit::ops::gumbel_softmax::Noise;
use beit::real::Real;
use beit::tensor::{Master, Tensor};
use libtest_mimic::{Failed, Trial};
use std::path::Path;

const CASE: &str = "16_baselines";

/// One trial per precision.
pub fn trials(dir: &Path) -> Vec<Trial> {
    let (a, b) = (dir.to_path_buf(), dir.to_path_buf());
    vec![
        Trial::test(format!("{CASE}::vae::f64"), move || run::<f64>(&a)),
        Trial::test(format!("{CASE}::vae::f32"), move || run::<f32>(&b)),
    ]
}

fn run<T: Real + Precision>(dir: &Path) -> Result<(), Failed> {
    let (fx, bk) = (Fixture::open(dir, CASE)?, Cpu::<T>::new());
    let shape = fx.shape("vae/in/mu");
    let (rows, d) = (shape[0], shape[1]);
    // The file has means and logarithms of variances each by themselves.
    let pairs = fx.f64("vae/in/mu").into_iter().zip(fx.f64("vae/in/logvar"));
    let (mu, lambda): (Vec<f64>, Vec<f64>) = pairs.unzip();
    let moments: Vec<f64> =
        mu.chunks(d).zip(lambda.chunks(d)).flat_map(|(mu, lambda)| [mu, lambda].concat()).collect();
    let moments = Master::<Cpu<T>>::from_f64(&bk, &moments, &[rows, 2 * d]);
    let noise = Master::<Cpu<T>>::from_f64(&bk, &fx.f64("vae/in/eps"), &shape);
    let dz = Tensor::<Cpu<T>>::from_f64(&bk, &fx.f64("vae/in/upstream"), &shape);
    let noise = Noise::Given(&noise);
    let (z, kl) = bk.gaussian_forward(&moments, &noise);
    fx.compare::<T>("vae/out/z", &z.to_f64(&bk))?;
    // The KL is the mean over rows.
    let scale = 1.0 / rows as f64;
    fx.compare_loss::<T>("vae/out/kl", scale * kl.to_f64(&bk).iter().sum::<f64>())?;
    let dmoments = bk.gaussian_backward(&moments, &noise, &dz, scale).to_f64(&bk);
    let half = |from: usize| -> Vec<f64> {
        dmoments.chunks(2 * d).flat_map(|row| row[from..from + d].to_vec()).collect()
    };
    fx.compare::<T>("vae/grad/mu", &half(0))?;
    fx.compare::<T>("vae/grad/logvar", &half(d))
}
