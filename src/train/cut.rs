//! How a batch is cut into micro-batches and parts.

use crate::train::task::{At, Part};
use std::ops::Range;

/// Which samples of a step are computed together.
#[derive(Clone, Debug)]
pub(super) struct BatchCut {
    /// Number of the micro-batch in the step.
    pub(super) number: usize,
    /// Places in the micro-batch.
    pub(super) range: Range<usize>,
}

impl BatchCut {
    /// The samples of a cut and what the task must know of it; the batch has `micros` micro-batches and
    /// its loss `terms` terms.
    pub(super) fn part<'a, S>(
        &self,
        batch: &'a [S],
        micros: usize,
        terms: usize,
        at: At,
    ) -> Part<'a, S> {
        let whole = batch.len() / micros;
        Part {
            samples: &batch[self.number * whole..][self.range.clone()],
            range: self.range.clone(),
            whole,
            stream: at.step * micros as u64 + self.number as u64,
            scale: 1.0 / terms as f64,
            at,
        }
    }
}
