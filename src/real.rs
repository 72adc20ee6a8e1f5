//! Scalars: what a buffer may hold ([`Element`]), what a tensor of numbers may hold ([`Float`]), and
//! what the reference path computes with ([`Real`]).
//!
//! The CPU computes in a [`Real`], so that the same lines run on `f32`, on `f64` and on the
//! number types of the gradient checker (dual numbers, double-double). That is why the functions
//! below are trait methods and why nothing here assumes a bit layout.

use std::fmt::Debug;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Div, DivAssign, Mul, MulAssign, Neg, Sub, SubAssign};

/// Anything a device buffer may hold: plain old data, so that it can be copied as bytes.
pub trait Element: bytemuck::Pod + Default + Debug + PartialEq + Send + Sync {}

/// A number that can be written down as f64: weights, activations, gradients.
pub trait Float: Element {
    /// Nearest value to `x`.
    fn from_f64(x: f64) -> Self;
    /// The value, widened (for a dual number: its real part).
    fn to_f64(self) -> f64;
    /// Numbers given as f32, each rounded or widened; f32 itself is moved.
    fn from_f32s(numbers: Vec<f32>) -> Vec<Self> {
        numbers.into_iter().map(|x| Self::from_f64(f64::from(x))).collect()
    }
    /// The numbers as f32, each rounded or widened; f32 itself is moved.
    fn into_f32s(numbers: Vec<Self>) -> Vec<f32> {
        numbers.into_iter().map(|x| x.to_f64() as f32).collect()
    }
    /// A number of the two parts that the gradient checker's types have: for a dual number the value
    /// and its slope, for double-double two numbers that are added. Other types drop the second.
    fn from_parts(x: f64, second: f64) -> Self {
        let _ = second;
        Self::from_f64(x)
    }
    /// The second part: a dual number's slope, what double-double has beyond f64; 0 for other types.
    fn second(self) -> f64 {
        0.0
    }
}

mod judges;

impl Element for u8 {}
impl Element for u32 {}
impl Element for half::bf16 {}
impl Float for half::bf16 {
    fn from_f64(x: f64) -> Self {
        // half 2.7 reads the upper 32 bits alone. One of them stands for the others: else a number just
        // beyond the middle of two would round as if it were there.
        let rest = u64::from(x.to_bits() as u32 != 0) << 32;
        Self::from_f64(f64::from_bits(x.to_bits() | rest))
    }
    fn to_f64(self) -> f64 {
        self.into()
    }
    fn from_f32s(numbers: Vec<f32>) -> Vec<Self> {
        numbers.into_iter().map(Self::from_f32).collect()
    }
    fn into_f32s(numbers: Vec<Self>) -> Vec<f32> {
        numbers.into_iter().map(Self::to_f32).collect()
    }
}

/// A scalar with the arithmetic and the few functions that the models need.
pub trait Real:
    Float
    + PartialOrd
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + SubAssign
    + MulAssign
    + DivAssign
    + Sum
{
    /// Whether loops over this type are compiled for wide vectors, too ([`simd_fn!`](crate::simd_fn)).
    const VECTORISED: bool = false;
    /// 0
    const ZERO: Self;
    /// 1
    const ONE: Self;
    /// e^x
    fn exp(self) -> Self;
    /// Natural logarithm.
    fn ln(self) -> Self;
    /// Square root.
    fn sqrt(self) -> Self;
    /// 1/√x; in f32 with one rounding.
    fn recip_sqrt(self) -> Self {
        Self::ONE / self.sqrt()
    }
    /// Error function, 2/sqrt(pi) * integral of exp(-t^2) from 0 to x.
    fn erf(self) -> Self;
    /// Magnitude.
    fn abs(self) -> Self {
        if self < Self::ZERO { -self } else { self }
    }
    /// The larger of the two; `self` where they compare equal or not at all.
    fn maximum(self, other: Self) -> Self {
        if other > self { other } else { self }
    }
    /// Neither infinite nor NaN.
    fn is_finite(self) -> bool {
        self.to_f64().is_finite()
    }

    /// `C <- alpha A B + beta C`; A is m x k, B is k x n, C is m x n, each with a row and a column
    /// stride. With `beta` 0 the old C is not read.
    ///
    /// # Safety
    /// Each pointer must be valid for its matrix under its strides, and C must not overlap A or B.
    #[allow(unsafe_code)]
    unsafe fn gemm_raw(
        (m, k, n): (usize, usize, usize),
        alpha: Self,
        a: (*const Self, isize, isize),
        b: (*const Self, isize, isize),
        beta: Self,
        c: (*mut Self, isize, isize),
    ) {
        let at = |(p, rs, cs): (*const Self, isize, isize), i: usize, j: usize| {
            // SAFETY: i, j lie inside the matrix, and the caller vouches for the pointer.
            unsafe { *p.offset(i as isize * rs + j as isize * cs) }
        };
        for i in 0..m {
            for j in 0..n {
                let mut sum = Self::ZERO;
                for l in 0..k {
                    sum += at(a, i, l) * at(b, l, j);
                }
                let old =
                    if beta == Self::ZERO { Self::ZERO } else { beta * at((c.0, c.1, c.2), i, j) };
                // SAFETY: as above.
                unsafe { *c.0.offset(i as isize * c.1 + j as isize * c.2) = alpha * sum + old };
            }
        }
    }
}

