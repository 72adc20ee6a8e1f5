//! Double-double arithmetic: the unevaluated sum of two f64, about 31 digits.
//!
//! The high part is the number rounded to f64, the low part what that left over. A forward pass on such
//! numbers has no round-off worth speaking of next to f64, so a difference quotient of it is limited by
//! its step alone. Sums and products follow Dekker (1971) and Knuth; what the error-free parts rest on is
//! that every f64 operation rounds to nearest.
//!
//! Errors, relative, in units of u² = 2⁻¹⁰⁶ = 1.2e-32 and of exact arguments:
//!
//! | functions | units | where |
//! | --- | --- | --- |
//! | + − × ÷, sqrt, cbrt | 4 | a sum: on the scale of its terms |
//! | exp, exp_m1, ln, ln_1p, sinh, cosh, tanh, sigmoid | 4 | everywhere |
//! | sin, cos, tan | 4 | up to 2⁵⁰ = 1.1e15, beside zeros and poles, too; beyond, as accurate as f64 |
//! | asin, acos, atan, atan2 | 4 | everywhere |
//! | powi | 4 × the exponent | everywhere |
//! | powf | 4 × (1 + \|y ln x\|) | everywhere |
//! | erf | 4 × (1 + x²), of the e^(−x²) in it | everywhere |
//!
//! Infinities and results below 1e-290, whose low part underflows, are as accurate as f64.
//! `tests/double.rs` holds each to its number against a crate of arbitrary precision.

mod functions;

use std::ops::{Add, Div, Mul, Neg, Sub};

/// high + low, where high is the sum rounded to f64.
///
/// ```
/// use beit_check::double::Double;
/// use beit_check::Real;
///
/// let third = Double::ONE / Double::of(3.0);
/// assert_eq!(third.value(), 1.0 / 3.0);
/// assert!(Real::abs(third * Double::of(3.0) - Double::ONE).value() < 1e-31);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd)]
#[cfg_attr(feature = "bytemuck", derive(bytemuck::Pod, bytemuck::Zeroable))]
#[repr(C)]
pub struct Double {
    high: f64,
    low: f64,
}

/// a + b and its rounding error, exactly (Knuth).
fn two_sum(a: f64, b: f64) -> Double {
    let high = a + b;
    let of_b = high - a;
    Double { high, low: (a - (high - of_b)) + (b - of_b) }
}

/// The same where |a| ≥ |b| or a = 0 (Dekker).
fn quick_two_sum(a: f64, b: f64) -> Double {
    let high = a + b;
    Double { high, low: b - (high - a) }
}

/// a · b and its rounding error, exactly.
fn two_product(a: f64, b: f64) -> Double {
    let high = a * b;
    Double { high, low: a.mul_add(b, -high) }
}

impl Double {
    /// a + b; neither needs to be the larger.
    pub fn new(a: f64, b: f64) -> Self {
        two_sum(a, b)
    }

    /// The part beyond f64: the number minus its nearest f64.
    pub fn low(self) -> f64 {
        self.low
    }

    /// Times a power of two, exactly.
    fn scaled(self, factor: f64) -> Self {
        Self { high: self.high * factor, low: self.low * factor }
    }
}

impl Add for Double {
    type Output = Self;
    fn add(self, b: Self) -> Self {
        let (high, low) = (two_sum(self.high, b.high), two_sum(self.low, b.low));
        if !high.high.is_finite() {
            return Self { high: high.high, low: 0.0 };
        }
        let sum = quick_two_sum(high.high, high.low + low.high);
        quick_two_sum(sum.high, sum.low + low.low)
    }
}

impl Sub for Double {
    type Output = Self;
    fn sub(self, b: Self) -> Self {
        self + -b
    }
}

impl Mul for Double {
    type Output = Self;
    fn mul(self, b: Self) -> Self {
        let product = two_product(self.high, b.high);
        if !product.high.is_finite() {
            return Self { high: product.high, low: 0.0 };
        }
        quick_two_sum(product.high, product.low + (self.high * b.low + self.low * b.high))
    }
}

impl Div for Double {
    type Output = Self;
    /// Three digits of a long division to the base 2⁵³.
    fn div(self, b: Self) -> Self {
        let first = self.high / b.high;
        if !first.is_finite() || b.high.is_infinite() {
            return Self { high: first, low: 0.0 };
        }
        let rest = self - b * Self { high: first, low: 0.0 };
        let second = rest.high / b.high;
        let rest = rest - b * Self { high: second, low: 0.0 };
        quick_two_sum(first, second) + Self { high: rest.high / b.high, low: 0.0 }
    }
}

impl Neg for Double {
    type Output = Self;
    fn neg(self) -> Self {
        Self { high: -self.high, low: -self.low }
    }
}

crate::real::operators!(Double);
