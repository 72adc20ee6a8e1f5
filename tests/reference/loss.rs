//! Cases 08, `loss/*`, and 11: cross-entropy against soft targets and with label smoothing.

use crate::fixture::{Fixture, Precision};
use beit::cpu::Cpu;
use beit::ops::cross_entropy::{CrossEntropyOp, Target};
use beit::real::Real;
use beit::tensor::{Master, Tensor};
use libtest_mimic::{Failed, Trial};
use std::path::Path;

/// Where a loss stands in the files.
#[derive(Clone, Copy)]
struct Stored {
    case: &'static str,
    kind: &'static str,
    logits: &'static str,
    labels: &'static str,
    /// Without it, the targets are smoothed labels.
    targets: Option<&'static str>,
    loss: &'static str,
    gradient: &'static str,
}

const PRETRAINED: Stored = Stored {
    case: "08_augment",
    kind: "label_smoothing",
    logits: "loss/logits",
    labels: "mix/labels",
    targets: None,
    loss: "loss/label_smoothing",
    gradient: "loss/label_smoothing_grad",
};

const MIXED: Stored = Stored {
    case: "11_mixup",
    kind: "label_smoothing",
    logits: "in/logits",
    labels: "in/labels",
    targets: None,
    loss: "out/smooth_loss",
    gradient: "grad/smooth_logits",
};

const LOSSES: [Stored; 4] = [
    PRETRAINED,
    Stored {
        kind: "soft_target",
        targets: Some("loss/soft_targets"),
        loss: "loss/soft_target",
        gradient: "loss/soft_target_grad",
        ..PRETRAINED
    },
    MIXED,
    Stored {
        kind: "soft_target",
        targets: Some("out/0/targets"),
        loss: "out/soft_loss",
        gradient: "grad/soft_logits",
        ..MIXED
    },
];

/// One trial per loss and precision.
pub fn trials(dir: &Path) -> Vec<Trial> {
    fn trial<T: Real + Precision>(dir: &Path, stored: Stored) -> Trial {
        let dir = dir.to_path_buf();
        let name = format!("{}::loss_{}::{}", stored.case, stored.kind, T::NAME);
        Trial::test(name, move || run::<T>(&dir, stored))
    }
    let both = |stored| [trial::<f64>(dir, stored), trial::<f32>(dir, stored)];
    LOSSES.into_iter().flat_map(both).collect()
}

fn run<T: Real + Precision>(dir: &Path, stored: Stored) -> Result<(), Failed> {
    let fx = Fixture::open(dir, stored.case)?;
    let bk = Cpu::<T>::new();
    let shape = fx.shape(stored.logits);
    let targets = stored.targets.map_or_else(
        || {
            // 0.9 · nll + 0.1 · mean over the classes of −ln p
            let mut smooth = vec![0.1 / shape[1] as f64; shape[0] * shape[1]];
            for (row, label) in smooth.chunks_mut(shape[1]).zip(fx.f64(stored.labels)) {
                row[label as usize] += 0.9;
            }
            smooth
        },
        |name| fx.f64(name),
    );
    let logits = Tensor::<Cpu<T>>::from_f64(&bk, &fx.f64(stored.logits), &shape);
    let targets = Master::<Cpu<T>>::from_f64(&bk, &targets, &shape);
    let scale = 1.0 / shape[0] as f64;
    let (losses, dlogits) = bk.cross_entropy_backward(logits, &Target::Soft(&targets), scale);
    let loss = losses.rows.to_f64(&bk).iter().sum::<f64>() * scale;
    fx.compare_loss::<T>(stored.loss, loss)?;
    fx.compare::<T>(stored.gradient, &dlogits.to_f64(&bk))
}
