//! The number types of the gradient checker as scalars of the CPU backend.

use super::{Element, Float, Real};
use beit_check::Real as Number;
use beit_check::bounded::Bounded;
use beit_check::double::Double;
use beit_check::dual::Dual;

macro_rules! scalar {
    ($type:ty, $from_parts:expr, $second:expr) => {
        impl Element for $type {}
        impl Float for $type {
            fn from_f64(x: f64) -> Self {
                Number::of(x)
            }
            fn to_f64(self) -> f64 {
                Number::value(self)
            }
            fn from_parts(x: f64, second: f64) -> Self {
                $from_parts(x, second)
            }
            fn second(self) -> f64 {
                $second(self)
            }
        }
        impl Real for $type {
            const ZERO: Self = <Self as Number>::ZERO;
            const ONE: Self = <Self as Number>::ONE;
            fn exp(self) -> Self {
                Number::exp(self)
            }
            fn ln(self) -> Self {
                Number::ln(self)
            }
            fn sqrt(self) -> Self {
                Number::sqrt(self)
            }
            fn erf(self) -> Self {
                Number::erf(self)
            }
            fn is_finite(self) -> bool {
                Number::is_finite(self)
            }
        }
    };
}

scalar!(Dual, Dual::new, |x: Dual| x.slope);
scalar!(Double, Double::new, Double::low);
// A number is made without an error of its own.
scalar!(Bounded, |x, _| Number::of(x), |x: Bounded| x.error);
