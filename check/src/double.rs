//! Double-double arithmetic: the unevaluated sum of two f64, about 31 digits.
//!
//! The high part is the number rounded to f64, the low part what that left over. A forward pass on such
//! numbers has no round-off worth speaking of next to f64, so a difference quotient of it is limited by
//! its step alone. Sums and products follow Dekker (1971) and Knuth; what the error-free parts rest on is
//! that every f64 operation rounds to nearest.
//!
//! Errors, relative, in units of u² = 2⁻¹⁰⁶ = 1.2e-32: a few for + − × ÷ √; a few times 1 + |x| for exp,
//! whose argument is reduced by multiples of ln 2, and a few times 1 + x² for erf, which contains
//! exp(−x²); a few for ln. Infinities and results below 1e-290, whose low part underflows, are as
//! accurate as f64.

use crate::real::Real;
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

/// ln 2, to 32 digits.
const LN_2: Double = Double { high: std::f64::consts::LN_2, low: 2.319_046_813_846_299_6e-17 };
/// 2/√π, to 32 digits.
const TWO_OVER_ROOT_PI: Double =
    Double { high: std::f64::consts::FRAC_2_SQRT_PI, low: 1.533_545_961_316_588e-17 };

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
        quick_two_sum(product.high, product.low + (self.high * b.low + self.low * b.high))
    }
}

impl Div for Double {
    type Output = Self;
    /// Three digits of a long division to the base 2⁵³.
    fn div(self, b: Self) -> Self {
        let first = self.high / b.high;
        if !first.is_finite() {
            return Self::of(first);
        }
        let rest = self - b * Self::of(first);
        let second = rest.high / b.high;
        let rest = rest - b * Self::of(second);
        quick_two_sum(first, second) + Self::of(rest.high / b.high)
    }
}

impl Neg for Double {
    type Output = Self;
    fn neg(self) -> Self {
        Self { high: -self.high, low: -self.low }
    }
}

crate::real::operators!(Double);

impl Real for Double {
    const ZERO: Self = Self { high: 0.0, low: 0.0 };
    const ONE: Self = Self { high: 1.0, low: 0.0 };
    fn of(x: f64) -> Self {
        Self { high: x, low: 0.0 }
    }
    fn value(self) -> f64 {
        self.high
    }

    /// x = k ln 2 + 512 r with |r| < 7e-4; eʳ − 1 by ten terms of its series (the eleventh is below
    /// 1e-42), then squared nine times as (1 + s)² − 1 = 2s + s², which keeps the digits of a small s.
    fn exp(self) -> Self {
        const HALVINGS: i32 = 9;
        if !(-745.2..709.8).contains(&self.high) {
            return Self::of(self.high.exp());
        }
        let k = (self.high / LN_2.high).round();
        let r = (self - LN_2 * Self::of(k)).scaled(0.5f64.powi(HALVINGS));
        let mut s = Self::ZERO;
        for n in (1..=10).rev() {
            s = r * (Self::ONE + s) / Self::of(f64::from(n));
        }
        for _ in 0..HALVINGS {
            s = s.scaled(2.0) + s * s;
        }
        // In two factors: 2¹⁰²⁴ alone would be infinite.
        let k = k as i32;
        (s + Self::ONE).scaled(2f64.powi(k / 2)).scaled(2f64.powi(k - k / 2))
    }

    /// Near 1 by 2 artanh((x − 1)/(x + 1)), whose series keeps the digits of a small result. Elsewhere
    /// from y₀ = ln x in f64 and t = x e^(−y₀) − 1, of the size of f64's error: y₀ + t − t²/2.
    fn ln(self) -> Self {
        if !(self.high > 0.0 && self.high.is_finite()) {
            return Self::of(self.high.ln());
        }
        if (0.8..1.25).contains(&self.high) {
            let z = (self - Self::ONE) / (self + Self::ONE);
            let (square, mut power, mut sum) = (z * z, z, z);
            let mut n = 3.0;
            // Exact zero ends it, too: ln 1 = 0.
            while power.high.abs() > 1e-34 * sum.high.abs() {
                power *= square;
                sum += power / Self::of(n);
                n += 2.0;
            }
            return sum.scaled(2.0);
        }
        let start = Self::of(self.high.ln());
        let t = self * Real::exp(-start) - Self::ONE;
        start + (t - (t * t).scaled(0.5))
    }

    /// One step of Newton from the root in f64.
    fn sqrt(self) -> Self {
        let root = self.high.sqrt();
        if !(root > 0.0 && root.is_finite()) {
            return Self::of(root);
        }
        let rest = self - two_product(root, root);
        quick_two_sum(root, rest.high / (2.0 * root))
    }

    /// 2/√π e^(−x²) Σ 2ⁿ x^(2n+1) / (2n+1)!!, all terms of one sign; from 8.7 on, 1 to all digits.
    fn erf(self) -> Self {
        if self.high.abs() > 8.7 || self.high.is_nan() {
            return Self::of(Real::erf(self.high));
        }
        let square = self * self;
        let (mut term, mut sum) = (self, self);
        let mut odd = 3.0;
        while term.high.abs() > 1e-34 * sum.high.abs() {
            term = term * square.scaled(2.0) / Self::of(odd);
            sum += term;
            odd += 2.0;
        }
        TWO_OVER_ROOT_PI * Real::exp(-square) * sum
    }
}
