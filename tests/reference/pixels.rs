//! Case 16, `pixels/*`: pixels of hidden patches as targets, plain and normalised, their loss and its gradient.

use crate::fixture::{Fixture, Precision};
use beit::cpu::Cpu;
use beit::data::patches::normalise_patch;
use beit::models::beit::{squared_errors, squared_errors_backward};
use beit::real::Real;
use beit::tensor::{Master, Tensor};
use libtest_mimic::{Failed, Trial};
use std::path::Path;

/// One trial per target and precision.
pub fn trials(dir: &Path) -> Vec<Trial> {
    let mut trials = Vec::new();
    for target in ["plain", "normalised"] {
        let at = dir.to_path_buf();
        let name = |of| format!("16_baselines::pixels::{target}::{of}");
        trials.push(Trial::test(name("f64"), move || run::<f64>(&at, target)));
        let at = dir.to_path_buf();
        trials.push(Trial::test(name("f32"), move || run::<f32>(&at, target)));
    }
    trials
}

fn run<T: Real + Precision>(dir: &Path, target: &str) -> Result<(), Failed> {
    let (fx, bk) = (Fixture::open(dir, "16_baselines")?, Cpu::<T>::new());
    let [patches, predicted] = ["patches", "pred"].map(|name| fx.f64(&format!("pixels/in/{name}")));
    let values = fx.shape("pixels/in/patches")[2];
    let mut targets = patches;
    if target == "normalised" {
        targets.chunks_exact_mut(values).for_each(normalise_patch);
        fx.compare::<f64>("pixels/out/normalised", &targets)?;
    }
    let hidden: Vec<bool> = fx.f64("pixels/in/mask").iter().map(|&m| m != 0.0).collect();
    let count = hidden.iter().filter(|hidden| **hidden).count();
    let of_hidden = |all: &[f64]| -> Vec<f64> {
        let patches = all.chunks_exact(values).zip(&hidden).filter(|(_, hidden)| **hidden);
        patches.flat_map(|(patch, _)| patch.to_vec()).collect()
    };
    let shape = [count, values];
    let targets = Master::from_f64(&bk, &of_hidden(&targets), &shape);
    let predicted = Tensor::from_f64(&bk, &of_hidden(&predicted), &shape);
    let scale = 1.0 / (count * values) as f64;
    let name = format!("pixels/out/loss_{target}");
    let loss = squared_errors(&bk, &predicted, &targets).to_f64(&bk).iter().sum::<f64>() * scale;
    fx.compare_loss::<T>(&name, loss)?;
    let (errors, gradient) = squared_errors_backward(&bk, predicted, &targets, scale);
    fx.compare_loss::<T>(&name, errors.to_f64(&bk).iter().sum::<f64>() * scale)?;
    // Patches that are not hidden have no gradient.
    let gradient = gradient.to_f64(&bk);
    let mut own = gradient.chunks_exact(values);
    let all: Vec<f64> = hidden
        .iter()
        .flat_map(|&hidden| match hidden {
            true => own.next().expect("one for each").to_vec(),
            false => vec![0.0; values],
        })
        .collect();
    fx.compare::<T>(&format!("pixels/grad/pred_{target}"), &all)
}
