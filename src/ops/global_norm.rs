//! Euclidean norm of the gradients: √Σ g² over the arena or a range of it.
//!
//! The norm of all is the root of the sum of the squares of the norms of ranges that make it up.
//!
//! Squares are summed in pieces of fixed length, each piece's sum is widened to f64, and the pieces are
//! added in order. On the CPU the pieces are of the parameters' numbers one after the other, so that
//! the gaps of the arena change no bit; on CUDA they are of the arena. A number that is not finite
//! makes the norm not finite, which is how the trainer notices.

#[cfg(feature = "cuda")]
mod cuda;

use crate::cpu::pieces::{Numbers, Pieces};
use crate::cpu::scalar::Scalar;
use crate::cpu::{Cpu, simd};
use crate::ops::Backend;
use crate::ops::case::{Case, Cost, Inputs, Io, Threshold, Visitor};
use crate::params::{Params, spans};
use crate::real::{Float, Real};
use crate::storage::Storage;
use crate::tensor::Master;
use std::borrow::Cow;
use std::ops::Range;

/// The norm of gradients.
pub trait GlobalNormOp: Storage {
    /// -> `[1]`, left on the device: clipping reads it there. `range` is in the arena.
    fn global_norm(&self, g: &Params<Self>, range: Range<usize>) -> Master<Self>;
}

/// Numbers of a piece.
const STEP: usize = 1 << 12;

impl<T: Scalar> GlobalNormOp for Cpu<T> {
    #[track_caller]
    fn global_norm(&self, g: &Params<Self>, range: Range<usize>) -> Master<Self> {
        let all = g.master.len();
        assert!(range.start <= range.end && range.end <= all, "global_norm: {range:?} of {all}");
        let numbers = Compact::of(g, &range);
        let pieces = Numbers(numbers.len.div_ceil(STEP)).collect(|i| {
            let x = numbers.part(i * STEP..numbers.len.min((i + 1) * STEP));
            simd::dot(&x, &x).to_f64()
        });
        let norm = pieces.iter().sum::<f64>().sqrt();
        Master::from_f64(self, &[norm], &[1])
    }
}

/// The numbers of the parameters in a range, as if there were no gaps.
struct Compact<'a, T> {
    /// What lies together, and where it starts in the whole.
    spans: Vec<(usize, &'a [T])>,
    len: usize,
}

impl<'a, T: Real> Compact<'a, T> {
    fn of<S: Scalar<Master = T>>(g: &'a Params<Cpu<S>>, range: &Range<usize>) -> Self {
        let mut len = 0;
        let spans = spans(&g.layout, range).into_iter().map(|span| {
            let start = len;
            len += span.len();
            (start, &g.master[span])
        });
        let spans = spans.collect();
        Self { spans, len }
    }

    /// The numbers of `part`, which is not empty; copied only where they do not lie together.
    fn part(&self, part: Range<usize>) -> Cow<'a, [T]> {
        let first = self.spans.partition_point(|(start, _)| *start <= part.start) - 1;
        let own = |&(start, x): &(usize, &'a [T])| {
            &x[part.start.saturating_sub(start)..x.len().min(part.end - start)]
        };
        let x = own(&self.spans[first]);
        if x.len() == part.len() {
            return Cow::Borrowed(x);
        }
        let there = self.spans[first..].iter().take_while(|(start, _)| *start < part.end);
        Cow::Owned(there.flat_map(own).copied().collect())
    }
}

/// The op at one size, and from a number on.
pub struct GlobalNormCase {
    pub(crate) instance: &'static str,
    pub(crate) len: usize,
    pub(crate) from: usize,
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

    fn thresholds(&self) -> Vec<Threshold> {
        vec![Threshold::new("STEP", STEP, self.len - self.from), Threshold::lanes(self.len)]
    }

    fn cost(&self) -> Cost {
        let n = (self.len - self.from) as f64;
        Cost { flops_forward: 2.0 * n, elements_forward: n, ..Cost::default() }
    }
}

/// One number, odd, one more than lanes and than a piece, many pieces, and a range.
pub fn cases<V: Visitor>(v: &mut V) {
    for (instance, len, from) in [
        ("one", 1, 0),
        ("odd", 63, 0),
        ("lane_and_one", 17, 0),
        ("piece_and_one", STEP + 1, 0),
        ("many_pieces", 20_483, 0),
        ("range", 9001, 4099),
    ] {
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
    use crate::params::{Decay, Init, Registry, arena_len, expand};

    #[test]
    fn gaps_change_no_bit() {
        let bk = Cpu::<f32>::new();
        let numbers: Vec<f32> =
            Inputs::new("gaps").normal(20_000).into_iter().map(|x| x as f32).collect();
        let pieces = numbers.chunks(STEP).map(|x| f64::from(simd::dot(x, x)));
        let want = pieces.sum::<f64>().sqrt() as f32;
        for lengths in [vec![20_000], vec![1, 3, 4095, 31, 5_000, 0, 10_000, 7, 863]] {
            let mut reg = Registry::new();
            for (i, n) in lengths.iter().enumerate() {
                reg.add(i.to_string(), &[*n], Decay::Yes, Init::Constant(0.0));
            }
            let layout = reg.finish();
            let g = Params::from_host(&bk, &layout, &expand(&layout, &numbers));
            let norm = bk.global_norm(&g, 0..arena_len(&layout)).to_vec(&bk)[0];
            assert_eq!(norm, want, "{lengths:?}");
        }
    }

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
