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

/// Samples of the micro-batch `number` of `micros` in a batch of `batch`; two micro-batches differ by one
/// sample at most.
pub(super) fn micro_batch(batch: usize, micros: usize, number: usize) -> Range<usize> {
    number * batch / micros..(number + 1) * batch / micros
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
        let own = micro_batch(batch.len(), micros, self.number);
        Part {
            samples: &batch[own.clone()][self.range.clone()],
            range: self.range.clone(),
            whole: own.len(),
            stream: at.step * micros as u64 + self.number as u64,
            scale: 1.0 / terms as f64,
            at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn micro_batches_make_up_the_batch_and_none_is_empty() {
        for batch in 1..40 {
            for micros in 1..=batch {
                let all: Vec<_> = (0..micros).map(|n| micro_batch(batch, micros, n)).collect();
                assert!(all.iter().flat_map(Clone::clone).eq(0..batch), "{all:?}");
                let sizes = || all.iter().map(Range::len);
                assert!(sizes().min() >= Some(1) && sizes().max() <= sizes().min().map(|m| m + 1));
            }
        }
    }
}
