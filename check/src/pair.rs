//! A forward and a backward of one function, at points that keep their constraints.

use crate::arrays::{Arrays, in_order};
use crate::builder::Check;
use crate::gradients::caught;
use crate::outputs::Outputs;
use crate::report::Report;
use std::cell::RefCell;

/// Both closures of a check. Forward runs before each backward at the same arrays, so that they may share
/// state.
pub(crate) struct Pair<'a, O, F, B> {
    check: &'a Check,
    forward: RefCell<F>,
    backward: RefCell<B>,
    /// Those at the given point.
    pub outputs: O,
}

impl<'a, O, F, B> Pair<'a, O, F, B>
where
    O: Outputs,
    F: FnMut(&Arrays) -> O,
    B: FnMut(&Arrays, &O) -> Arrays,
{
    /// Runs forward at the given point; a report of one fault where it is none to start from or forward panics.
    pub fn start(check: &'a Check, mut forward: F, backward: B) -> Result<Self, Box<Report>> {
        if let Some(report) = check.impossible() {
            return Err(Box::new(report));
        }
        let here = check.constraints.at(&check.at, check.at.clone());
        let outputs = caught(|| forward(&here))
            .map_err(|text| Box::new(check.faulty(format!("forward panicked: {text}"))))?;
        let (forward, backward) = (RefCell::new(forward), RefCell::new(backward));
        Ok(Self { check, forward, backward, outputs })
    }

    /// The outputs at free arrays.
    pub fn forward(&self, free: &Arrays) -> O {
        self.forward.borrow_mut()(&self.here(free))
    }

    /// What backward returns there.
    pub fn returned(&self, free: &Arrays, upstream: &O) -> Arrays {
        self.forward(free);
        self.backward.borrow_mut()(&self.here(free), upstream)
    }

    /// Gradients by the free arrays, in their order; none where one is missing.
    pub fn gradients(&self, free: &Arrays, upstream: &O) -> Vec<Vec<f64>> {
        let Check { at, constraints, .. } = self.check;
        in_order(at, &constraints.pull_back(at, free, self.returned(free, upstream)))
    }

    /// What is wrong with the form of the gradients at the given point.
    pub fn misshapen(&self, upstream: &O) -> Option<String> {
        let at = &self.check.at;
        let fits = |gradients: &[Vec<f64>]| {
            at.iter().zip(gradients).all(|((_, array), gradient)| array.len() == gradient.len())
        };
        match caught(|| self.gradients(at, upstream)) {
            Err(text) => Some(format!("backward panicked: {text}")),
            Ok(gradients) if fits(&gradients) => None,
            Ok(_) => Some("backward returns no gradient of the right shape for every array".into()),
        }
    }

    fn here(&self, free: &Arrays) -> Arrays {
        self.check.constraints.at(&self.check.at, free.clone())
    }
}
