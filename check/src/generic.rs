//! Checks of functions whose forward runs on any scalar.

use crate::arrays::{Arrays, Function, flat, in_order, moved, variables};
use crate::builder::Check;
use crate::double::Double;
use crate::dual::Dual;
use crate::exact::Projection;
use crate::gradients::{Precise, check_exactly};
use crate::outputs::Outputs;
use crate::random::{SEED, Stream};
use crate::report::Report;

impl Check {
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
