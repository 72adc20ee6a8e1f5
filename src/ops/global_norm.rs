//! Euclidean norm of the gradients: √Σ g² over the arena or a range of it.
//!
//! The norm of all is the root of the sum of the squares of the norms of ranges that make it up.
//!
//! Squares are summed in pieces of fixed length, each piece's sum is widened to f64, and the pieces
//! are added in order. A number that is not finite makes the norm not finite, which is how the
//! trainer notices.

#[cfg(feature = "cuda")]
mod cuda;

use crate::backend::{Backend, Storage};
use crate::case::{Case, Cost, Inputs, Io, Visitor};
use crate::cpu::{Cpu, simd};
use crate::params::Params;
use crate::real::Real;
use crate::tensor::Master;
use rayon::prelude::*;
use std::ops::Range;

/// The norm of gradients.
pub trait GlobalNormOp: Storage {
    /// -> `[1]`, left on the device: clipping reads it there. `range` is in the arena.
    fn global_norm(&self, g: &Params<Self>, range: Range<usize>) -> Master<Self>;
}

impl<T: Real> GlobalNormOp for Cpu<T> {
    #[track_caller]
    fn global_norm(&self, g: &Params<Self>, range: Range<usize>) -> Master<Self> {
        let pieces = g.master[range].par_chunks(1 << 12);
        let pieces: Vec<f64> = pieces.map(|x| simd::dot(x, x).to_f64()).collect();
        let norm = pieces.iter().sum::<f64>().sqrt();
        Master::from_f64(self, &[norm], &[1])
    }
}

/// The op at one size, and from a number on.
pub struct GlobalNormCase {
    instance: &'static str,
    len: usize,
    from: usize,
}

impl Case for GlobalNormCase {
    fn name(&self) -> String {
        format!("global_norm/{}", self.instance)
    }

    fn inputs(&self) -> Inputs {
        Inputs::new(&self.name()).param("g", &[self.len]).without_backward()
    }

    fn run<B: Backend>(&self, bk: &B, io: &mut Io<B>) {
        let norm = bk.global_norm(&io.w, self.from..self.len);
        io.output(bk, &norm);
    }

    fn cost(&self) -> Cost {
        let n = (self.len - self.from) as f64;
        Cost { flops_forward: 2.0 * n, elements_forward: n, ..Cost::default() }
    }
}

/// One number, odd, several pieces, and a range.
pub fn cases<V: Visitor>(v: &mut V) {
    for (instance, len, from) in
        [("one", 1, 0), ("odd", 37, 0), ("pieces", 9001, 0), ("range", 9001, 4099)]
    {
        v.visit(GlobalNormCase { instance, len, from });
    }
}

/// No parameters.
pub fn empty_case<V: Visitor>(v: &mut V) {
    v.visit(GlobalNormCase { instance: "empty", len: 0, from: 0 });
}

/// A size worth timing: BEiT-B and its tokenizer.
pub fn large_cases<V: Visitor>(v: &mut V) {
    v.visit(GlobalNormCase { instance: "24000000", len: 24_000_000, from: 0 });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::{Decay, Init, Registry};

    #[test]
    fn norm_and_non_finite() {
        let bk = Cpu::<f32>::new();
        let mut reg = Registry::new();
        reg.add("p", &[10_000], Decay::Yes, Init::Constant(0.0));
        let layout = reg.finish();
        let mut values = vec![0.0f32; 10_000];
        (values[3], values[9_999]) = (3.0, -4.0);
        let norm = |v: &[f32], range| {
            bk.global_norm(&Params::from_host(&bk, &layout, v), range).to_vec(&bk)[0]
        };
        assert_eq!(norm(&values, 0..10_000), 5.0);
        assert_eq!((norm(&values, 0..6_000), norm(&values, 6_000..10_000)), (3.0, 4.0));
        values[5_000] = f32::NAN;
        assert!(!norm(&values, 0..10_000).is_finite());
    }
}
