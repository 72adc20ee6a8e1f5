//! A check with everything that it may need.

use crate::arrays::{Arrays, Function, flat, in_order, like, misnamed, moved, variables};
use crate::constraint::{Constraint, Constraints};
use crate::double::Double;
use crate::dual::Dual;
use crate::exact::Projection;
use crate::gradients::{Precise, Settings, caught, check_exactly, check_with};
use crate::outputs::Outputs;
use crate::random::{SEED, Stream};
use crate::report::Report;
use std::cell::RefCell;

/// A layer with state: what forward keeps, backward uses.
pub trait Layer {
    /// One array, several by name, one number.
    type Outputs: Outputs;
    /// The outputs; keeps what backward needs.
    fn forward(&mut self, at: &Arrays) -> Self::Outputs;
    /// From the gradient of the outputs of the last forward that of every array, by name.
    fn backward(&mut self, upstream: &Self::Outputs) -> Arrays;
}

/// A check: its name, the point, what is kept there, how thorough it is; then what is checked.
///
/// The log-likelihood of counts under a distribution p, which moves on the simplex. Two outputs, and counts,
/// which are integers, captured by the closures:
///
/// ```
/// use beit_check::{Arrays, Check, Constraint};
/// use ndarray::{Array1, arr0, array};
///
/// let counts = [3u32, 1, 6];
/// let of = |p: f64, n: u32| f64::from(n) * p.ln();
/// let report = Check::new("likelihood")
///     .at(Arrays::new().with("p", array![0.2, 0.3, 0.5]))
///     .constrain("p", Constraint::Simplex)
///     .gradients(
///         |a| {
///             let terms: Array1<f64> = a.vector("p").iter().zip(counts).map(|(p, n)| of(*p, n)).collect();
///             Arrays::new().with("sum", arr0(terms.sum())).with("terms", terms)
///         },
///         |a, up| {
///             let pairs = a["p"].iter().zip(counts).zip(up.vector("terms"));
///             let dp: Array1<f64> =
///                 pairs.map(|((p, n), u)| (up["sum"][[]] + u) * f64::from(n) / p).collect();
///             Arrays::new().with("p", dp)
///         },
///     );
/// assert!(report.passed(), "{report}");
/// ```
#[derive(Clone, Debug)]
pub struct Check {
    pub(crate) name: String,
    pub(crate) at: Arrays,
    pub(crate) constraints: Constraints,
    pub(crate) settings: Settings,
}

impl Check {
    /// A check of this name, at no arrays yet.
    pub fn new(name: &str) -> Self {
        let (at, constraints) = (Arrays::new(), Constraints::default());
        Self { name: name.into(), at, constraints, settings: Settings::default() }
    }

    /// The arrays, and where they are. What has no gradient (indices, a mask, targets) belongs into the
    /// closures.
    #[must_use]
    pub fn at(mut self, at: Arrays) -> Self {
        self.at = at;
        self
    }

    /// What one of the arrays keeps while it moves.
    #[must_use]
    pub fn constrain(mut self, name: &str, constraint: Constraint) -> Self {
        self.constraints.add(name, constraint);
        self
    }

    /// How thorough it is.
    #[must_use]
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// Checks a backward against differences of its forward, as [`crate::gradients()`] does. Before each
    /// backward, forward runs at the same arrays, so that both may share state (in a `RefCell`, or see
    /// [`Check::layer`]).
    pub fn gradients<O: Outputs>(
        &self,
        forward: impl FnMut(&Arrays) -> O,
        backward: impl FnMut(&Arrays, &O) -> Arrays,
    ) -> Report {
        if let Some(report) = self.impossible() {
            return report;
        }
        let (at, forward, backward) = (&self.at, RefCell::new(forward), RefCell::new(backward));
        let forward = |free: &Arrays| forward.borrow_mut()(&self.constraints.at(at, free.clone()));
        let outputs = match caught(|| forward(at)) {
            Ok(outputs) => outputs,
            Err(text) => return self.faulty(format!("forward panicked: {text}")),
        };
        let run_backward = |free: &Arrays, upstream: &[f64]| {
            forward(free);
            let here = self.constraints.at(at, free.clone());
            let gradients = backward.borrow_mut()(&here, &outputs.with_numbers(upstream));
            (misnamed(at, &gradients), self.constraints.pull_back(at, free, gradients))
        };
        let zero = vec![0.0; outputs.numbers().len()];
        let mut faults = match caught(|| run_backward(at, &zero).0) {
            Ok(faults) => faults,
            Err(text) => return self.faulty(format!("backward panicked: {text}")),
        };
        if zero.is_empty() && at.iter().any(|(_, array)| !array.is_empty()) {
            faults.push("forward returns no outputs".into());
        }
        let mut report = check_with(
            &self.settings,
            &self.name,
            &variables(at),
            &|values| forward(&like(at, values)).numbers(),
            &|values, upstream| in_order(at, &run_backward(&like(at, values), upstream).1),
        );
        report.faults.splice(0..0, faults);
        report
    }

