//! Schedules of the tokenizer's loss.

use crate::config::{Recon, TokenizerRun};
use crate::models::dvae::{DvaeStep, Likelihood};
use crate::optim::half_cosine;
use crate::train::task::At;

/// Temperature and KL weight of a step whose terms are multiplied by `scale`.
pub(super) fn dvae_step(c: &TokenizerRun, at: At, scale: f64) -> DvaeStep {
    let (total, step) = (at.length.total as f64, at.step as f64);
    let (cooling, warmup) = (c.temperature_fraction * total, c.kl_warmup * total);
    let kl_weight = if step < warmup {
        half_cosine(0.0, c.kl_weight, warmup, step)
    } else if step < cooling {
        c.kl_weight
    } else {
        half_cosine(c.kl_weight, c.kl_weight_end, total - cooling, step - cooling)
    };
    DvaeStep {
        temperature: half_cosine(c.temperature_start, c.temperature_end, cooling, step),
        kl_weight,
        usage_weight: c.usage_weight,
        straight_through: c.straight_through,
        likelihood: match c.recon {
            Recon::LogitLaplace => Likelihood::LogitLaplace,
            Recon::Mse => Likelihood::SquaredError,
        },
        scale,
    }
}
