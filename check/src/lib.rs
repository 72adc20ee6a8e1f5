//! Checks of hand-written gradients of anybody's functions.
//!
//! [`gradients()`] takes a forward and a backward over named ndarrays and compares them with finite
//! differences that know their own error; [`gradients_of`] takes a forward that is generic over its scalar
//! and compares with exact derivatives as well. Nothing here knows an op, a model or a device: the crate's
//! own cases go through the same checks in `beit::selfcheck`, which is what `beit gradcheck` runs.
//!
//! | question | module |
//! | --- | --- |
//! | several outputs, state, constraints, settings, f32 | [`Check`] |
//! | what passes, what fails, what is inconclusive | [`mod@gradients`], [`Report`] |
//! | generated sizes, the smallest that fails | [`shapes`] |
//! | a rule for J v, alone and beside a backward | [`Check::forward_mode`], [`Check::forward_and_reverse`] |
//! | second derivatives, a rule for H v | [`Check::twice`], [`Check::hessian`], [`Check::symmetry`] |
//! | a function of another program, `beit-check serve` | [`mod@serve`] |
//! | equations between two rules | [`identity`] |
//! | differences and their error | [`ladder`] |
//! | exact derivatives by dual numbers | [`exact`], [`dual`] |
//! | 31 digits by double-double | [`certificate`], [`double`] |
//! | a second opinion without a step | [`taylor`] |
//! | what a backward promises beside its numbers | [`promises`] |
//! | what rounding can do to a number | [`bounded`] |
//! | a derivative over all steps, drawn | [`curve`] |
//! | reports as page, JSON and JUnit | [`pages`] |
//!
//! **An activation.** Softplus, y = ln(1 + eˣ), dx = dy / (1 + e⁻ˣ):
//!
//! ```
//! use beit_check::{Arrays};
//! use ndarray::array;
//!
//! let at = Arrays::new().with("x", array![[-1.5, 0.2], [2.0, 7.0]]);
//! let report = beit_check::gradients(
//!     "softplus",
//!     &at,
//!     |a| a["x"].mapv(|x| x.exp().ln_1p()),
//!     |a, dy| Arrays::new().with("x", dy / a["x"].mapv(|x| 1.0 + (-x).exp())),
//! );
//! assert!(report.passed(), "{report}");
//! ```
//!
//! **A layer with parameters.** y = x Wᵀ + b over rows, dx = dy W, dW = dyᵀ x, db = Σ dy:
//!
//! ```
//! use beit_check::{Arrays};
//! use ndarray::{Axis, array};
//!
//! let at = Arrays::new()
//!     .with("x", array![[0.5, -1.0, 2.0], [1.5, 0.3, -0.7]])
//!     .with("weight", array![[0.1, 0.2, -0.4], [0.9, -0.6, 0.3]])
//!     .with("bias", array![0.05, -0.1]);
//! let report = beit_check::gradients(
//!     "linear",
//!     &at,
//!     |a| a.matrix("x").dot(&a.matrix("weight").t()) + &a.vector("bias"),
//!     |a, dy| {
//!         Arrays::new()
//!             .with("x", dy.dot(&a.matrix("weight")))
//!             .with("weight", dy.t().dot(&a.matrix("x")))
//!             .with("bias", dy.sum_axis(Axis(0)))
//!     },
//! );
//! assert!(report.passed(), "{report}");
//! ```
//!
//! **A mistake**, and how the report names its place. Root-mean-square normalisation of a row, with one
//! wrong element in the gradient of its weight:
//!
//! ```
//! use beit_check::{Arrays};
//! use ndarray::{Array1, array};
//!
//! fn normalised(x: &Array1<f64>) -> (Array1<f64>, f64) {
//!     let root = (x.mapv(|x| x * x).mean().unwrap() + 1e-6).sqrt();
//!     (x / root, root)
//! }
//!
//! let at = Arrays::new()
//!     .with("x", array![0.5, -1.0, 2.0, 0.25])
//!     .with("weight", array![1.0, 0.9, 1.1, -0.3]);
//! let report = beit_check::gradients(
//!     "rms_norm",
//!     &at,
//!     |a| normalised(&a.vector("x").to_owned()).0 * a.vector("weight"),
//!     |a, dy| {
//!         let (h, root) = normalised(&a.vector("x").to_owned());
//!         let dh = dy * &a.vector("weight");
//!         let mean = (&dh * &h).mean().unwrap();
//!         let mut dweight = dy * &h;
//!         dweight[2] *= 1.0 + 1e-7; // the mistake
//!         Arrays::new().with("x", (dh - h * mean) / root).with("weight", dweight)
//!     },
//! );
//! assert!(!report.passed());
//! let line = &report.failures(1)[0];
//! assert!(line.starts_with("rms_norm: weight[2]: analytic"), "{line}");
//! println!("{report}");
//! ```
//!
//! **With exact derivatives.** A forward that is written for any [`Real`] is also run on dual
//! numbers and on double-double ([`gradients_of`]), which sees errors down to 1e-13:
//!
//! ```
//! use beit_check::{Arrays, Function, Real};
//! use ndarray::{Array1, ArrayD, array};
//!
//! struct Swish;
//!
//! impl Function for Swish {
//!     fn forward<T: Real>(&self, a: &Arrays<T>) -> ArrayD<T> {
//!         a["x"].mapv(|x| x / (T::ONE + (-x).exp()))
//!     }
//!
//!     fn backward(&self, a: &Arrays, dy: &ArrayD<f64>) -> Arrays {
//!         let slope = |x: f64| {
//!             let s = 1.0 / (1.0 + (-x).exp());
//!             s + x * s * (1.0 - s)
//!         };
//!         Arrays::new().with("x", dy * a["x"].mapv(slope))
//!     }
//! }
//!
//! let report = beit_check::gradients_of("swish", &Arrays::new().with("x", array![-1.5, 0.2, 2.0]), &Swish);
//! assert!(report.passed(), "{report}");
//! assert!(report.worst_exact().unwrap() < 1e-13);
//! ```

mod arrays;
pub mod bounded;
mod builder;
pub mod certificate;
mod choice;
mod claim;
mod climb;
mod compare;
mod comparison;
mod constraint;
pub mod curve;
mod directions;
pub mod double;
pub mod dual;
mod escape;
pub mod exact;
mod failures;
mod forward_mode;
mod generic;
pub mod gradients;
pub mod html;
pub mod identity;
mod kink;
pub mod ladder;
mod noise;
mod outputs;
pub mod pages;
mod pair;
pub mod plot;
mod problem;
pub mod promises;
mod random;
pub mod real;
pub mod report;
mod second_order;
pub mod serve;
pub mod shapes;
pub mod taylor;
pub mod variable;
pub mod verdict;

/// The version of ndarray in the signatures of this module.
pub use ndarray;

pub use escape::escape;
pub use real::Real;

pub use builder::{Check, Layer};
pub use constraint::Constraint;
pub use outputs::Outputs;
pub use report::Report;
pub use second_order::Differentiable;
pub use shapes::Shapes;
pub use variable::{Precision, Settings};
pub use verdict::{Cause, Location, Verdict};

pub use arrays::{Arrays, Function, gradients, gradients_f32, gradients_of, gradients_with};
