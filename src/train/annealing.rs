//! Schedules of the tokenizer's loss and of the Gaussian VAE's.

use crate::config::{Recon, TokenizerRun, VaeRun};
use crate::models::autoencoder::Likelihood;
use crate::models::dvae::DvaeStep;
use crate::models::vae::VaeStep;
use crate::optim::half_cosine;
use crate::train::task::At;

/// What a setting means for the decoder's output.
pub(super) fn likelihood(recon: Recon) -> Likelihood {
    match recon {
        Recon::LogitLaplace => Likelihood::LogitLaplace,
        Recon::Mse => Likelihood::SquaredError,
    }
}

/// KL weight of the Gaussian VAE in a step whose terms are multiplied by `scale`.
pub(super) fn vae_step(c: &VaeRun, at: At, scale: f64) -> VaeStep {
    let warmup = c.coding.kl_warmup * at.length.total as f64;
    VaeStep {
        kl_weight: half_cosine(0.0, c.coding.kl_weight, warmup, at.step as f64),
        likelihood: likelihood(c.coding.recon),
        scale,
    }
}

/// Temperature and KL weight of a step whose terms are multiplied by `scale`.
pub(super) fn dvae_step(c: &TokenizerRun, at: At, scale: f64) -> DvaeStep {
    let (total, step) = (at.length.total as f64, at.step as f64);
    let (cooling, warmup) = (c.temperature_fraction * total, c.coding.kl_warmup * total);
    let kl_weight = if step < warmup {
        half_cosine(0.0, c.coding.kl_weight, warmup, step)
    } else if step < cooling {
        c.coding.kl_weight
    } else {
        half_cosine(c.coding.kl_weight, c.kl_weight_end, total - cooling, step - cooling)
    };
    DvaeStep {
        temperature: half_cosine(c.temperature_start, c.temperature_end, cooling, step),
        kl_weight,
        usage_weight: c.usage_weight,
        straight_through: c.straight_through,
        likelihood: likelihood(c.coding.recon),
        scale,
    }
}
