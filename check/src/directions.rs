//! Directions and samples.

use crate::random::Stream;
use std::collections::BTreeSet;

/// What moves, and how fast: tensor, element, rate.
pub(super) type Direction = [(usize, usize, f64)];

/// Random signs, each divided by the gradient's magnitude or by `least`, if that is larger; and by a factor
/// near 1, because numbers that all move by the same are all rounded the same way.
pub(super) fn levelled(gradient: &[f64], least: f64, rng: &mut Stream) -> Vec<f64> {
    let mut one = |g: &f64| rng.sign() * rng.uniform(0.8, 1.25) / g.abs().max(least);
    gradient.iter().map(&mut one).collect()
}

/// Elements of tensor t along a levelled direction of length 1. Gradients below `part` of the largest count as
/// that.
pub(super) fn unit(
    t: usize,
    elements: &[usize],
    gradient: &[f64],
    part: f64,
    rng: &mut Stream,
) -> Vec<(usize, usize, f64)> {
    let most = gradient.iter().fold(0.0, |m: f64, g| m.max(g.abs()));
    let least = if most > 0.0 { part * most } else { 1.0 };
    let own: Vec<f64> = elements.iter().map(|i| gradient[*i]).collect();
    let direction = levelled(&own, least, rng);
    // The largest first: their squares may leave the range of f64.
    let largest = direction.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
    let length = direction.iter().map(|v| (v / largest).powi(2)).sum::<f64>().sqrt();
    elements.iter().zip(direction).map(|(i, v)| (t, *i, v / largest / length)).collect()
}

/// All of 0..n in blocks of nearly equal length, drawn at random.
pub(super) fn blocks(n: usize, count: usize, rng: &mut Stream) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..n).collect();
    for i in (1..n).rev() {
        order.swap(i, rng.integer(i));
    }
    let cut = |b: usize| b * n / count;
    (0..count).map(|b| order[cut(b)..cut(b + 1)].to_vec()).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_hold_every_element_once() {
        let all = blocks(101, 7, &mut Stream::new(1, 1));
        assert!(all.iter().all(|b| (14..=15).contains(&b.len())));
        let mut elements = all.concat();
        elements.sort_unstable();
        assert!(elements.into_iter().eq(0..101));
    }
}
