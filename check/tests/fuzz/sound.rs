//! The fuzz itself: what it takes for a right gradient is between one-sided slopes at some step.

use super::case::{Case, Draw};
use super::families;

/// Functions of each family.
const TRIALS: usize = 10;

/// A claim of one element.
struct Claim<'a> {
    case: &'a Case,
    upstream: &'a [f64],
    tensor: usize,
    element: usize,
    value: f64,
}

impl Claim<'_> {
    fn outputs(&self, h: f64) -> Vec<f64> {
        let all = self.case.variables.iter().map(|v| v.values.clone());
        let mut values: Vec<Vec<f64>> = all.collect();
        values[self.tensor][self.element] += h;
        (self.case.forward)(&values)
    }

    /// The slope of Σ u·y over h, and a bound on the round-off of its terms.
    fn slope(&self, h: f64) -> (f64, f64) {
        let (y, start) = (self.outputs(h), self.outputs(0.0));
        let terms = y.iter().zip(&start).zip(self.upstream);
        let change: f64 = terms.clone().map(|((y, start), u)| u * (y - start)).sum();
        let size: f64 = terms.map(|((y, start), u)| u.abs() * (y.abs() + start.abs())).sum();
        (change / h, 4.0 * f64::EPSILON * size / h.abs())
    }

    /// Whether it is between the one-sided slopes at any step, or beside them by this share of it.
    fn holds(&self, near: f64) -> bool {
        let x = self.case.variables[self.tensor].values[self.element].abs();
        let size = if x > 0.0 { x } else { 1.0 };
        (-20..32).any(|j| {
            let h = size * 0.5f64.powi(j);
            let [(up, noise), (down, more)] = [h, -h].map(|h| self.slope(h));
            let near = near * self.value.abs() + noise + more;
            let between = self.value >= up.min(down) - near && self.value <= up.max(down) + near;
            // Over long steps the two say little; what is smooth has its slope in the middle.
            between && (h < 1e-6 * size || (self.value - 0.5 * (up + down)).abs() <= near)
        })
    }
}

#[test]
fn what_is_taken_for_right_is_right() {
    let mut wrong = Vec::new();
    for family in families() {
        let near = if family.name.starts_with("f32") { 1e-2 } else { 1e-4 };
        for trial in 0..TRIALS {
            let mut draw = Draw::new(7, family.name, trial);
            let case = (family.make)(&mut draw);
            let values: Vec<_> = case.variables.iter().map(|v| v.values.clone()).collect();
            let upstream = draw.vector((case.forward)(&values).len(), 1.0);
            let gradients = (case.backward)(&values, &upstream);
            for (tensor, g) in gradients.iter().enumerate() {
                for (element, &value) in g.iter().enumerate() {
                    let claim = Claim { case: &case, upstream: &upstream, tensor, element, value };
                    if !claim.holds(near) {
                        let name = family.name;
                        wrong.push(format!("{name} {trial}: [{tensor}][{element}] {value:e}"));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
