//! A batch in parts: what one op writes is still near the thread that reads it next.

use crate::params::Params;
use crate::storage::Storage;
use std::ops::Range;

/// How a device cuts the batch of a training step.
pub trait Parts: Storage {
    /// Calls `work` on every part of a batch of `samples` and returns what it returned, in order;
    /// the gradients of all parts are added to `g`. One part here. A device that gains from it takes
    /// several at a time, each with gradients of its own; how a batch is cut and in which order the
    /// parts are added depends on `samples` alone.
    fn in_parts<R: Send>(
        &self,
        samples: usize,
        g: &mut Params<Self>,
        work: impl Fn(Range<usize>, &mut Params<Self>) -> R + Sync,
    ) -> Vec<R> {
        vec![work(0..samples, g)]
    }

    /// Parts and samples that are worked on at one time in a batch of `samples`, and the buffers of
    /// gradients that are held for it besides `g`: what the memory of a step follows from.
    fn at_once(&self, samples: usize) -> (usize, usize, usize) {
        (1, samples, 0)
    }
}