/// `x` within bounds, and whether it was inside them; what is not a number stays.
pub fn clamped<T: Real>(x: T, (low, high): (f64, f64)) -> (T, bool) {
    let (low, high) = (T::from_f64(low), T::from_f64(high));
    if x < low {
        (low, false)
    } else if x > high {
        (high, false)
    } else {
        (x, true)
    }
}

impl Element for f64 {}
impl Float for f64 {
    #[inline(always)]
    fn from_f64(x: f64) -> Self {
        x
    }
    #[inline(always)]
    fn to_f64(self) -> f64 {
        self
    }
}

impl Real for f64 {
    const VECTORISED: bool = true;
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    #[inline(always)]
    fn exp(self) -> Self {
        f64::exp(self)
    }
    #[inline(always)]
    fn ln(self) -> Self {
        f64::ln(self)
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        f64::sqrt(self)
    }
    fn erf(self) -> Self {
        libm::erf(self)
    }
    #[inline(always)]
    fn abs(self) -> Self {
        f64::abs(self)
    }
    #[inline(always)]
    fn is_finite(self) -> bool {
        f64::is_finite(self)
    }
    #[allow(unsafe_code)]
    unsafe fn gemm_raw(
        (m, k, n): (usize, usize, usize),
        alpha: Self,
        a: (*const Self, isize, isize),
        b: (*const Self, isize, isize),
        beta: Self,
        c: (*mut Self, isize, isize),
    ) {
        // SAFETY: the caller's contract is matrixmultiply's contract.
        unsafe {
            matrixmultiply::dgemm(m, k, n, alpha, a.0, a.1, a.2, b.0, b.1, b.2, beta, c.0, c.1, c.2)
        }
    }
}

impl Element for f32 {}
impl Float for f32 {
    #[inline(always)]
    fn from_f64(x: f64) -> Self {
        x as f32
    }
    #[inline(always)]
    fn to_f64(self) -> f64 {
        f64::from(self)
    }
    fn from_f32s(numbers: Vec<f32>) -> Vec<Self> {
        numbers
    }
    fn into_f32s(numbers: Vec<Self>) -> Vec<f32> {
        numbers
    }
}

/// Horner's rule; the coefficients come lowest power first.
#[inline(always)]
fn horner<const N: usize>(x: f32, coefficients: [f32; N]) -> f32 {
    let mut sum = coefficients[N - 1];
    for i in (0..N - 1).rev() {
        sum = sum * x + coefficients[i];
    }
    sum
}

impl Real for f32 {
    const VECTORISED: bool = true;
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;

    /// At most 2 ulp from the true value; results below the smallest normal number become 0.
    /// Branch-free, so that a loop over it vectorises. `x = n ln 2 + r`, and e^r is a minimax
    /// polynomial of degree 6 on |r| <= ln 2 / 2, fitted at Chebyshev nodes (error 2e-9).
    #[inline(always)]
    fn exp(self) -> Self {
        const LN2_HIGH: f32 = 0.693_359_4;
        const LN2_LOW: f32 = -2.121_944_4e-4;
        // Adding 1.5 * 2^23 rounds to an integer in the low bits of the mantissa.
        const MAGIC: f32 = 12_582_912.0;
        let x = if self > 88.8 { 88.8 } else { self };
        let x = if x < -87.4 { -87.4 } else { x };
        let shifted = x * std::f32::consts::LOG2_E + MAGIC;
        let n = shifted - MAGIC;
        let r = (x - n * LN2_HIGH) - n * LN2_LOW;
        let p = horner(
            r,
            [1.0, 1.0, 0.499_999_9, 0.166_664_11, 0.041_668_426, 0.008_375_599, 0.001_382_822_8],
        );
        // 2^n in two factors: n = 128 is needed for results just below infinity.
        let bits = shifted.to_bits().wrapping_sub(MAGIC.to_bits()) as i32;
        let half = bits >> 1;
        let scale = |e: i32| f32::from_bits(((e + 127) as u32) << 23);
        let y = p * scale(half) * scale(bits - half);
        let y = if self < -87.336_54 { 0.0 } else { y };
        let y = if self > 88.722_84 { f32::INFINITY } else { y };
        if self.is_nan() { self } else { y }
    }

    #[inline(always)]
    fn ln(self) -> Self {
        f32::ln(self)
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        f32::sqrt(self)
    }
    fn recip_sqrt(self) -> Self {
        (1.0 / f64::from(self).sqrt()) as f32
    }

