//! Arguments that are not free: how a point moves without leaving where it may be.
//!
//! A constrained array is a function of one that is free, x = φ(w) with φ(x₀) = x₀, and the checker moves w.
//! What it judges is the gradient by w, φ′ᵀ ∂L/∂x: the part of the gradient that the constraint can see.

use crate::arrays::Arrays;
use crate::dual::Dual;
use crate::real::Real;
use ndarray::{ArrayD, Axis, Dimension, Zip};
use serde::Deserialize;

/// Farthest that a row of a simplex may sum from 1, and two mirrored elements may differ.
const CLOSE: f64 = 1e-9;

/// What an argument keeps while it moves, and at the point that is given already
/// ([`Check::constrain`](crate::Check::constrain)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Constraint {
    /// Every element is positive, and stays so: x = x₀ e^(asinh t) with t = (w − x₀)/x₀, which is straight near
    /// the point and halves where it would reach 0. The slope at the point is 1: gradients look as ever.
    Positive,
    /// The elements along the last axis are positive and sum to 1, and stay so: positive as above, then divided
    /// by their sum. Element i of the gradient is judged as gᵢ − ⟨g, x⟩: a multiple of (1, …, 1) is nothing
    /// to a simplex.
    Simplex,
    /// Along the last two axes a symmetric matrix, and stays one: (w + wᵀ)/2. The gradient is judged as
    /// (G + Gᵀ)/2, so that of all gradients that differ by an antisymmetric matrix each passes.
    Symmetric,
}

/// e^(asinh t) = t + √(1 + t²), of which nothing cancels.
fn stretch<T: Real>(t: T) -> T {
    let root = (t * t + T::ONE).sqrt();
    if t < T::ZERO { T::ONE / (root - t) } else { root + t }
}

/// Stretched by how far `w` is from the point, relative to it.
fn positive<T: Real>(start: f64, w: T) -> T {
    stretch((w - start) / start) * start
}

/// Its derivative.
fn positive_rate<T: Real>(start: f64, w: T) -> T {
    let t = (w - start) / start;
    stretch(t) / (t * t + T::ONE).sqrt()
}

/// The array with its last two axes exchanged.
fn mirrored<T: Clone>(x: &ArrayD<T>) -> ArrayD<T> {
    let mut view = x.view();
    let n = x.ndim();
    view.swap_axes(n - 2, n - 1);
    view.to_owned()
}

impl Constraint {
    /// The point that belongs to a free one; `start` belongs to itself.
    fn at<T: Real>(self, start: &ArrayD<f64>, w: &ArrayD<T>) -> ArrayD<T> {
        match self {
            Self::Symmetric => (w + mirrored(w)) * T::of(0.5),
            Self::Positive => Zip::from(start).and(w).map_collect(|s, w| positive(*s, *w)),
            Self::Simplex => {
                let mut all = Self::Positive.at(start, w);
                for mut row in all.lanes_mut(Axis(start.ndim() - 1)) {
                    let sum = row.sum();
                    row.mapv_inplace(|x| x / sum);
                }
                all
            }
        }
    }

    /// φ′ᵀ of a gradient.
    fn pull_back<T: Real>(self, start: &ArrayD<f64>, w: &ArrayD<T>, g: &ArrayD<T>) -> ArrayD<T> {
        let rates = || Zip::from(start).and(w).map_collect(|s, w| positive_rate(*s, *w));
        match self {
            Self::Symmetric => (g + mirrored(g)) * T::of(0.5),
            Self::Positive => g * rates(),
            Self::Simplex => {
                let last = Axis(start.ndim() - 1);
                let y = Self::Positive.at(start, w);
                let sum = y.sum_axis(last).insert_axis(last);
                let mean = (g * &y).sum_axis(last).insert_axis(last) / &sum;
                (g - mean) / sum * rates()
            }
        }
    }

