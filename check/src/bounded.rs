//! Numbers that know how far rounding can have moved them: what another device, whose sums have another
//! order, may differ by.
//!
//! A running error analysis (Wilkinson; Higham, Accuracy and Stability of Numerical Algorithms, section
//! 3.3) to first order, in units of the unit roundoff u, so that one run in f64 serves every precision. A
//! sum carries the sum of the magnitudes of its terms along, and each addition is charged with that: n
//! terms aᵢbᵢ are off by at most (n + 1) u Σ|aᵢbᵢ|, the bound γₙ Σ|aᵢbᵢ|. The partial sums are those of the
//! CPU's order; for terms of like size another order has like ones.

use crate::dual::Dual;
use crate::real::Real;
use std::cmp::Ordering;
use std::f64::consts::FRAC_2_SQRT_PI;
use std::ops::{Add, Div, Mul, Neg, Sub};

/// Roundings of an exponential or a logarithm: two units in the last place, as CUDA documents and the CPU
/// keeps.
const EXP: f64 = 4.0;
/// Roundings of the other functions: four units in the last place, as CUDA documents for the worst of
/// them, the tangent; others are nearer.
const FUNCTION: f64 = 8.0;
/// Roundings of a power: eight units in the last place.
const POWER: f64 = 16.0;

/// A value, what it may be off, and the magnitudes that add up to it.
///
/// ```
/// use beit_check::bounded::Bounded;
/// use beit_check::Real;
///
/// // 1 + 2 − 3: three additions to 0, whose terms so far have magnitudes of 1, 3 and 6 in sum.
/// let sum: Bounded = [1.0, 2.0, -3.0].map(Bounded::of).into_iter().sum();
/// assert_eq!(sum.value(), 0.0);
/// assert_eq!(sum.error, 1.0 + 3.0 + 6.0);
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(feature = "bytemuck", derive(bytemuck::Pod, bytemuck::Zeroable))]
#[repr(C)]
pub struct Bounded {
    /// The value.
    pub value: f64,
    /// Bound on its rounding error, in units of the unit roundoff.
    pub error: f64,
    /// Sum of the magnitudes of the terms that it is the sum of.
    pub size: f64,
}

impl Bounded {
    /// A number that is rounded once after an error of its own.
    fn rounded(value: f64, error: f64, roundings: f64) -> Self {
        Self { value, error: error + roundings * value.abs(), size: value.abs() }
    }

    /// A function of this number: its value, its derivative by the argument, its own roundings.
    fn chain(self, value: f64, rate: f64, roundings: f64) -> Self {
        // An exact argument has no error to be blown up by an infinite rate.
        let error = if self.error == 0.0 { 0.0 } else { rate.abs() * self.error };
        Self::rounded(value, error, roundings)
    }
}

impl PartialEq for Bounded {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl PartialOrd for Bounded {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.value.partial_cmp(&other.value)
    }
}

impl Add for Bounded {
    type Output = Self;
    fn add(self, b: Self) -> Self {
        let size = self.size + b.size;
        Self { value: self.value + b.value, error: self.error + b.error + size, size }
    }
}

impl Sub for Bounded {
    type Output = Self;
    fn sub(self, b: Self) -> Self {
        self + -b
    }
}

impl Mul for Bounded {
    type Output = Self;
    fn mul(self, b: Self) -> Self {
        let error = self.value.abs() * b.error + self.error * b.value.abs();
        Self::rounded(self.value * b.value, error, 1.0)
    }
}

impl Div for Bounded {
    type Output = Self;
    fn div(self, b: Self) -> Self {
        let quotient = self.value / b.value;
        Self::rounded(quotient, (self.error + quotient.abs() * b.error) / b.value.abs(), 1.0)
    }
}

impl Neg for Bounded {
    type Output = Self;
    fn neg(self) -> Self {
        Self { value: -self.value, ..self }
    }
}

crate::real::operators!(Bounded);

/// Functions of one number, whose derivatives dual numbers know.
macro_rules! by_slope {
    ($($name:ident),*) => {
        $(fn $name(self) -> Self {
            let Dual { value, slope } = Real::$name(Dual::new(self.value, 1.0));
            self.chain(value, slope, FUNCTION)
        })*
    };
}