    /// At most 4 ulp from the true value. Below 1: x times a polynomial in x^2 (fit error 1.2e-9);
    /// from 1 on: 1 - exp(-x^2) R(1/(1 + 0.4 x)), where R fits exp(x^2) erfc(x) to 3.5e-8 up to 4.2,
    /// beyond which erf is 1 in f32.
    #[allow(clippy::approx_constant)] // the first coefficient is fitted, near 2/sqrt(pi)
    #[inline(always)]
    fn erf(self) -> Self {
        let x = self.abs();
        let t = self * self;
        let small = self
            * horner(
                t,
                [
                    1.128_379_1,
                    -0.376_126_26,
                    0.112_835_824,
                    -0.026_853_692,
                    0.005_188_099,
                    -0.000_800_818_9,
                    7.847_259e-5,
                ],
            );
        let u = 1.0 / (1.0 + 0.4 * x);
        let tail = horner(
            u,
            [
                -0.001_276_090_8,
                0.243_139_24,
                0.124_651_78,
                0.525_974_3,
                -0.410_388_98,
                0.714_125_2,
                -0.196_095_66,
            ],
        );
        let large = 1.0 - Real::exp(-t) * tail;
        let large = if x > 4.2 { 1.0 } else { large };
        let y = if x < 1.0 { small } else { f32::copysign(large, self) };
        if self.is_nan() { self } else { y }
    }

    #[inline(always)]
    fn abs(self) -> Self {
        f32::abs(self)
    }
    #[inline(always)]
    fn is_finite(self) -> bool {
        f32::is_finite(self)
    }
    #[allow(unsafe_code)]
    unsafe fn gemm_raw(
        (m, k, n): (usize, usize, usize),
        alpha: Self,
        a: (*const Self, isize, isize),
        b: (*const Self, isize, isize),
        beta: Self,
        c: (*mut Self, isize, isize),
    ) {
        // gemm writes C <- p C + q A B, and takes the column stride first.
        let (p, q, serial) = (beta, alpha, gemm::Parallelism::None);
        // SAFETY: the caller's contract is gemm's contract.
        unsafe {
            gemm::gemm(
                m,
                n,
                k,
                c.0,
                c.2,
                c.1,
                beta != 0.0,
                a.0,
                a.2,
                a.1,
                b.0,
                b.2,
                b.1,
                p,
                q,
                false,
                false,
                false,
                serial,
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Largest distance in units in the last place over a sweep of f32 arguments.
    fn worst_ulp(f: fn(f32) -> f32, truth: fn(f64) -> f64, lo: f32, hi: f32) -> f64 {
        let steps = 400_000;
        (0..=steps)
            .map(|i| {
                let x = lo + (hi - lo) * i as f32 / steps as f32;
                let want = truth(f64::from(x));
                let ulp = f64::from((want as f32).abs().next_up()) - f64::from((want as f32).abs());
                (f64::from(f(x)) - want).abs() / ulp
            })
            .fold(0.0, f64::max)
    }

    #[test]
    fn bf16_is_the_nearest_of_all() {
        use half::bf16;
        let of = <bf16 as Float>::from_f64;
        let (step, low) = (2f64.powi(-7), 2f64.powi(-133));
        for (x, want) in [
            (1.0 + step / 2.0, 1.0),
            (1.0 + step / 2.0 + 2f64.powi(-23), 1.0 + step),
            (1.0 + step / 2.0 + 2f64.powi(-52), 1.0 + step),
            (1.0 + 1.5 * step, 1.0 + 2.0 * step),
            (1.0 + 1.5 * step - 2f64.powi(-52), 1.0 + step),
            (low / 2.0, 0.0),
            (low / 2.0 + 2f64.powi(-180), low),
            (-low * 1.5 + 2f64.powi(-180), -low),
            (f64::MAX, f64::INFINITY),
            (f64::INFINITY, f64::INFINITY),
        ] {
            assert_eq!(of(x).to_f64(), want, "{x:e}");
        }
        assert!(of(f64::NAN).is_nan());
    }

    #[test]
    fn f32_exp_is_accurate() {
        let worst = worst_ulp(<f32 as Real>::exp, f64::exp, -87.3, 88.7);
        assert!(worst <= 2.0, "{worst} ulp");
        assert_eq!(<f32 as Real>::exp(0.0), 1.0);
        assert_eq!(<f32 as Real>::exp(-200.0), 0.0);
        assert_eq!(<f32 as Real>::exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(<f32 as Real>::exp(200.0), f32::INFINITY);
        assert!(<f32 as Real>::exp(f32::NAN).is_nan());
    }

    #[test]
    fn f32_erf_is_accurate() {
        let worst = worst_ulp(<f32 as Real>::erf, libm::erf, -5.0, 5.0);
        assert!(worst <= 4.0, "{worst} ulp");
        assert_eq!(<f32 as Real>::erf(0.0), 0.0);
        assert_eq!(<f32 as Real>::erf(-9.0), -1.0);
        assert!(<f32 as Real>::erf(f32::NAN).is_nan());
    }
}
