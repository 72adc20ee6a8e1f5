//! Checks of hand-written gradients, for the crate's own cases and for anybody's functions.
//!
//! [`gradients()`] takes a forward and a backward over named ndarrays and compares them with finite
//! differences that know their own error; [`gradients_of`] takes a forward that is generic over its scalar
//! and compares with exact derivatives as well. [`gradients::check_case`] does all that for a [`Case`], and
//! checks what its backward promises beside its numbers ([`semantics`]); [`run::gradcheck`] walks over all
//! cases of the crate and is what `beit gradcheck` runs.
//!
//! | question | module |
//! | --- | --- |
//! | what passes, what fails, what is inconclusive | [`mod@gradients`], [`report`] |
//! | differences and their error | [`ladder`] |
//! | exact derivatives by dual numbers | [`exact`], [`dual`] |
//! | 31 digits by double-double | [`certificate`], [`double`] |
//! | a second opinion without a step | [`taylor`] |
//! | whether the checker notices anything | [`control`] |
//! | a GPU against the CPU, within what rounding can do | [`parity`], [`bounded`] |
//! | pages, JSON and JUnit | [`page`] |
//!
//! **An activation.** Softplus, y = ln(1 + eˣ), dx = dy / (1 + e⁻ˣ):
//!
//! ```
//! use beit::check::{self, Arrays};
//! use ndarray::array;
//!
//! let at = Arrays::new().with("x", array![[-1.5, 0.2], [2.0, 7.0]]);
//! let report = check::gradients(
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
//! use beit::check::{self, Arrays};
//! use ndarray::{Axis, array};
//!
//! let at = Arrays::new()
//!     .with("x", array![[0.5, -1.0, 2.0], [1.5, 0.3, -0.7]])
//!     .with("weight", array![[0.1, 0.2, -0.4], [0.9, -0.6, 0.3]])
//!     .with("bias", array![0.05, -0.1]);
//! let report = check::gradients(
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
//! use beit::check::{self, Arrays};
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
//! let report = check::gradients(
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
//! **With exact derivatives.** A forward that is written for any [`crate::real::Real`] is also run on dual
//! numbers and on double-double ([`gradients_of`]), which sees errors down to 1e-13:
//!
//! ```
//! use beit::check::{self, Arrays, Function};
//! use beit::real::Real;
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
//! let report = check::gradients_of("swish", &Arrays::new().with("x", array![-1.5, 0.2, 2.0]), &Swish);
//! assert!(report.passed(), "{report}");
//! assert!(report.worst_exact().unwrap() < 1e-13);
//! ```

mod arrays;
pub mod bounded;
pub mod certificate;
mod claim;
mod compare;
pub mod control;
#[cfg(feature = "cuda")]
pub mod cuda;
mod directions;
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

/// The version of ndarray in the signatures of this module.
pub use ndarray;

pub use arrays::{Arrays, Function, gradients, gradients_of, gradients_with};

use crate::cpu::Cpu;
use crate::ops::case::{Case, Inputs, Visitor};
use bounded::Bounded;
use double::Double;
use dual::Dual;
use gradients::Settings;
use report::Report;
use semantics::Precise;
use std::panic::{AssertUnwindSafe, catch_unwind};
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
    /// On the CPU in f64 with bounds on the rounding of every number.
    pub cpu_bounded: Box<dyn Fn(&Start) -> Done + Send + Sync>,
    /// On the CPU in f32.
    pub cpu_f32: Box<dyn Fn(&Start) -> Done + Send + Sync>,
    /// On a GPU.
    #[cfg(feature = "cuda")]
    pub cuda: cuda::OnCuda,
}

impl AnyCase {
    fn new<C: Case>(case: C) -> Self {
        let case = Arc::new(case);
        let [a, b, c, d, e, f] = std::array::from_fn(|_| case.clone());
        Self {
            name: case.name(),
            make: Box::new(move || a.inputs()),
            cpu_f64: Box::new(move |start| run(&Cpu::<f64>::new(), &*b, start)),
            cpu_dual: Box::new(move |start| run(&Cpu::<Dual>::new(), &*c, start)),
            cpu_double: Box::new(move |start| run(&Cpu::<Double>::new(), &*e, start)),
            cpu_bounded: Box::new(move |start| run(&Cpu::<Bounded>::new(), &*f, start)),
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

    /// Runs a case without elements, forward and backward: no output and no gradient may be anything but
    /// empty or 0, or the op must refuse as the case declares. The error says what happened instead.
    pub fn empty(&self, run: &Run) -> Result<(), String> {
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
        let ran = catch_unwind(AssertUnwindSafe(passes)).map_err(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or_default().to_string()
        });
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
        let (inputs, run) = (parity::rounded::<f32>(self.inputs()), &*self.cpu_f32);
        semantics::check_case(&self.name, &inputs, run, None, None, true)
    }

    /// The same check of `run`, whose forward is that of the case on the CPU in f64: it is certified
    /// once, by [`Self::gradients`].
    pub fn check(&self, inputs: &Inputs, run: &Run) -> Report {
        let precise = Precise { dual: &*self.cpu_dual, double: None };
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
