//! Random directions and samples.

use crate::rng::Philox;
use rand_distr::{Distribution, StandardNormal};
use std::collections::BTreeSet;

/// Independent standard normal numbers.
pub(super) fn normal(rng: &mut Philox, n: usize) -> Vec<f64> {
    (0..n).map(|_| StandardNormal.sample(&mut *rng)).collect()
}

/// 1 or −1.
fn sign(rng: &mut Philox) -> f64 {
    if rng.integer(1) == 0 { 1.0 } else { -1.0 }
}

/// Random signs, each divided by the gradient's magnitude or by `least`, if that is larger.
pub(super) fn levelled(gradient: &[f64], least: f64, rng: &mut Philox) -> Vec<f64> {
    gradient.iter().map(|g| sign(rng) / g.abs().max(least)).collect()
}

/// Indices of the largest and the smallest gradient and of random ones.
pub(super) fn sample(gradient: &[f64], samples: usize, rng: &mut Philox) -> Vec<usize> {
    let by = |a: &usize, b: &usize| gradient[*a].abs().total_cmp(&gradient[*b].abs());
    let all = 0..gradient.len();
    let extremes = [all.clone().max_by(by), all.min_by(by)];
    let mut chosen: BTreeSet<usize> = extremes.into_iter().flatten().collect();
    while chosen.len() < samples.min(gradient.len()) {
        chosen.insert(rng.integer(gradient.len() - 1));
    }
    chosen.into_iter().collect()
}
