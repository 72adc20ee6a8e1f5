//! How far a result may be from f64.
//!
//! With unit roundoff u = 2⁻²⁴, a sum of k products in f32 is off by at most k u Σ|xᵢyᵢ|; where the
//! rounding errors are as good as independent, by √k u times a small factor (Higham and Mary, SIAM J. Sci.
//! Comput. 41, 2019, theorem 3.1). So a number may be off by u (16 + 8 √k), relative to the largest
//! number of its tensor: sixteen roundings for what is done to single numbers (an erf, an exponential, a
//! reciprocal root), eight times √k for the sum. On the shapes of the report plain rounding uses at
//! most half of it and mostly below a tenth; a dropped term of a sum, a wrong row or a half-precision
//! intermediate goes past it.
//!
//! k is not declared by the ops. An op that spends f operations on a tensor of n numbers sums at most f/n
//! terms into each, and no sum is longer than the longest axis that its inputs can be summed over;
//! k is the smaller of the two.
//!
//! In bf16 operands and results are rounded to 2⁻⁹ and sums are f32. An op may be off by five such
//! roundings, a whole step by twelve, as in [`Rounding::bf16`].
//!
//! A step is a chain of ops whose errors add like independent numbers: √(length of the chain) times the
//! bound of one op with the step's longest sum.

use super::content::Accuracy;
use crate::models::config::BeitConfig;
use crate::ops::case::{Cost, Inputs, Rounding};

/// Half a unit in the last place of f32, relative.
const UNIT_F32: f64 = 1.0 / (1 << 24) as f64;
/// The same of bf16.
const UNIT_BF16: f64 = 1.0 / 512.0;

/// Bound of a sum of `terms` products.
fn of_sum(terms: f64) -> f64 {
    UNIT_F32 * (16.0 + 8.0 * terms.sqrt())
}

/// Largest distance of `got` from `want`, relative to the largest number of `want`, or absolute where that
/// is 0. Not a number where any of `got` is not.
pub fn distance(got: &[f64], want: &[f64]) -> f64 {
    let largest = want.iter().fold(0.0f64, |m, x| m.max(x.abs()));
    let off = got.iter().zip(want).map(|(a, b)| (a - b).abs());
    // `max` would drop a NaN.
    let off = off.fold(0.0, |m: f64, x| if x.is_nan() || m.is_nan() { f64::NAN } else { m.max(x) });
    if got.len() != want.len() || off.is_nan() {
        f64::NAN
    } else if largest > 0.0 {
        off / largest
    } else {
        off
    }
}

/// The longest axis that a sum over these inputs can have: the last, or all others taken as one, or all
/// but the first, as in a kernel.
pub fn longest_axis(inputs: &Inputs) -> f64 {
    let shapes =
        inputs.tensors.iter().map(|t| &t.shape).chain(inputs.layout.iter().map(|p| &p.shape));
    let longest = shapes.map(|shape| {
        let all = shape.iter().product::<usize>().max(1);
        let [first, last] = [shape.first(), shape.last()].map(|n| n.copied().unwrap_or(1).max(1));
        last.max(all / last).max(all / first)
    });
    longest.max().unwrap_or(1) as f64
}

/// What a tensor of `len` numbers may be off, relative to its largest, after one direction of an op.
pub fn of_op(cost: &Cost, backward: bool, longest: f64, len: usize, bf16: bool) -> f64 {
    if bf16 {
        return Rounding::Sum.bf16() * UNIT_BF16;
    }
    let work = match backward {
        false => cost.flops_forward.max(cost.elements_forward),
        true => cost.flops_backward.max(cost.elements_backward),
    };
    of_sum((work / len.max(1) as f64).min(longest))
}

