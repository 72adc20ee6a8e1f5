//! The scalar of a forward that every judge can run.

use ndarray::ScalarOperand;
use num_traits::{FromPrimitive, One, Zero};
use std::fmt::Debug;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Div, DivAssign, Mul, MulAssign, Neg, Sub, SubAssign};

/// A real number: f64, a [`Dual`](crate::dual::Dual), a [`Double`](crate::double::Double), a
/// [`Bounded`](crate::bounded::Bounded).
///
/// The arithmetic operators take another such number or an f64: `x * 0.5 + y`; so do the functions of two
/// numbers: `x.maximum(0.0)`, `x.powf(2.5)`. Functions have the names and the meaning of those of `f64`. It is
/// what ndarray asks of an element, so `dot`, `sum`, `mean`, `fold`, `&a * x` and all element-wise operators
/// of arrays work.
///
/// ```
/// use beit_check::Real;
///
/// /// GELU with tanh, as GPT-2 has it.
/// fn gelu<T: Real>(x: T) -> T {
///     let inner = (x + x.powi(3) * 0.044715) * (2.0 / std::f64::consts::PI).sqrt();
///     x * 0.5 * (inner.tanh() + 1.0)
/// }
///
/// let y = gelu(beit_check::dual::Dual::new(1.0, 1.0));
/// assert_eq!(y.value, gelu(1.0));
/// assert!((y.slope - 1.083).abs() < 1e-3);
/// ```
pub trait Real:
    Copy
    + Debug
    + Default
    + PartialOrd
    + From<f64>
    + Send
    + Sync
    + 'static
    + Zero
    + One
    + FromPrimitive
    + ScalarOperand
    + Neg<Output = Self>
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + AddAssign
    + SubAssign
    + MulAssign
    + DivAssign
    + Add<f64, Output = Self>
    + Sub<f64, Output = Self>
    + Mul<f64, Output = Self>
    + Div<f64, Output = Self>
    + AddAssign<f64>
    + SubAssign<f64>
    + MulAssign<f64>
    + DivAssign<f64>
    + Sum
{
    /// 0
    const ZERO: Self;
    /// 1
    const ONE: Self;
    /// A constant.
    fn of(x: f64) -> Self;
    /// The number rounded to f64, without what else it carries.
    fn value(self) -> f64;
    /// e^x
    fn exp(self) -> Self;
    /// Natural logarithm.
    fn ln(self) -> Self;
    /// Square root.
    fn sqrt(self) -> Self;
    /// Error function, 2/√π ∫ exp(−t²) dt from 0 to x.
    fn erf(self) -> Self;
    /// Sine, of radians.
    fn sin(self) -> Self;
    /// Cosine, of radians.
    fn cos(self) -> Self;
    /// Tangent, of radians.
    fn tan(self) -> Self;
    /// Arcsine, in [−π/2, π/2].
    fn asin(self) -> Self;
    /// Arccosine, in [0, π].
    fn acos(self) -> Self;
    /// Arctangent, in [−π/2, π/2].
    fn atan(self) -> Self;
    /// Angle of the point (`x`, `self`), in [−π, π].
    fn atan2(self, x: impl Into<Self>) -> Self;
    /// Hyperbolic sine.
    fn sinh(self) -> Self;
    /// Hyperbolic cosine.
    fn cosh(self) -> Self;
    /// Hyperbolic tangent.
    fn tanh(self) -> Self;
    /// Cube root, of negative numbers, too.
    fn cbrt(self) -> Self;
    /// ln(1 + x), which keeps the digits of a small x.
    fn ln_1p(self) -> Self;
    /// e^x − 1, which keeps the digits of a small x.
    fn exp_m1(self) -> Self;
    /// To the power of a number; the derivative by an exponent that does not move is left out, so that
    /// x to a constant is differentiable where ln x is not.
    fn powf(self, exponent: impl Into<Self>) -> Self;
    /// To the power of an integer.
    fn powi(self, n: i32) -> Self {
        let (mut power, mut square, mut rest) = (Self::ONE, self, n.unsigned_abs());
        while rest > 0 {
            if rest % 2 == 1 {
                power *= square;
            }
            rest /= 2;
            if rest > 0 {
                square *= square;
            }
        }
        if n < 0 { Self::ONE / power } else { power }
    }
    /// 1 / (1 + e^(−x)), from an exponential that is at most 1: it neither overflows nor loses the digits of
    /// a small result.
    fn sigmoid(self) -> Self {
        let e = (-Real::abs(self)).exp();
        if self < Self::ZERO { e / (e + Self::ONE) } else { Self::ONE / (e + Self::ONE) }
    }
    /// Magnitude.
    fn abs(self) -> Self {
        if self < Self::ZERO { -self } else { self }
    }
    /// The larger of the two; `self` where they compare equal or not at all.
    fn maximum(self, other: impl Into<Self>) -> Self {
        let other = other.into();
        if other > self { other } else { self }
    }
    /// The smaller of the two; `self` where they compare equal or not at all.
    fn minimum(self, other: impl Into<Self>) -> Self {
        let other = other.into();
        if other < self { other } else { self }
    }
    /// The largest integer that is not above. Its slope is 0 everywhere, at the jumps, too; so are those of
    /// [`Real::round`] and [`Real::signum`].
    fn floor(self) -> Self {
        Self::of(self.value().floor())
    }
    /// The nearest integer, halves away from 0; slope 0.
    fn round(self) -> Self {
        Self::of(self.value().round())
    }
    /// 1 or −1, the sign; 1 of 0 and −1 of −0, as [`f64::signum`] has it; slope 0.
    fn signum(self) -> Self {
        Self::of(self.value().signum())
    }
    /// Neither infinite nor NaN.
    fn is_finite(self) -> bool {
        self.value().is_finite()
    }
}

