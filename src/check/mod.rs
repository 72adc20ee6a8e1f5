//! Checks of hand-written gradients, for the crate's own cases and for anybody's functions.
//!
//! [`gradients::check`] takes a forward and a backward over named arrays and compares them with
//! finite differences; [`gradients::check_case`] does so for a [`Case`], compares its backward with
//! exact derivatives ([`exact`]) and checks what it promises beside its numbers ([`semantics`]);
//! [`run::gradcheck`] walks over all cases of the crate and is what `beit gradcheck` runs.

pub mod control;
#[cfg(feature = "cuda")]
pub mod cuda;
pub mod double;
pub mod dual;
pub mod exact;
pub mod gradients;
pub mod parity;
pub mod report;
pub mod run;
pub mod semantics;
pub mod subject;
pub mod training;

use crate::case::{Case, Inputs, Visitor};
use crate::cpu::Cpu;
use dual::Dual;
use report::Report;
use std::sync::Arc;
use subject::{Done, Run, Start, run};

/// Shows every case of the crate to `v`: what is checked and timed.
pub fn visit_cases<V: Visitor>(v: &mut V) {
    crate::ops::visit_cases(v);
    crate::layers::visit_cases(v);
    crate::models::visit_cases(v);
}

/// A case with its type forgotten, so that its code is compiled here once and not in every program
/// that checks it, and the judges once and not for every case.
pub struct AnyCase {
    /// `op/instance`.
    pub name: String,
    make: Box<dyn Fn() -> Inputs + Send + Sync>,
    /// On the CPU in f64, the judge.
    pub cpu_f64: Box<dyn Fn(&Start) -> Done + Send + Sync>,
    /// On the CPU with dual numbers, whose outputs carry exact derivatives.
    pub cpu_dual: Box<dyn Fn(&Start) -> Done + Send + Sync>,
    /// On the CPU in f32.
    pub cpu_f32: Box<dyn Fn(&Start) -> Done + Send + Sync>,
    /// On a GPU.
    #[cfg(feature = "cuda")]
    pub cuda: cuda::OnCuda,
}

impl AnyCase {
    fn new<C: Case>(case: C) -> Self {
        let case = Arc::new(case);
        let [a, b, c, d] = [case.clone(), case.clone(), case.clone(), case.clone()];
        Self {
            name: case.name(),
            make: Box::new(move || a.inputs()),
            cpu_f64: Box::new(move |start| run(&Cpu::<f64>::new(), &*b, start)),
            cpu_dual: Box::new(move |start| run(&Cpu::<Dual>::new(), &*c, start)),
            cpu_f32: Box::new(move |start| run(&Cpu::<f32>::new(), &*d, start)),
            #[cfg(feature = "cuda")]
            cuda: cuda::OnCuda::new(case),
        }
    }

    /// Inputs on the host, the same at every call.
    pub fn inputs(&self) -> Inputs {
        (self.make)()
    }

    /// [`gradients::check_case`]
    pub fn gradients(&self) -> Report {
        self.check(&self.inputs(), &*self.cpu_f64)
    }

    /// The same check of `run`, which should do what the case does on the CPU in f64.
    fn check(&self, inputs: &Inputs, run: &Run) -> Report {
        semantics::check_case(&self.name, inputs, run, Some(&*self.cpu_dual), None, true)
    }
}

/// All cases of the crate.
pub fn cases() -> Vec<AnyCase> {
    #[derive(Default)]
    struct All(Vec<AnyCase>);

    impl Visitor for All {
        fn visit<C: Case>(&mut self, case: C) {
            self.0.push(AnyCase::new(case));
        }
    }

    let mut all = All::default();
    visit_cases(&mut all);
    all.0
}
