//! The scalar of a forward that every judge can run.

use ndarray::ScalarOperand;
use num_traits::{FromPrimitive, One, Zero};
use std::fmt::Debug;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Div, DivAssign, Mul, MulAssign, Neg, Sub, SubAssign};

/// A real number: f64, a [`Dual`](crate::dual::Dual), a [`Double`](crate::double::Double), a
/// [`Bounded`](crate::bounded::Bounded).
///
/// The arithmetic operators take another such number or an f64: `x * 0.5 + y`. It is what ndarray asks of
/// an element, so `dot`, `sum`, `mean`, `fold`, `&a * x` and all element-wise operators of arrays work.
pub trait Real:
    Copy
    + Debug
    + Default
    + PartialOrd
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
        self.value().is_finite()
    }
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
    fn exp(self) -> Self {
        f64::exp(self)
    }
    fn ln(self) -> Self {
        f64::ln(self)
    }
    fn sqrt(self) -> Self {
        f64::sqrt(self)
    }
    fn erf(self) -> Self {
        libm::erf(self)
    }
    fn abs(self) -> Self {
        f64::abs(self)
    }
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