/// Methods of f64 by the same name.
macro_rules! std_methods {
    ($($name:ident),*) => { $(fn $name(self) -> Self { f64::$name(self) })* };
}

impl Real for f64 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    fn of(x: f64) -> Self {
        x
    }
    fn value(self) -> f64 {
        self
    }
    fn erf(self) -> Self {
        libm::erf(self)
    }
    fn atan2(self, x: impl Into<Self>) -> Self {
        f64::atan2(self, x.into())
    }
    fn powf(self, exponent: impl Into<Self>) -> Self {
        f64::powf(self, exponent.into())
    }
    fn powi(self, n: i32) -> Self {
        f64::powi(self, n)
    }
    std_methods!(
        exp, ln, sqrt, sin, cos, tan, asin, acos, atan, sinh, cosh, tanh, cbrt, ln_1p, exp_m1
    );
    std_methods!(abs, floor, round, signum);
}

/// What follows for a type with `+ − × ÷` of its own: the operators with f64 and with assignment, sums, and
/// what ndarray asks of an element.
macro_rules! operators {
    ($type:ty: $($op:ident $method:ident $assign:ident $assign_method:ident),*) => {
        $(
            impl std::ops::$op<f64> for $type {
                type Output = Self;
                fn $method(self, b: f64) -> Self {
                    std::ops::$op::$method(self, <Self as crate::real::Real>::of(b))
                }
            }
            impl std::ops::$assign for $type {
                fn $assign_method(&mut self, b: Self) {
                    *self = std::ops::$op::$method(*self, b);
                }
            }
            impl std::ops::$assign<f64> for $type {
                fn $assign_method(&mut self, b: f64) {
                    *self = std::ops::$op::$method(*self, b);
                }
            }
        )*
        impl From<f64> for $type {
            fn from(x: f64) -> Self {
                <Self as crate::real::Real>::of(x)
            }
        }
        impl std::iter::Sum for $type {
            fn sum<I: Iterator<Item = Self>>(terms: I) -> Self {
                terms.fold(<Self as crate::real::Real>::ZERO, std::ops::Add::add)
            }
        }
        impl num_traits::Zero for $type {
            fn zero() -> Self {
                <Self as crate::real::Real>::ZERO
            }
            fn is_zero(&self) -> bool {
                crate::real::Real::value(*self) == 0.0
            }
        }
        impl num_traits::One for $type {
            fn one() -> Self {
                <Self as crate::real::Real>::ONE
            }
        }
        impl num_traits::FromPrimitive for $type {
            fn from_i64(n: i64) -> Option<Self> {
                Some(<Self as crate::real::Real>::of(n as f64))
            }
            fn from_u64(n: u64) -> Option<Self> {
                Some(<Self as crate::real::Real>::of(n as f64))
            }
            fn from_f64(x: f64) -> Option<Self> {
                Some(<Self as crate::real::Real>::of(x))
            }
        }
        impl ndarray::ScalarOperand for $type {}
    };
    ($type:ty) => {
        crate::real::operators!($type: Add add AddAssign add_assign, Sub sub SubAssign sub_assign,
            Mul mul MulAssign mul_assign, Div div DivAssign div_assign);
    };
}
pub(crate) use operators;
