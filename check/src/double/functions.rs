//! The functions of double-double numbers.

use super::{Double, quick_two_sum, two_product, two_sum};
use crate::real::Real;
use std::f64::consts::FRAC_2_PI;

/// ln 2 as a sum of f64: 212 bits.
const LN_2_PARTS: [f64; 4] = [
    std::f64::consts::LN_2,
    2.319_046_813_846_299_6e-17,
    5.707_708_438_416_212e-34,
    -3.582_432_210_601_811_4e-50,
];
/// π/2 as a sum of f64: 318 bits, so that what is left of a number beside a multiple of it has all digits.
const PI_2_PARTS: [f64; 6] = [
    std::f64::consts::FRAC_PI_2,
    6.123_233_995_736_766e-17,
    -1.497_384_904_859_169_8e-33,
    5.562_271_104_316_826e-50,
    2.836_115_989_820_158e-66,
    8.724_931_080_676_243e-84,
];
const LN_2: Double = Double { high: LN_2_PARTS[0], low: LN_2_PARTS[1] };
const PI_2: Double = Double { high: PI_2_PARTS[0], low: PI_2_PARTS[1] };
/// 2/√π, to 32 digits.
const TWO_OVER_ROOT_PI: Double =
    Double { high: std::f64::consts::FRAC_2_SQRT_PI, low: 1.533_545_961_316_588e-17 };

/// Largest argument whose multiple of π/2 is an exact f64.
const TURNS: f64 = (1u64 << 50) as f64;
/// An odd function with slope 1 at 0 is its argument to all digits: what is left out is its square.
const TINY: f64 = 1e-17;
/// Above, e^(−2x) is nothing beside 1.
const LARGE: f64 = 40.0;

/// x − k Σ parts without rounding on the way: an expansion of all terms (Shewchuk, 1997), rounded once.
fn less_multiple(x: Double, k: f64, parts: &[f64]) -> Double {
    let mut expansion = Vec::with_capacity(2 * parts.len() + 2);
    let mut grow = |term: f64| {
        let mut sum = term;
        for part in &mut expansion {
            let exact = two_sum(sum, *part);
            (sum, *part) = (exact.high, exact.low);
        }
        expansion.push(sum);
    };
    let products = parts.iter().map(|part| two_product(-k, *part));
    for term in products.chain([x]).flat_map(|p| [p.low, p.high]) {
        grow(term);
    }
    // The smallest first.
    expansion.into_iter().fold(Double::ZERO, |sum, part| sum + Double::of(part))
}

/// eʳ − 1 for |r| ≤ 1, relative to itself: ten terms of the series of r/512, then nine times
/// (1 + s)² − 1 = 2s + s².
fn exp_less_one(r: Double) -> Double {
    const HALVINGS: i32 = 9;
    let r = r.scaled(0.5f64.powi(HALVINGS));
    let mut s = Double::ZERO;
    for n in (1..=10).rev() {
        s = r * (Double::ONE + s) / Double::of(f64::from(n));
    }
    for _ in 0..HALVINGS {
        s = s.scaled(2.0) + s * s;
    }
    s
}

/// artanh of |z| ≤ 0.18 by its series.
fn artanh(z: Double) -> Double {
    let square = z * z;
    let (mut power, mut sum, mut n) = (z, z, 3.0);
    // Exact zero ends it, too: artanh 0 = 0.
    while power.high.abs() > 1e-34 * sum.high.abs() {
        power *= square;
        sum += power / Double::of(n);
        n += 2.0;
    }
    sum
}

/// 1 − x²/(m (m + 1)) (1 − x²/((m + 2)(m + 3)) (1 − …)) for |x| ≤ 0.8: the cosine from m = 1, the sine over x
/// from m = 2.
fn alternating(x: Double, m: i32) -> Double {
    let square = x * x;
    (0..15).rev().fold(Double::ONE, |sum, i| {
        let m = f64::from(m + 2 * i);
        Double::ONE - square * sum / Double::of(m * (m + 1.0))
    })
}

impl Double {
    fn is_integer(self) -> bool {
        self.high.fract() == 0.0 && self.low.fract() == 0.0
    }

