//! The cases of the crate, with their types forgotten.

#[cfg(feature = "cuda")]
use super::on_cuda::OnCuda;
use super::semantics::{self, OnPairs};
use super::subject::{Done, Run, Start, rounded, run};
use crate::cpu::Cpu;
use crate::error::panic_text;
use crate::error::{Error, Result};
use crate::ops::case::{Case, Inputs, Rounding, Threshold, Visitor};
use beit_check::bounded::Bounded;
use beit_check::double::Double;
use beit_check::dual::Dual;
use beit_check::gradients::Settings;
use beit_check::report::Report;
use half::bf16;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// Checks every differentiable input and every parameter of `case`, and that its backward adds to
/// parameter gradients, gives the same bits on any number of threads, and touches no input. The
/// gradients are also compared with exact derivatives ([`beit_check::exact`]).
pub fn check_case<C: Case>(case: &C) -> Report {
    let on_cpu = |start: &Start| run(&Cpu::<f64>::new(), case, start);
    let on_dual = |start: &Start| run(&Cpu::<Dual>::new(), case, start);
    let on_double = |start: &Start| run(&Cpu::<Double>::new(), case, start);
    let precise = OnPairs { dual: &on_dual, double: Some(&on_double) };
    semantics::check_case(&case.name(), &case.inputs(), &on_cpu, Some(precise), None, true)
}

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
    /// What rounding may do to its results.
    pub rounding: Rounding,
    /// The constants of its code, and where it lies.
    pub thresholds: Vec<Threshold>,
    /// Whether it is too large for differences.
    pub large: bool,
    /// Whether roundings grow on their way.
    pub amplifies: bool,
    make: Box<dyn Fn() -> Inputs + Send + Sync>,
    /// On the CPU in f64, the judge.
    pub cpu_f64: Box<dyn Fn(&Start) -> Done + Send + Sync>,
    /// On the CPU with dual numbers, whose outputs carry exact derivatives.
    pub cpu_dual: Box<dyn Fn(&Start) -> Done + Send + Sync>,
    /// On the CPU in double-double.
    pub cpu_double: Box<dyn Fn(&Start) -> Done + Send + Sync>,
    /// On the CPU in f64 with bounds on the rounding of every number.
    pub cpu_bounded: Box<dyn Fn(&Start) -> Done + Send + Sync>,
    /// On the CPU in f32.
    pub cpu_f32: Box<dyn Fn(&Start) -> Done + Send + Sync>,
    /// On the CPU in bf16 with f32 masters.
    pub cpu_bf16: Box<dyn Fn(&Start) -> Done + Send + Sync>,
    /// On a GPU.
    #[cfg(feature = "cuda")]
    pub cuda: OnCuda,
}

impl AnyCase {
    fn new<C: Case>(case: C) -> Self {
        let case = Arc::new(case);
        let [a, b, c, d, e, f, g] = std::array::from_fn(|_| case.clone());
        Self {
            name: case.name(),
            rounding: case.rounding(),
            thresholds: case.thresholds(),
            large: case.large(),
            amplifies: case.amplifies(),
            make: Box::new(move || a.inputs()),
            cpu_f64: Box::new(move |start| run(&Cpu::<f64>::new(), &*b, start)),
            cpu_dual: Box::new(move |start| run(&Cpu::<Dual>::new(), &*c, start)),
            cpu_double: Box::new(move |start| run(&Cpu::<Double>::new(), &*e, start)),
            cpu_bounded: Box::new(move |start| run(&Cpu::<Bounded>::new(), &*f, start)),
            cpu_f32: Box::new(move |start| run(&Cpu::<f32>::new(), &*d, start)),
            cpu_bf16: Box::new(move |start| run(&Cpu::<bf16>::new(), &*g, start)),
            #[cfg(feature = "cuda")]
            cuda: OnCuda::new(case),
        }
    }

