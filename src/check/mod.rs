//! Checks of hand-written gradients, for the crate's own cases and for anybody's functions.
//!
//! [`gradients::check`] takes a forward and a backward over named arrays and compares them with
//! finite differences; [`gradients::check_case`] does so for a [`Case`], compares its backward with
//! exact derivatives ([`exact`]) and checks what it promises beside its numbers ([`semantics`]);
//! [`run::gradcheck`] walks over all cases of the crate and is what `beit gradcheck` runs.

mod arrays;
pub mod certificate;
pub mod control;
#[cfg(feature = "cuda")]
pub mod cuda;
pub mod double;
pub mod dual;
pub mod exact;
pub mod gradients;
pub mod ladder;
mod noise;
pub mod page;
pub mod parity;
pub mod report;
pub mod run;
pub mod semantics;
pub mod subject;
pub mod taylor;
pub mod training;

pub use arrays::{Arrays, Function, gradients, gradients_of, gradients_with};

use crate::case::{Case, Inputs, Visitor};
use crate::cpu::Cpu;
use double::Double;
use dual::Dual;
use gradients::Settings;
use report::Report;
use semantics::Precise;
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
    /// On the CPU in double-double.
    pub cpu_double: Box<dyn Fn(&Start) -> Done + Send + Sync>,
    /// On the CPU in f32.
    pub cpu_f32: Box<dyn Fn(&Start) -> Done + Send + Sync>,
    /// On a GPU.
    #[cfg(feature = "cuda")]
    pub cuda: cuda::OnCuda,
}

impl AnyCase {
    fn new<C: Case>(case: C) -> Self {
        let case = Arc::new(case);
        let [a, b, c, d, e] = std::array::from_fn(|_| case.clone());
        Self {
            name: case.name(),
            make: Box::new(move || a.inputs()),
            cpu_f64: Box::new(move |start| run(&Cpu::<f64>::new(), &*b, start)),
            cpu_dual: Box::new(move |start| run(&Cpu::<Dual>::new(), &*c, start)),
            cpu_double: Box::new(move |start| run(&Cpu::<Double>::new(), &*e, start)),
            cpu_f32: Box::new(move |start| run(&Cpu::<f32>::new(), &*d, start)),
            #[cfg(feature = "cuda")]
            cuda: cuda::OnCuda::new(case),
        }
    }

    /// Inputs on the host, the same at every call.
    pub fn inputs(&self) -> Inputs {
        (self.make)()
    }

    /// [`gradients::check_case`]; with `curves` there is a ladder over all steps for each tensor.
    pub fn gradients(&self, curves: bool) -> Report {
        let precise = Precise { dual: &*self.cpu_dual, double: Some(&*self.cpu_double) };
        let (inputs, run) = (self.inputs(), &*self.cpu_f64);
        let settings = Settings { curves, ..Settings::for_tensors(inputs.differentiable()) };
        semantics::check_case(&self.name, &inputs, run, Some(precise), Some(settings), true)
    }

    /// The check with differences alone, with other settings.
    pub fn gradients_with(&self, settings: &Settings) -> Report {
        let (inputs, run) = (self.inputs(), &*self.cpu_f64);
        semantics::check_case(&self.name, &inputs, run, None, Some(*settings), true)
    }

    /// The gradients of f32 against differences of the forward in f32, on inputs that f32 holds.
    pub fn gradients_f32(&self) -> Report {
        let (inputs, run) = (parity::rounded::<f32>(self.inputs()), &*self.cpu_f32);
        semantics::check_case(&self.name, &inputs, run, None, None, true)
    }

    /// The same check of `run`, whose forward is that of the case on the CPU in f64: it is certified
    /// once, by [`Self::gradients`].
    fn check(&self, inputs: &Inputs, run: &Run) -> Report {
        let precise = Precise { dual: &*self.cpu_dual, double: None };
        semantics::check_case(&self.name, inputs, run, Some(precise), None, true)
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