impl Real for Bounded {
    const ZERO: Self = Self { value: 0.0, error: 0.0, size: 0.0 };
    const ONE: Self = Self { value: 1.0, error: 0.0, size: 1.0 };
    /// Exact where f32 holds the number; else a lower precision than f64 rounds it.
    fn of(x: f64) -> Self {
        let exact = f64::from(x as f32) == x;
        Self { value: x, error: if exact { 0.0 } else { x.abs() }, size: x.abs() }
    }
    fn value(self) -> f64 {
        self.value
    }

    fn exp(self) -> Self {
        let y = self.value.exp();
        self.chain(y, y, EXP)
    }
    fn ln(self) -> Self {
        self.chain(self.value.ln(), 1.0 / self.value, EXP)
    }
    fn sqrt(self) -> Self {
        let y = self.value.sqrt();
        let own = match (y > 0.0, self.error > 0.0) {
            (true, _) => self.error / (2.0 * y),
            (false, true) => f64::INFINITY,
            (false, false) => 0.0,
        };
        Self::rounded(y, own, 1.0)
    }
    fn erf(self) -> Self {
        let rate = FRAC_2_SQRT_PI * (-self.value * self.value).exp();
        self.chain(Real::erf(self.value), rate, FUNCTION)
    }
    fn atan2(self, x: impl Into<Self>) -> Self {
        let x = x.into();
        let radius = self.value.hypot(x.value);
        let (sin, cos) = (self.value.abs() / radius, x.value.abs() / radius);
        let error = if radius > 0.0 { (cos * self.error + sin * x.error) / radius } else { 0.0 };
        Self::rounded(self.value.atan2(x.value), error, FUNCTION)
    }
    fn cbrt(self) -> Self {
        let y = self.value.cbrt();
        let still = self.error == 0.0;
        Self::rounded(y, if still { 0.0 } else { self.error / (3.0 * y * y) }, FUNCTION)
    }
    fn powf(self, exponent: impl Into<Self>) -> Self {
        let p = exponent.into();
        let y = self.value.powf(p.value);
        let part = |rate: f64, error: f64| if error == 0.0 { 0.0 } else { rate.abs() * error };
        let error = part(p.value * self.value.powf(p.value - 1.0), self.error)
            + part(y * self.value.ln(), p.error);
        Self::rounded(y, error, POWER)
    }
    by_slope!(sin, cos, tan, asin, acos, atan, sinh, cosh, tanh, ln_1p, exp_m1);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;

    #[test]
    fn a_product_in_f32_keeps_its_bound_in_two_orders() {
        let mut rng = Stream::new(3, 5);
        let mut draw = || -> Vec<f64> {
            (0..1000).map(|_| f64::from((rng.uniform(-0.5, 0.5)) as f32)).collect()
        };
        let (a, b) = (draw(), draw());
        let pairs = a.iter().zip(&b).map(|(a, b)| Bounded::of(*a) * Bounded::of(*b));
        let sum: Bounded = pairs.sum();
        let size: f64 = a.iter().zip(&b).map(|(a, b)| (a * b).abs()).sum();
        assert!(sum.error <= 1001.0 * size && sum.error > 100.0 * size, "{}", sum.error / size);
        let mut products: Vec<f32> = a.iter().zip(&b).map(|(a, b)| *a as f32 * *b as f32).collect();
        for _ in 0..2 {
            let single: f32 = products.iter().sum();
            let off = (f64::from(single) - sum.value).abs();
            assert!(off > 0.0 && off <= sum.error * 0.5 * f64::from(f32::EPSILON), "{off:e}");
            products.sort_by(f32::total_cmp);
        }
    }

    #[test]
    fn functions_carry_the_error_of_their_argument() {
        let x = Bounded { value: 0.7, error: 10.0, size: 0.7 };
        let checks: [(Bounded, f64); 4] = [
            (Real::exp(x), 0.7f64.exp()),
            (Real::ln(x), 1.0 / 0.7),
            (Real::sqrt(x), 0.5 / 0.7f64.sqrt()),
            (Real::erf(x), FRAC_2_SQRT_PI * (-0.49f64).exp()),
        ];
        for (y, slope) in checks {
            assert!(y.error >= 10.0 * slope && y.error <= 10.0 * slope + 8.0 * y.value.abs());
        }
    }
}
