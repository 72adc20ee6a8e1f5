//! What a backward promises beside its numbers.
//!
//! A comparison of one backward pass with differences sees one gradient once. Mistakes that show only in
//! the second pass (a buffer that was not cleared, a choice that is drawn anew) or in another scale (a
//! gradient that is clipped) need these checks, which cost a few runs each.

use super::variable::{Backward, Evaluated, Forward, Settings, Variable};
use super::verdict::Location;

/// Factor by which the upstream gradient is multiplied to see whether backward is linear in it: a
/// power of two, so that a linear backward scales to the bit, and large, so that clipping shows.
const FACTOR: f64 = -1024.0;

/// Two results that should be equal but for the order of their sums: so close, relative to the
/// largest gradient of the tensor...
const CLOSE: f64 = 1e-12;
/// ... or to the largest of all, for tensors whose gradient is nothing but round-off.
pub const CLOSE_OVERALL: f64 = 64.0 * f64::EPSILON;

/// An array and what it belongs to.
pub type NamedValues = (String, Vec<f64>);

/// Gradients present and of the right length, outputs finite.
pub(super) fn of_results(
    variables: &[Variable],
    outputs: &[f64],
    gradients: &[Vec<f64>],
) -> Vec<String> {
    let mut faults = Vec::new();
    if let Some(i) = outputs.iter().position(|y| !y.is_finite()) {
        faults.push(format!("output element {i} is {}", outputs[i]));
    }
    if gradients.len() != variables.len() {
        let (got, want) = (gradients.len(), variables.len());
        faults.push(format!("backward returned {got} gradients for {want} variables"));
    }
    for (v, g) in variables.iter().zip(gradients) {
        match g.len() {
            n if n == v.values.len() => {}
            0 => faults.push(format!(
                "backward returned no gradient for {}; what has none (ids, a mask, targets) belongs into \
                 the closures, not among the arrays",
                v.name
            )),
            n => faults.push(format!(
                "gradient of {} has {n} elements, the tensor {}",
                v.name,
                v.values.len()
            )),
        }
        let bad = g.iter().position(|g| !g.is_finite());
        if let Some(i) = bad.filter(|_| g.len() == v.values.len()) {
            let place = Location::Element(v.index(i));
            faults.push(format!("gradient of {}{place} is {}", v.name, g[i]));
        }
    }
    faults
}

/// Checks a function over arrays: the same bits at every call, backward linear in the upstream
/// gradient. `noise` is the deviation of the round-off of each gradient.
pub(super) fn of_function(
    settings: &Settings,
    variables: &[Variable],
    at: &Evaluated,
    upstream: &[f64],
    noise: &[Vec<f64>],
    forward: &Forward,
    backward: &Backward,
) -> Vec<String> {
    let Evaluated { values, outputs, gradients, .. } = at;
    let mut faults = Vec::new();
    let named = |all: &[Vec<f64>]| -> Vec<NamedValues> {
        variables.iter().zip(all).map(|(v, g)| (v.name.clone(), g.clone())).collect()
    };
    let tolerance = settings.nondeterminism;
    if !same_within(&forward(values), outputs, tolerance) {
        faults.push("forward gives other outputs when it is run again".into());
    }
    let again = backward(values, upstream);
    for ((v, first), second) in variables.iter().zip(gradients).zip(&again) {
        if !same_within(first, second, tolerance) {
            let name = &v.name;
            faults.push(format!("gradient of {name} is another when backward is run again"));
        }
    }
    let scaled: Vec<f64> = upstream.iter().map(|u| FACTOR * u).collect();
    let scaled = named(&backward(values, &scaled));
    let position = |name: &str| variables.iter().position(|v| v.name == name);
    let noise = |name: &str| {
        let of = |i: usize| largest(&noise[i]).max(tolerance * largest(&gradients[i]));
        position(name).map_or(0.0, of)
    };
    for name in not_times(&named(gradients), &scaled, FACTOR, &noise) {
        faults.push(format!(
            "gradient of {name} is not linear in the upstream gradient: {FACTOR} times the \
             one does not give {FACTOR} times the other; does backward ignore or clip it?"
        ));
    }
    faults
}

/// Whether both have the same bits in every number or, where there is a tolerance, are within that part of
/// the largest of them.
fn same_within(a: &[f64], b: &[f64], tolerance: f64) -> bool {
    let near = tolerance * largest(a).max(largest(b));
    let pairs = || a.iter().zip(b);
    same_bits(a, b)
        || (tolerance > 0.0 && a.len() == b.len() && pairs().all(|(a, b)| (a - b).abs() <= near))
}

/// Whether both have the same bits in every number.
pub fn same_bits(a: &[f64], b: &[f64]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
}

/// Names whose arrays differ in any bit.
pub fn differing(a: &[NamedValues], b: &[NamedValues]) -> Vec<String> {
    let pairs = a.iter().zip(b);
    pairs.filter(|(a, b)| !same_bits(&a.1, &b.1)).map(|(a, _)| a.0.clone()).collect()
}

/// The largest magnitude.
pub fn largest(x: &[f64]) -> f64 {
    x.iter().fold(0.0, |m, x| m.max(x.abs()))
}

/// Names for which `b` is not `factor` times `a`, up to the order of sums; `noise` is the deviation of
/// the round-off of each.
pub fn not_times(
    a: &[NamedValues],
    b: &[NamedValues],
    factor: f64,
    noise: &dyn Fn(&str) -> f64,
) -> Vec<String> {
    let overall = a.iter().map(|(_, x)| largest(x)).fold(0.0, f64::max);
    let mut names = Vec::new();
    for ((name, a), (_, b)) in a.iter().zip(b) {
        let close = (CLOSE * largest(a)).max(CLOSE_OVERALL * overall).max(64.0 * noise(name));
        let close = factor.abs() * close;
        // Written so that a NaN is not close.
        let agree = a.iter().zip(b).all(|(a, b)| (factor * a - b).abs() <= close);
        if a.len() != b.len() || !agree {
            names.push(name.clone());
        }
    }
    names
}
