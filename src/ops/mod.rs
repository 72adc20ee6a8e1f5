//! The ops, one file each: formula, derivation, CPU implementation, case.
//!
//! Adding an op means its file, its line in [`crate::backend`] and its line in [`visit_cases`].

pub mod layer_norm;
pub mod linear;
pub mod linear_gelu;

use crate::case::Visitor;

/// Shows every case of every op to `v`.
pub fn visit_cases<V: Visitor>(v: &mut V) {
    layer_norm::cases(v);
    linear::cases(v);
    linear_gelu::cases(v);
}
