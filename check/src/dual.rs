//! Dual numbers: a value and the rate at which it changes.
//!
//! x + x'ε with ε² = 0. Every operation carries the slope along by its own derivative, so a forward
//! pass on dual numbers returns exact directional derivatives: no step, no truncation, the roundings
//! of f64 alone. Comparisons look at the value, so a dual number takes the branch that its value takes.

use crate::real::Real;
use std::cmp::Ordering;
use std::f64::consts::FRAC_2_SQRT_PI;
use std::ops::{Add, Div, Mul, Neg, Sub};

/// A value and its slope along one direction.
///
/// ```
/// use beit_check::dual::Dual;
/// use beit_check::Real;
///
/// let x = Dual::new(3.0, 1.0);
/// let y = x * x + Real::exp(x); // slope 2x + eˣ
/// assert!((y.slope - (6.0 + 3f64.exp())).abs() < 1e-14);
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(feature = "bytemuck", derive(bytemuck::Pod, bytemuck::Zeroable))]
#[repr(C)]
pub struct Dual {
    /// The value.
    pub value: f64,
    /// How fast it changes.
    pub slope: f64,
}

impl Dual {
    /// A value and its slope.
    pub const fn new(value: f64, slope: f64) -> Self {
        Self { value, slope }
    }
}

impl PartialEq for Dual {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl PartialOrd for Dual {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.value.partial_cmp(&other.value)
    }
}

impl Add for Dual {
    type Output = Self;
    fn add(self, b: Self) -> Self {
        Self::new(self.value + b.value, self.slope + b.slope)
    }
}

impl Sub for Dual {
    type Output = Self;
    fn sub(self, b: Self) -> Self {
        Self::new(self.value - b.value, self.slope - b.slope)
    }
}

impl Mul for Dual {
    type Output = Self;
    fn mul(self, b: Self) -> Self {
        Self::new(self.value * b.value, self.slope * b.value + self.value * b.slope)
    }
}

impl Div for Dual {
    type Output = Self;
    fn div(self, b: Self) -> Self {
        let quotient = self.value / b.value;
        Self::new(quotient, (self.slope - quotient * b.slope) / b.value)
    }
}

impl Neg for Dual {
    type Output = Self;
    fn neg(self) -> Self {
        Self::new(-self.value, -self.slope)
    }
}

crate::real::operators!(Dual);

impl Real for Dual {
    const ZERO: Self = Self::new(0.0, 0.0);
    const ONE: Self = Self::new(1.0, 0.0);
    fn of(x: f64) -> Self {
        Self::new(x, 0.0)
    }
    fn value(self) -> f64 {
        self.value
    }

    fn exp(self) -> Self {
        let y = self.value.exp();
        Self::new(y, y * self.slope)
    }
    fn ln(self) -> Self {
        Self::new(self.value.ln(), self.slope / self.value)
    }
    fn sqrt(self) -> Self {
        let y = self.value.sqrt();
        Self::new(y, self.slope / (2.0 * y))
    }
    fn erf(self) -> Self {
        let rate = FRAC_2_SQRT_PI * (-self.value * self.value).exp();
        Self::new(Real::erf(self.value), rate * self.slope)
    }
    /// Of both parts: a slope that is infinite or NaN is not hidden behind its value.
    fn is_finite(self) -> bool {
        self.value.is_finite() && self.slope.is_finite()
    }
}
