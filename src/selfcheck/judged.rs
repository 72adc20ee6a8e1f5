//! A case through all judges: differences, exact derivatives, and f32 beside f64.

use super::cases::AnyCase;
use super::parity;
use super::semantics::{self, OnPairs};
use super::subject::Run;
use crate::ops::case::Inputs;
use beit_check::gradients::Settings;
use beit_check::report::Report;

impl AnyCase {
    /// [`check_case`](super::check_case), and what f32 is off ([`parity::check_f32`]); with `curves` there is a ladder over all
    /// steps for each tensor. A large case has no differences.
    pub fn gradients(&self, curves: bool) -> Report {
        let (inputs, run) = (self.inputs(), &*self.cpu_f64);
        let mut report = if self.large && !inputs.forward_only {
            self.check_large(&inputs, run, true)
        } else {
            let precise = OnPairs { dual: &*self.cpu_dual, double: Some(&*self.cpu_double) };
            let settings = Settings { curves, ..Settings::for_tensors(inputs.differentiable()) };
            semantics::check_case(&self.name, &inputs, run, Some(precise), Some(settings), true)
        };
        let single = parity::check_f32(self);
        report.f32_of_bound = Some(single.forward.of_bound.max(single.backward.of_bound));
        report.faults.extend(single.fault);
        report
    }

    /// The gradient of `run`, whose forward is that of the case, beside exact derivatives alone.
    pub(super) fn check_large(&self, inputs: &Inputs, run: &Run, on_threads: bool) -> Report {
        let bounds = parity::bounded(self, inputs).gradient_seconds;
        let runs = (run, &*self.cpu_dual as &Run);
        semantics::check_large(&self.name, inputs, runs, &bounds, on_threads)
    }
}
