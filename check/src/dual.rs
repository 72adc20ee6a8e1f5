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

    /// A function of this number: its value, and its derivative by the argument.
    fn chain(self, value: f64, rate: f64) -> Self {
        Self::new(value, rate * self.slope)
    }
}

/// √(1 − x²), without cancellation near 1.
fn opposite(x: f64) -> f64 {
    ((1.0 - x) * (1.0 + x)).sqrt()
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
        self.chain(y, y)
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
        self.chain(Real::erf(self.value), rate)
    }
    fn sin(self) -> Self {
        let (sin, cos) = self.value.sin_cos();
        self.chain(sin, cos)
    }
    fn cos(self) -> Self {
        let (sin, cos) = self.value.sin_cos();
        self.chain(cos, -sin)
    }
    fn tan(self) -> Self {
        let y = self.value.tan();
        self.chain(y, 1.0 + y * y)
    }
    fn asin(self) -> Self {
        Self::new(self.value.asin(), self.slope / opposite(self.value))
    }
    fn acos(self) -> Self {
        Self::new(self.value.acos(), -self.slope / opposite(self.value))
    }
    fn atan(self) -> Self {
        self.chain(self.value.atan(), 1.0 / (1.0 + self.value * self.value))
    }
    fn atan2(self, x: impl Into<Self>) -> Self {
        let x = x.into();
        let radius = self.value.hypot(x.value);
        let (sin, cos) = (self.value / radius, x.value / radius);
        Self::new(self.value.atan2(x.value), (cos * self.slope - sin * x.slope) / radius)
    }
    fn sinh(self) -> Self {
        self.chain(self.value.sinh(), self.value.cosh())
    }
    fn cosh(self) -> Self {
        self.chain(self.value.cosh(), self.value.sinh())
    }
    /// 1/cosh², not 1 − tanh², of which nothing is left from 20 on.
    fn tanh(self) -> Self {
        let rate = self.value.cosh().recip();
        self.chain(self.value.tanh(), rate * rate)
    }
    fn cbrt(self) -> Self {
        let y = self.value.cbrt();
        Self::new(y, self.slope / 3.0 / y / y)
    }
    fn ln_1p(self) -> Self {
        Self::new(self.value.ln_1p(), self.slope / (1.0 + self.value))
    }
    fn exp_m1(self) -> Self {
        self.chain(self.value.exp_m1(), self.value.exp())
    }
    fn powf(self, exponent: impl Into<Self>) -> Self {
        let Self { value: p, slope } = exponent.into();
        let y = self.value.powf(p);
        let base = if p == 0.0 { 0.0 } else { p * self.value.powf(p - 1.0) * self.slope };
        // x^p ln x goes to 0 with x.
        let still = slope == 0.0 || (self.value == 0.0 && p > 0.0);
        let own = if still { 0.0 } else { y * self.value.ln() * slope };
        Self::new(y, base + own)
    }
    fn powi(self, n: i32) -> Self {
        // Not n − 1, which is below the least integer for the least.
        let rate = if n == 0 { 0.0 } else { f64::from(n) * self.value.powf(f64::from(n) - 1.0) };
        self.chain(self.value.powi(n), rate)
    }
    /// Of both parts: a slope that is infinite or NaN is not hidden behind its value.
    fn is_finite(self) -> bool {
        self.value.is_finite() && self.slope.is_finite()
    }
}
