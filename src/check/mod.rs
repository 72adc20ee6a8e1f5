//! Checks of hand-written gradients, for the crate's own cases and for anybody's functions.
//!
//! [`gradients::check`] takes a forward and a backward over named arrays and compares them with
//! finite differences; [`gradients::check_case`] does so for a [`Case`] and also
//! checks what a backward promises beside its numbers ([`semantics`]); [`run::gradcheck`] walks over
//! all cases of the crate and is what `beit gradcheck` runs.

pub mod gradients;
pub mod parity;
pub mod report;
pub mod run;
pub mod semantics;

use crate::case::{Case, Visitor};
use std::sync::Arc;

/// Shows every case of the crate to `v`: what is checked and timed.
pub fn visit_cases<V: Visitor>(v: &mut V) {
    crate::ops::visit_cases(v);
    crate::layers::visit_cases(v);
    crate::models::visit_cases(v);
}

/// A case with its type forgotten, so that its code is compiled here once and not in every program
/// that checks it.
pub struct AnyCase {
    /// `op/instance`.
    pub name: String,
    /// [`gradients::check_case`]
    pub gradients: Box<dyn Fn() -> report::Report + Send + Sync>,
    /// [`parity::check_f32`]
    pub f32: Box<dyn Fn() -> Result<(), String> + Send + Sync>,
    /// [`parity::check_threads`]
    pub threads: Box<dyn Fn() -> Result<(), String> + Send + Sync>,
}

/// All cases of the crate.
pub fn cases() -> Vec<AnyCase> {
    #[derive(Default)]
    struct All(Vec<AnyCase>);

    impl Visitor for All {
        fn visit<C: Case>(&mut self, case: C) {
            let case = Arc::new(case);
            let [a, b, c] = [case.clone(), case.clone(), case.clone()];
            self.0.push(AnyCase {
                name: case.name(),
                gradients: Box::new(move || gradients::check_case(&*a)),
                f32: Box::new(move || parity::check_f32(&*b)),
                threads: Box::new(move || parity::check_threads(&*c)),
            });
        }
    }

    let mut all = All::default();
    visit_cases(&mut all);
    all.0
}