/// What loss and gradients of a step may be off: the gradients as one vector, by length.
pub fn of_step(config: &BeitConfig, rows: usize, bf16: bool) -> f64 {
    if bf16 {
        return Rounding::Chain.bf16() * UNIT_BF16;
    }
    // Norms, products, attention, GELU and residual sums of a block, forward and backward; embedding,
    // final norm and head.
    let chain = (2 * (8 * config.encoder.depth + 4)) as f64;
    let longest = [config.encoder.mlp_width, config.outputs(), rows].into_iter().max().unwrap_or(1);
    chain.sqrt() * of_sum(longest as f64)
}

/// The tensor that uses most of its bound.
pub fn worst(all: impl IntoIterator<Item = Accuracy>) -> Option<Accuracy> {
    let share = |a: &Accuracy| if a.error.is_nan() { f64::INFINITY } else { a.error / a.allowed };
    all.into_iter().max_by(|a, b| share(a).total_cmp(&share(b)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        assert_eq!(distance(&[1.0, 2.5], &[1.0, 2.0]), 0.25);
        assert_eq!(distance(&[0.5], &[0.0]), 0.5);
        assert_eq!(distance(&[], &[]), 0.0);
        for broken in [vec![f64::NAN, 0.0], vec![1.0], vec![0.0, f64::INFINITY]] {
            let accuracy = Accuracy {
                error: distance(&broken, &[1.0, 2.0]),
                allowed: 1e-6,
                tensor: "y".into(),
            };
            assert!(!accuracy.holds(), "{broken:?}");
        }
    }

    #[test]
    fn a_product_is_bound_by_its_own_sums() {
        // y [5,3] = x [5,7] W [7,3]ᵀ: 7 products to a number of y.
        let inputs = Inputs::new("t").elem("x", &[5, 7]).param("w", &[3, 7]);
        let cost = Cost { flops_forward: 2.0 * 105.0, elements_forward: 71.0, ..Cost::default() };
        assert_eq!(longest_axis(&inputs), 7.0);
        assert_eq!(of_op(&cost, false, 7.0, 15, false), UNIT_F32 * (16.0 + 8.0 * 7f64.sqrt()));
        assert_eq!(of_op(&cost, false, 7.0, 15, true), 5.0 / 512.0);
    }

    #[test]
    fn rounding_stays_below_the_bound_and_a_dropped_term_does_not() {
        let mut rng = crate::rng::Philox::new(0, crate::rng::Purpose::Bench, 5, 0);
        let mut draw = |n: usize| -> Vec<f64> {
            (0..n).map(|_| f64::from((rng.unit() + rng.unit() - 1.0) as f32)).collect()
        };
        let (rows, k) = (50, 3072);
        let (x, w) = (draw(rows * k), draw(k));
        let product = |single: bool, from: usize| -> Vec<f64> {
            let row = |x: &[f64]| -> f64 {
                let pairs = x.iter().zip(&w).skip(from);
                match single {
                    true => f64::from(pairs.map(|(a, b)| *a as f32 * *b as f32).sum::<f32>()),
                    false => pairs.map(|(a, b)| a * b).sum(),
                }
            };
            x.chunks(k).map(row).collect()
        };
        let (want, allowed) = (product(false, 0), of_sum(k as f64));
        let rounding = distance(&product(true, 0), &want);
        assert!(rounding > 0.0 && rounding < 0.5 * allowed, "{rounding:e} of {allowed:e}");
        let dropped = distance(&product(false, 1), &want);
        assert!(dropped > 10.0 * allowed, "{dropped:e} of {allowed:e}");
    }

    #[test]
    fn the_worst_is_the_one_nearest_to_its_bound() {
        let of = |error, allowed, tensor: &str| Accuracy { error, allowed, tensor: tensor.into() };
        let found = worst([of(1e-3, 1.0, "loose"), of(1e-6, 1e-7, "tight")]).unwrap();
        assert_eq!((found.tensor.as_str(), found.holds()), ("tight", false));
        let found = worst([of(2.0, 1.0, "large"), of(f64::NAN, 1.0, "nan")]).unwrap();
        assert_eq!((found.tensor.as_str(), found.holds()), ("nan", false));
    }
}
