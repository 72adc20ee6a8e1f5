//! Euclidean norm of a whole arena: √Σ g².
//!
//! Squares are summed in pieces of fixed length, each piece's sum is widened to f64, and the pieces
//! are added in order. A number that is not finite makes the norm not finite, which is how the
//! trainer notices.

#[cfg(feature = "cuda")]
mod cuda;

use crate::cpu::{Cpu, simd};
use crate::ops::Backend;
use crate::ops::case::{Case, Cost, Inputs, Io, Visitor};
use crate::params::Params;
use crate::real::Real;
use crate::storage::Storage;
use crate::tensor::Master;
use crate::cpu::pieces::{Cut, Pieces};

/// The norm of all parameters' gradients.
pub trait GlobalNormOp: Storage {
    /// -> `[1]`, left on the device: clipping reads it there.
    fn global_norm(&self, g: &Params<Self>) -> Master<Self>;
}

impl<T: Real> GlobalNormOp for Cpu<T> {
    fn global_norm(&self, g: &Params<Self>) -> Master<Self> {
        let pieces: Vec<f64> =
            g.master.par_chunks(1 << 12).collect(|x| simd::dot(x, x).to_f64());
        let norm = pieces.iter().sum::<f64>().sqrt();
        Master::from_f64(self, &[norm], &[1])
    }
}

/// The op at one size.
pub struct GlobalNormCase {
    pub(crate) instance: &'static str,
    pub(crate) len: usize,
}

impl Case for GlobalNormCase {
    fn name(&self) -> String {
        format!("global_norm/{}", self.instance)
    }

    fn inputs(&self) -> Inputs {
        Inputs::new(&self.name()).param("g", &[self.len]).without_backward()
    }

    fn run<B: Backend>(&self, bk: &B, io: &mut Io<B>) {
        let norm = bk.global_norm(&io.w);
        io.output(bk, &norm);
    }

    fn cost(&self) -> Cost {
        let n = self.len as f64;
        Cost { flops_forward: 2.0 * n, elements_forward: n, ..Cost::default() }
    }
}

/// One number, odd, and several pieces.
pub fn cases<V: Visitor>(v: &mut V) {
    for (instance, len) in [("one", 1), ("odd", 37), ("pieces", 9001)] {
        v.visit(GlobalNormCase { instance, len });
    }
}

/// No parameters.
pub fn empty_case<V: Visitor>(v: &mut V) {
    v.visit(GlobalNormCase { instance: "empty", len: 0 });
}

/// A size worth timing: BEiT-B and its tokenizer.
pub fn large_cases<V: Visitor>(v: &mut V) {
    v.visit(GlobalNormCase { instance: "24000000", len: 24_000_000 });
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
        let norm = |v: &[f32]| bk.global_norm(&Params::from_host(&bk, &layout, v)).to_vec(&bk)[0];
        assert_eq!(norm(&values), 5.0);
        values[5_000] = f32::NAN;
        assert!(!norm(&values).is_finite());
    }
}