    /// Inputs on the host, the same at every call.
    pub fn inputs(&self) -> Inputs {
        (self.make)()
    }

    /// Runs a case without elements, forward and backward: no output and no gradient may be anything but
    /// empty or 0, or the op must refuse as the case declares. The error says what happened instead.
    pub fn empty(&self, run: &Run) -> std::result::Result<(), String> {
        let inputs = self.inputs();
        let passes = || {
            let outputs = run(&Start::forward(&inputs)).outputs;
            let ones: Vec<Vec<f64>> = outputs.iter().map(|y| vec![1.0; y.len()]).collect();
            let both = Start::backward(&inputs, &ones);
            let forward = Start::forward(&inputs);
            let done = run(if inputs.forward_only { &forward } else { &both });
            done.outputs
                .into_iter()
                .chain(done.gradients.into_values())
                .flatten()
                .find(|x| *x != 0.0)
        };
        let ran = catch_unwind(AssertUnwindSafe(passes))
            .map_err(|panic| panic_text(&*panic).unwrap_or_default());
        match (ran, inputs.refusal) {
            (Ok(None), None) => Ok(()),
            (Ok(Some(x)), None) => Err(format!("{} gives {x} out of nothing", self.name)),
            (Ok(_), Some(text)) => Err(format!("{} does not refuse with `{text}`", self.name)),
            (Err(said), Some(text)) if said.contains(text) => Ok(()),
            (Err(said), _) => Err(format!("{} panicked: {said}", self.name)),
        }
    }

    /// The check with differences alone, with other settings.
    pub fn gradients_with(&self, settings: &Settings) -> Report {
        let (inputs, run) = (self.inputs(), &*self.cpu_f64);
        semantics::check_case(&self.name, &inputs, run, None, Some(*settings), true)
    }

    /// The gradients of f32 against differences of the forward in f32, on inputs that f32 holds.
    pub fn gradients_f32(&self) -> Report {
        let (inputs, run) = (rounded::<f32>(self.inputs()), &*self.cpu_f32);
        let settings =
            Settings { dense: 12, samples: 4, projections: 2, blocks: 0, ..Settings::default() };
        semantics::check_case(&self.name, &inputs, run, None, Some(settings), true)
    }

    /// The same check of `run`, whose forward is that of the case on the CPU in f64: it is certified
    /// once, by [`Self::gradients`].
    pub fn check(&self, inputs: &Inputs, run: &Run) -> Report {
        let precise = OnPairs { dual: &*self.cpu_dual, double: None };
        semantics::check_case(&self.name, inputs, run, Some(precise), None, true)
    }
}

#[derive(Default)]
struct All(Vec<AnyCase>);

impl Visitor for All {
    fn visit<C: Case>(&mut self, case: C) {
        self.0.push(AnyCase::new(case));
    }
}

/// All cases of the crate.
pub fn cases() -> Vec<AnyCase> {
    let mut all = All::default();
    visit_cases(&mut all);
    all.0
}

/// The cases of ops without elements.
pub fn empty_cases() -> Vec<AnyCase> {
    let mut all = All::default();
    crate::ops::visit_empty_cases(&mut all);
    all.0
}

/// All cases whose name contains `filter`.
pub fn chosen(filter: Option<&str>) -> Result<Vec<AnyCase>> {
    let mut entries = cases();
    if let Some(filter) = filter {
        let all = subjects(&entries);
        entries.retain(|e| e.name.contains(filter));
        if entries.is_empty() {
            return Err(Error::config(format!(
                "no case has `{filter}` in its name; there are cases of: {all}"
            )));
        }
    }
    Ok(entries)
}

/// What there are cases of: the names up to the slash, each once.
fn subjects(entries: &[AnyCase]) -> String {
    let mut names: Vec<&str> =
        entries.iter().map(|e| e.name.split('/').next().unwrap_or_default()).collect();
    names.dedup();
    names.join(", ")
}