    /// eˣ · 2ᵗ; x = k ln 2 + r.
    fn exp_times(self, twos: i32) -> Self {
        if !(-800.0..800.0).contains(&self.high) {
            return Self::of(self.high.exp());
        }
        let k = (self.high / LN_2.high).round();
        let r = less_multiple(self, k, &LN_2_PARTS);
        // In two factors: 2¹⁰²⁴ alone would be infinite.
        let k = k as i32 + twos;
        let y = exp_less_one(r) + Self::ONE;
        let y = y.scaled(2f64.powi(k / 2)).scaled(2f64.powi(k - k / 2));
        if y.high.is_finite() { y } else { Self::of(y.high) }
    }

    /// Sine and cosine: of the rest beside a multiple of π/2.
    fn sin_cos(self) -> (Self, Self) {
        if self.high.is_nan() || self.high.abs() > TURNS {
            let ((sin, cos), (low_sin, low_cos)) = (self.high.sin_cos(), self.low.sin_cos());
            let parts = (sin * low_cos + cos * low_sin, cos * low_cos - sin * low_sin);
            return (Self::of(parts.0), Self::of(parts.1));
        }
        let k = (self.high * FRAC_2_PI).round();
        let r = less_multiple(self, k, &PI_2_PARTS);
        let (sin, cos) = (r * alternating(r, 2), alternating(r, 1));
        match k.rem_euclid(4.0) {
            0.0 => (sin, cos),
            1.0 => (cos, -sin),
            2.0 => (-sin, -cos),
            _ => (-cos, sin),
        }
    }

    /// √(1 − x²), without cancellation near 1.
    fn opposite(self) -> Self {
        Real::sqrt((Self::ONE - self) * (Self::ONE + self))
    }

    /// The sign of `of` on a number that is not negative.
    fn signed(self, of: Self) -> Self {
        if of.high.is_sign_negative() { -self } else { self }
    }
}

impl Real for Double {
    const ZERO: Self = Self { high: 0.0, low: 0.0 };
    const ONE: Self = Self { high: 1.0, low: 0.0 };
    fn of(x: f64) -> Self {
        Self { high: x, low: 0.0 }
    }
    fn value(self) -> f64 {
        self.high
    }

    fn exp(self) -> Self {
        self.exp_times(0)
    }

    fn exp_m1(self) -> Self {
        match self.high.abs() {
            size if size < TINY * TINY => self,
            size if size < 1.0 => exp_less_one(self),
            _ => Real::exp(self) - Self::ONE,
        }
    }

    /// x = 2ᵏ m with m between √½ and √2: k ln 2 + 2 artanh((m − 1)/(m + 1)).
    fn ln(self) -> Self {
        if !(self.high > 0.0 && self.high.is_finite()) {
            return Self::of(self.high.ln());
        }
        let (m, k) = libm::frexp(self.high);
        let k = if m < std::f64::consts::FRAC_1_SQRT_2 { k - 1 } else { k };
        // In two factors: 2¹⁰⁷⁴ alone would be infinite.
        let m = self.scaled(2f64.powi(-k / 2)).scaled(2f64.powi(-k - -k / 2));
        let z = (m - Self::ONE) / (m + Self::ONE);
        LN_2 * Self::of(f64::from(k)) + artanh(z).scaled(2.0)
    }

    fn ln_1p(self) -> Self {
        match self.high {
            x if x.abs() < TINY * TINY => self,
            x if (-0.29..0.41).contains(&x) => artanh(self / (self + Self::of(2.0))).scaled(2.0),
            _ => Real::ln(Self::ONE + self),
        }
    }

    /// One step of Newton from the root in f64.
    fn sqrt(self) -> Self {
        const SMALL: f64 = 1e-240;
        if self.high < SMALL && self.high > 0.0 {
            // Where the square of the root would lose its low part.
            let power = 2f64.powi(200);
            return Real::sqrt(self.scaled(power).scaled(power)).scaled(power.recip());
        }
        let root = self.high.sqrt();
        if !(root > 0.0 && root.is_finite()) {
            return Self::of(root);
        }
        let rest = self - two_product(root, root);
        quick_two_sum(root, rest.high / (2.0 * root))
    }

