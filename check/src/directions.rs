//! Random directions and samples.

use crate::random::Stream;
use std::collections::BTreeSet;

/// Random signs, each divided by the gradient's magnitude or by `least`, if that is larger.
pub(super) fn levelled(gradient: &[f64], least: f64, rng: &mut Stream) -> Vec<f64> {
    gradient.iter().map(|g| rng.sign() / g.abs().max(least)).collect()
}

/// Indices of the largest and the smallest gradient and of random ones.
pub(super) fn sample(gradient: &[f64], samples: usize, rng: &mut Stream) -> Vec<usize> {
    let by = |a: &usize, b: &usize| gradient[*a].abs().total_cmp(&gradient[*b].abs());
    let all = 0..gradient.len();
    let extremes = [all.clone().max_by(by), all.min_by(by)];
    let mut chosen: BTreeSet<usize> = extremes.into_iter().flatten().collect();
    while chosen.len() < samples.min(gradient.len()) {
        chosen.insert(rng.integer(gradient.len() - 1));
    }
    chosen.into_iter().collect()
}