    /// What is wrong with a point to start from.
    fn violated(self, name: &str, x: &ArrayD<f64>) -> Option<String> {
        let bad = x.indexed_iter().find(|(_, x)| !(**x > 0.0 && x.is_finite()));
        let not_positive = bad.map(|(i, x)| {
            let i = i.slice();
            format!("{name}{i:?} is {x}: start from a point with all elements above 0")
        });
        match self {
            Self::Positive => not_positive,
            Self::Simplex if x.ndim() == 0 => Some(format!("{name} has no axis to be a simplex")),
            Self::Simplex => not_positive.or_else(|| {
                let sums = x.sum_axis(Axis(x.ndim() - 1));
                let bad = sums.iter().find(|s| (**s - 1.0).abs() > CLOSE);
                bad.map(|s| {
                    format!(
                        "{name} has elements that sum to {s} along its last axis, not to 1: divide them by \
                         their sum"
                    )
                })
            }),
            Self::Symmetric => {
                let n = x.ndim();
                if n < 2 || x.shape()[n - 2] != x.shape()[n - 1] {
                    return Some(format!("{name} has shape {:?}, no square matrices", x.shape()));
                }
                let largest = x.iter().fold(0.0, |m: f64, x| m.max(x.abs()));
                let off = (x - mirrored(x)).iter().fold(0.0, |m: f64, x| m.max(x.abs()));
                (off > CLOSE * largest).then(|| {
                    format!("{name} is not symmetric, {off:e} off: start from (A + Aᵀ)/2")
                })
            }
        }
    }
}

/// The constraints of one point.
#[derive(Clone, Debug, Default)]
pub(crate) struct Constraints(Vec<(String, Constraint)>);

impl Constraints {
    pub fn add(&mut self, name: &str, constraint: Constraint) {
        self.0.push((name.into(), constraint));
    }

    fn of(&self, name: &str) -> Option<Constraint> {
        self.0.iter().find(|(own, _)| own == name).map(|(_, c)| *c)
    }

    /// What is wrong with the point.
    pub fn violated(&self, at: &Arrays) -> Vec<String> {
        let one = |(name, constraint): &(String, Constraint)| match at.get(name) {
            None => Some(format!("there is a constraint for `{name}`, which is no array")),
            Some(x) => constraint.violated(name, x),
        };
        self.0.iter().filter_map(one).collect()
    }

    /// The arrays that belong to free ones beside `start`.
    pub fn at<T: Real>(&self, start: &Arrays, free: Arrays<T>) -> Arrays<T> {
        if self.0.is_empty() {
            return free;
        }
        free.map(|name, w| match self.of(name) {
            Some(constraint) => constraint.at(&start[name], &w),
            None => w,
        })
    }

    /// Gradients by the free arrays; those of another shape are left to others to report.
    pub fn pull_back<T: Real>(
        &self,
        start: &Arrays,
        free: &Arrays<T>,
        gradients: Arrays<T>,
    ) -> Arrays<T> {
        gradients.map(|name, g| match (self.of(name), start.get(name)) {
            (Some(constraint), Some(x)) if x.shape() == g.shape() => {
                constraint.pull_back(x, &free[name], &g)
            }
            _ => g,
        })
    }

    /// Rates of change that keep the constraints: those of the arrays when free ones move at `rates`.
    pub fn rates(&self, start: &Arrays, free: &Arrays, rates: &Arrays) -> Arrays {
        if self.0.is_empty() {
            return rates.clone();
        }
        let moving = self.at(start, free.zip_with(rates, Dual::new));
        moving.map(|_, x| x.mapv(|x| x.slope))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arrays::flat;
    use ndarray::array;

    #[test]
    fn a_pull_back_is_the_transpose_of_the_move() {
        let p = array![[0.2, 0.5, 0.3], [0.6, 0.1, 0.3], [0.05, 0.05, 0.9]].into_dyn();
        let symmetric = (&p + &mirrored(&p)) * 0.5;
        let [w, v, g] = [0.3, 1.7, 2.9].map(|k| p.mapv(|x| (x * 37.0 * k).sin()));
        for (constraint, start) in [
            (Constraint::Positive, &p),
            (Constraint::Simplex, &p),
            (Constraint::Symmetric, &symmetric),
        ] {
            let w = start + &(&w * 0.3);
            let mut constraints = Constraints::default();
            constraints.add("p", constraint);
            let start = Arrays::new().with("p", start.clone());
            let one = |x: &ArrayD<f64>| Arrays::new().with("p", x.clone());
            let rates = constraints.rates(&start, &one(&w), &one(&v));
            let forward: f64 = flat(&rates["p"]).iter().zip(&g).map(|(a, b)| a * b).sum();
            let back = constraints.pull_back(&start, &one(&w), one(&g));
            let back: f64 = flat(&back["p"]).iter().zip(&v).map(|(a, b)| a * b).sum();
            assert!((forward - back).abs() < 1e-14, "{constraint:?}: {forward} {back}");
        }
    }

    #[test]
    fn a_positive_number_stays_positive() {
        assert_eq!(positive(0.3, 0.3), 0.3);
        for w in [-1e9, -3.0, 0.0, 1e9] {
            assert!(positive(0.3, w) > 0.0);
        }
    }
}
