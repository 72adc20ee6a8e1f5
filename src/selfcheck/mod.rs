//! The crate's own cases through the checker, and on one backend against another.
//!
//! [`check_case`] takes an op, a layer or a model as a [`Case`](crate::ops::case::Case) through everything in
//! [`crate::check`], and checks what its backward promises beside its numbers ([`semantics`]);
//! [`run::gradcheck`] walks over all cases of the crate and is what `beit gradcheck` runs.
//!
//! | question | module |
//! | --- | --- |
//! | all cases, and one of them on any scalar | [`AnyCase`], [`cases()`], [`subject`] |
//! | a case through the checker | [`check_case`], [`semantics`] |
//! | whether the checker notices anything | [`control`] |
//! | a GPU against the CPU, within what rounding can do | [`parity`], [`beit_check::bounded`] |
//! | ten training steps on two backends | [`training`] |
//! | the table of `beit gradcheck` | [`run`] |
//! | pages, JSON and JUnit | [`page`] |

mod cases;
pub mod control;
#[cfg(feature = "cuda")]
pub mod cuda;
mod judged;
#[cfg(feature = "cuda")]
mod on_cuda;
pub mod page;
pub mod parity;
pub mod run;
pub mod semantics;
pub mod subject;
pub mod training;
mod workers;

pub use cases::{AnyCase, cases, check_case, chosen, empty_cases, visit_cases};
#[cfg(feature = "cuda")]
pub use on_cuda::OnCuda;
