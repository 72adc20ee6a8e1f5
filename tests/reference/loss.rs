//! Case 08, `loss/*`: cross-entropy against soft targets and with label smoothing.

use crate::fixture::{Fixture, Precision};
use beit::cpu::Cpu;
use beit::ops::cross_entropy::{CrossEntropyOp, Target};
use beit::real::Real;
use beit::tensor::{Master, Tensor};
use libtest_mimic::{Failed, Trial};
use std::path::Path;

const CASE: &str = "08_augment";

/// One trial per kind of target and precision.
pub fn trials(dir: &Path) -> Vec<Trial> {
    fn trial<T: Real + Precision>(dir: &Path, kind: &'static str) -> Trial {
        let dir = dir.to_path_buf();
        let name = format!("{CASE}::loss_{kind}::{}", T::NAME);
        Trial::test(name, move || run::<T>(&dir, kind))
    }
    let both = |kind| [trial::<f64>(dir, kind), trial::<f32>(dir, kind)];
    ["soft_target", "label_smoothing"].into_iter().flat_map(both).collect()
}

fn run<T: Real + Precision>(dir: &Path, kind: &str) -> Result<(), Failed> {
    let fx = Fixture::open(dir, CASE)?;
    let bk = Cpu::<T>::new();
    let shape = fx.shape("loss/logits");
    let targets = if kind == "soft_target" {
        fx.f64("loss/soft_targets")
    } else {
        // 0.9 · nll + 0.1 · mean over the classes of −ln p
        let mut smooth = vec![0.1 / shape[1] as f64; shape[0] * shape[1]];
        for (row, label) in smooth.chunks_mut(shape[1]).zip(fx.f64("mix/labels")) {
            row[label as usize] += 0.9;
        }
        smooth
    };
    let logits = Tensor::<Cpu<T>>::from_f64(&bk, &fx.f64("loss/logits"), &shape);
    let targets = Master::<Cpu<T>>::from_f64(&bk, &targets, &shape);
    let scale = 1.0 / shape[0] as f64;
    let (losses, dlogits) = bk.cross_entropy_backward(logits, &Target::Soft(&targets), scale);
    let loss = losses.rows.to_f64(&bk).iter().sum::<f64>() * scale;
    fx.compare_loss::<T>(&format!("loss/{kind}"), loss)?;
    fx.compare::<T>(&format!("loss/{kind}_grad"), &dlogits.to_f64(&bk))
}
