//! What the optimizer is told: schedules, parameter groups, layer-wise learning rates. The update
//! itself is an op ([`crate::ops::adamw`]). The training loop asks them once a step.

pub mod state;

use crate::ops::adamw::Segment;
use crate::params::{Decay, Layout};
use std::f64::consts::PI;

/// Linear warm-up and half cosine, one value per step (`cosine_scheduler` in the original's `utils.py`).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cosine {
    /// Peak.
    pub base: f64,
    /// What the cosine leads to, and never quite reaches.
    pub end: f64,
    /// Where the warm-up starts.
    pub start: f64,
    /// Steps of warm-up.
    pub warmup: u64,
    /// All steps.
    pub total: u64,
}

impl Cosine {
    /// The value of step `step`, from 0. The warm-up includes both its ends, so the peak comes twice.
    pub fn at(&self, step: u64) -> f64 {
        if step < self.warmup {
            if self.warmup == 1 {
                return self.start;
            }
            let t = step as f64 / (self.warmup - 1) as f64;
            return self.start + (self.base - self.start) * t;
        }
        let length = (self.total - self.warmup) as f64;
        let t = (step - self.warmup) as f64 / length;
        self.end + 0.5 * (self.base - self.end) * (1.0 + (PI * t).cos())
    }
}

/// Power of the share of steps that are left, under a linear warm-up (mmcv's `poly` policy with `warmup =
/// "linear"`).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Poly {
    /// What it starts from, but for the warm-up.
    pub base: f64,
    /// What it leads to.
    pub end: f64,
    /// Exponent of the share that is left.
    pub power: f64,
    /// Steps of warm-up.
    pub warmup: u64,
    /// Factor of the first step of the warm-up.
    pub ratio: f64,
    /// All steps.
    pub total: u64,
}

impl Poly {
    /// The value of step `step`, from 0. The decay goes on during the warm-up.
    pub fn at(&self, step: u64) -> f64 {
        let left = 1.0 - step.min(self.total) as f64 / self.total as f64;
        let value = (self.base - self.end) * left.powf(self.power) + self.end;
        if step >= self.warmup {
            return value;
        }
        let to_go = 1.0 - step as f64 / self.warmup as f64;
        value * (1.0 - to_go * (1.0 - self.ratio))
    }
}

/// A learning rate, step by step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rate {
    /// Warm-up and half cosine.
    Cosine(Cosine),
    /// Power of what is left, under a warm-up.
    Poly(Poly),
}

impl Rate {
    /// The value of step `step`, from 0.
    pub fn at(&self, step: u64) -> f64 {
        match self {
            Self::Cosine(law) => law.at(step),
            Self::Poly(law) => law.at(step),
        }
    }
}

/// Half cosine from `from` to `to` over the first `steps` steps, then constant (arXiv 2102.12092, A.2).
pub fn half_cosine(from: f64, to: f64, steps: f64, step: f64) -> f64 {
    if step >= steps {
        return to;
    }
    to + 0.5 * (from - to) * (1.0 + (PI * step / steps).cos())
}

/// Segments of a layout: `decay` where a parameter declares it, one learning rate for all.
pub fn segments(layout: &Layout, decay: f64) -> Vec<Segment> {
    scaled_segments(layout, decay, |_| 1.0)
}

/// Segments of a layout with a learning-rate scale by parameter name; neighbours that agree are one.
pub fn scaled_segments(layout: &Layout, decay: f64, scale: impl Fn(&str) -> f64) -> Vec<Segment> {
    let mut segments: Vec<Segment> = Vec::new();
    for p in layout.iter() {
        let decay = if p.decay == Decay::Yes { decay } else { 0.0 };
        let next = Segment { end: p.range.end, lr_scale: scale(&p.name), decay };
        match segments.last_mut() {
            Some(last) if last.lr_scale == next.lr_scale && last.decay == next.decay => {
                last.end = next.end;
            }
            _ => segments.push(next),
        }
    }
    segments
}

/// Layer number of a parameter for layer-wise decay (`optim_factory.py`): 0 for what comes before the blocks,
/// i + 1 for block i, depth + 1 for everything else, a shared bias table included.
pub fn layer_id(name: &str, depth: usize) -> usize {
    if ["cls_token", "mask_token", "pos_embed"].contains(&name) || name.starts_with("patch_embed") {
        return 0;
    }
    let block = name.strip_prefix("blocks.").and_then(|rest| rest.split('.').next()?.parse().ok());
    block.map_or(depth + 1, |block: usize| block + 1)
}

/// Learning-rate scale of layer `id`: decay^(depth + 1 − id).
pub fn layer_scale(decay: f64, depth: usize, id: usize) -> f64 {
    decay.powi((depth + 1 - id) as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedule_of_the_paper() {
        let lr = Cosine { base: 1.5e-3, end: 1e-5, start: 0.0, warmup: 6250, total: 500_000 };
        assert!((lr.at(1) - 2.400384e-7).abs() < 1e-13);
        assert_eq!((lr.at(0), lr.at(6249), lr.at(6250)), (0.0, 1.5e-3, 1.5e-3));
        assert!((lr.at(499_999) - 1.000_000_001_5e-5).abs() < 1e-14);
        let toy = Cosine { base: 1e-3, end: 1e-5, start: 0.0, warmup: 5, total: 20 };
        assert!(
            (toy.at(6) - 9.8918306e-4).abs() < 1e-11 && (toy.at(19) - 2.0816938e-5).abs() < 1e-12
        );
    }

    #[test]
    fn temperature_of_the_paper() {
        assert_eq!(half_cosine(1.0, 0.0625, 150_000.0, 75_000.0), 0.53125);
        assert_eq!(half_cosine(1.0, 0.0625, 150_000.0, 150_000.0), 0.0625);
    }

    #[test]
    fn layer_wise_rates() {
        assert_eq!(layer_id("patch_embed.proj.bias", 12), 0);
        assert_eq!(layer_id("blocks.11.mlp.fc1.weight", 12), 12);
        assert_eq!(layer_id("rel_pos_bias.relative_position_bias_table", 12), 13);
        assert!((layer_scale(0.65, 12, 0) - 0.00369721).abs() < 1e-8);
        assert_eq!(layer_scale(0.65, 12, 13), 1.0);
    }
}