    /// Checks a layer with state. Its forward has run elsewhere before: state that is kept from the first
    /// run shows.
    pub fn layer<L: Layer>(&self, layer: &mut L) -> Report {
        if let Some(report) = self.impossible() {
            return report;
        }
        let elsewhere = self.at.clone().map(|_, x| x.mapv(|x| x * (1.0 + 1.0 / 64.0)));
        layer.forward(&self.constraints.at(&self.at, elsewhere));
        let layer = RefCell::new(layer);
        self.gradients(
            |at| layer.borrow_mut().forward(at),
            |_, upstream| layer.borrow_mut().backward(upstream),
        )
    }

    /// Checks a function whose forward runs on any scalar as [`crate::gradients_of`] does: against differences,
    /// and against exact derivatives.
    pub fn function(&self, function: &impl Function) -> Report {
        let at = &self.at;
        let mut report = self
            .gradients(|at| function.forward(at), |at, upstream| function.backward(at, upstream));
        if !report.faults.is_empty() {
            return report;
        }
        self.exactly(&mut report, at, function);
        let agree = |report: &Report| report.exact.iter().all(Projection::agrees);
        let beside = beside(at);
        if !agree(&report)
            && report.comparisons.iter().any(|c| c.choice.is_some())
            && self.constraints.violated(&beside).is_empty()
        {
            // At a kink dual numbers take one side, backward may take another.
            self.exactly(&mut report, &beside, function);
        }
        report
    }

    /// What exact derivatives say of the gradients at a point.
    fn exactly(&self, report: &mut Report, at: &Arrays, function: &impl Function) {
        let constraints = &self.constraints;
        let values: Vec<Vec<f64>> = at.iter().map(|(_, array)| flat(array)).collect();
        let start = constraints.at(at, at.clone());
        let outputs = function.forward(&start);
        let backward = |upstream: &[f64]| {
            let gradients = function.backward(&start, &outputs.with_numbers(upstream));
            in_order(at, &constraints.pull_back(at, at, gradients))
        };
        let slopes = |velocities: &[Vec<f64>]| {
            let moving = constraints.at(at, moved(at, &values, velocities, Dual::new));
            function.forward(&moving).iter().map(|y| y.slope).collect()
        };
        let precise = |displacements: &[Vec<f64>]| -> Vec<Double> {
            let moved = constraints.at(at, moved(at, &values, displacements, Double::new));
            function.forward(&moved).iter().copied().collect()
        };
        let precise = Precise { slopes: &slopes, double: Some(&precise) };
        check_exactly(report, &variables(at), outputs.len(), &backward, precise);
    }

    /// A report of one fault.
    fn faulty(&self, fault: String) -> Report {
        Report { faults: vec![fault], ..Report::new(&self.name) }
    }

    /// The report where nothing can be checked.
    pub(crate) fn impossible(&self) -> Option<Report> {
        let faults = self.constraints.violated(&self.at);
        (!faults.is_empty()).then(|| Report { faults, ..Report::new(&self.name) })
    }
}

/// A point nearby: up to an eighth of each value away, of 1 where it is 0.
fn beside(at: &Arrays) -> Arrays {
    let mut rng = Stream::new(SEED, 5);
    at.clone().map(|_, array| {
        array.mapv(|x| {
            let size = if x == 0.0 { 1.0 } else { x.abs() };
            x + 0.125 * size * rng.uniform(-1.0, 1.0)
        })
    })
}