    /// One step of Newton from the root in f64.
    fn cbrt(self) -> Self {
        const SMALL: f64 = 1e-240;
        if self.high.abs() < SMALL && self.high != 0.0 {
            let power = 2f64.powi(300);
            return Real::cbrt(self.scaled(power)).scaled(2f64.powi(-100));
        }
        let root = self.high.cbrt();
        if root == 0.0 || !root.is_finite() {
            return Self::of(root);
        }
        let rest = self - two_product(root, root) * Self::of(root);
        quick_two_sum(root, rest.high / (3.0 * root * root))
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

    fn sin(self) -> Self {
        self.sin_cos().0
    }

    fn cos(self) -> Self {
        self.sin_cos().1
    }

    fn tan(self) -> Self {
        let (sin, cos) = self.sin_cos();
        sin / cos
    }

    fn asin(self) -> Self {
        if self.high.abs() < TINY { self } else { self.atan2(self.opposite()) }
    }

    fn acos(self) -> Self {
        self.opposite().atan2(self)
    }

    /// y₀ = arctan x in f64 and what is left of x beside its tangent: (x cos y₀ − sin y₀)/(cos y₀ + x sin y₀),
    /// of the size of f64's error.
    fn atan(self) -> Self {
        if self.high.abs() < TINY {
            return self;
        }
        if self.high.is_infinite() {
            return PI_2.signed(self);
        }
        let start = Self::of(self.high.atan());
        let (sin, cos) = start.sin_cos();
        start + (self * cos - sin) / (cos + self * sin)
    }

    fn atan2(self, x: impl Into<Self>) -> Self {
        let x = x.into();
        let angle = self.high.atan2(x.high);
        let plain = |z: Self| z.high != 0.0 && z.high.is_finite();
        if !plain(self) || !plain(x) {
            // A multiple of π/4.
            let eighths = (2.0 * angle * FRAC_2_PI).round();
            return if eighths == 0.0 { Self::of(angle) } else { PI_2 * Self::of(0.5 * eighths) };
        }
        if Real::abs(self) > Real::abs(x) {
            PI_2.signed(self) - Real::atan(x / self)
        } else if x.high > 0.0 {
            Real::atan(self / x)
        } else {
            PI_2.scaled(2.0).signed(self) + Real::atan(self / x)
        }
    }

    fn sinh(self) -> Self {
        let x = Real::abs(self);
        let y = if x.high > LARGE {
            x.exp_times(-1)
        } else {
            let s = x.exp_m1();
            (s + s / (Self::ONE + s)).scaled(0.5)
        };
        y.signed(self)
    }

    fn cosh(self) -> Self {
        let x = Real::abs(self);
        if x.high > LARGE {
            return x.exp_times(-1);
        }
        let e = Real::exp(x);
        (e + Self::ONE / e).scaled(0.5)
    }

    fn tanh(self) -> Self {
        let x = Real::abs(self);
        let y = if x.high > LARGE {
            Self::ONE
        } else {
            let s = x.scaled(2.0).exp_m1();
            s / (s + Self::of(2.0))
        };
        y.signed(self)
    }

    /// |x|^y = e^(y ln |x|), with the sign of an odd y for a negative x.
    fn powf(self, exponent: impl Into<Self>) -> Self {
        let y = exponent.into();
        let plain = self.high != 0.0 && self.high.is_finite() && y.high.is_finite();
        if !plain || (self.high < 0.0 && !y.is_integer()) {
            return Self::of(self.high.powf(y.high));
        }
        let size = Real::exp(y * Real::ln(Real::abs(self)));
        let odd = self.high < 0.0 && !y.scaled(0.5).is_integer();
        if odd { -size } else { size }
    }

    fn floor(self) -> Self {
        let high = self.high.floor();
        if high == self.high { quick_two_sum(high, self.low.floor()) } else { Self::of(high) }
    }

    fn round(self) -> Self {
        let size = Real::floor(Real::abs(self) + Self::of(0.5));
        size.signed(self)
    }
}
