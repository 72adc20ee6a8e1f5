//! Mean over the patch tokens, the class token left out: y_b = Σ_{n≥1} s_bn / (N − 1).
//!
//! Shapes: s `[B,N,C]`, y `[B,C]`.
//!
//! Backward. Each patch token enters its mean with factor 1/(N − 1), the class token with 0:
//! * ds_bn = dy_b / (N − 1) for n ≥ 1, ds_b0 = 0
//!
//! Kept for backward: nothing but N. Source: BEiT `modeling_finetune.py`, forward_features with
//! `use_mean_pooling`.

#[cfg(feature = "cuda")]
mod cuda;

use crate::cpu::pieces::{Cut, Pieces};
use crate::cpu::scalar::Scalar;
use crate::cpu::{Cpu, simd};
use crate::ops::Backend;
use crate::ops::case::{Case, Cost, Inputs, Io, Threshold, Visitor};
use crate::real::Float;
use crate::storage::Storage;
use crate::tensor::Master;

/// Mean over the patch tokens, and the gradient.
pub trait MeanPoolOp: Storage {
    /// s `[B,N,C]` -> y `[B,C]`.
    fn mean_pool_forward(&self, s: &Master<Self>) -> Master<Self>;

    /// dy `[B,C]` -> ds `[B,N,C]`, with N = `tokens`.
    fn mean_pool_backward(&self, dy: &Master<Self>, tokens: usize) -> Master<Self>;
}

impl<T: Scalar> MeanPoolOp for Cpu<T> {
    #[track_caller]
    fn mean_pool_forward(&self, s: &Master<Self>) -> Master<Self> {
        let [batch, n, c] = s.shape()[..] else {
            panic!("mean_pool: s is {:?}, expected [B,N,C]", s.shape())
        };
        assert!(n >= 2, "mean_pool: s is {:?}, expected at least 2 tokens", s.shape());
        let count = T::Master::from_f64((n - 1) as f64);
        let mut y = Master::zeros(self, &[batch, c]);
        let samples = s.slice().par_chunks_exact(n * c);
        y.slice_mut().par_chunks_exact_mut(c).zip(samples).for_each(|(y, s)| {
            for row in s[c..].chunks_exact(c) {
                simd::add_assign(y, row);
            }
            for y in y {
                *y /= count;
            }
        });
        y
    }

    #[track_caller]
    fn mean_pool_backward(&self, dy: &Master<Self>, tokens: usize) -> Master<Self> {
        dy.expect_rank("mean_pool_backward", "dy", 2);
        assert!(tokens >= 2, "mean_pool_backward: tokens is {tokens}, expected at least 2");
        let (batch, c) = (dy.shape()[0], dy.shape()[1]);
        let count = T::Master::from_f64((tokens - 1) as f64);
        let mut ds = Master::zeros(self, &[batch, tokens, c]);
        let samples = ds.slice_mut().par_chunks_exact_mut(tokens * c);
        samples.zip(dy.slice().par_chunks_exact(c)).for_each(|(ds, dy)| {
            // y = Σ s_n / (N − 1)   =>   ds_n = dy / (N − 1)
            for row in ds[c..].chunks_exact_mut(c) {
                for (ds, &dy) in row.iter_mut().zip(dy) {
                    *ds = dy / count;
                }
            }
        });
        ds
    }
}

/// The op at one size.
pub struct MeanPoolCase {
    instance: &'static str,
    shape: [usize; 3],
}

impl Case for MeanPoolCase {
    fn name(&self) -> String {
        format!("mean_pool/{}", self.instance)
    }

    fn inputs(&self) -> Inputs {
        Inputs::new(&self.name()).master("s", &self.shape)
    }

    fn run<B: Backend>(&self, bk: &B, io: &mut Io<B>) {
        let s = io.master("s");
        let y = bk.mean_pool_forward(&s);
        io.output(bk, &y);
        if io.wants_backward() {
            let dy = io.upstream(bk, 0);
            let ds = bk.mean_pool_backward(&dy, self.shape[1]);
            io.grad(bk, "s", &ds);
        }
    }

    fn thresholds(&self) -> Vec<Threshold> {
        let [batch, tokens, _] = self.shape;
        vec![Threshold::new("tokens", 100, tokens), Threshold::new("batch", 3, batch)]
    }

    fn cost(&self) -> Cost {
        let n = self.shape.iter().product::<usize>() as f64;
        Cost { flops_forward: n, flops_backward: n, elements_forward: n, elements_backward: n }
    }
}

/// One patch, odd sizes, the tiny preset, more tokens than 100 in a batch.
pub fn cases<V: Visitor>(v: &mut V) {
    for (instance, shape) in [
        ("one", [1, 2, 1]),
        ("odd", [3, 5, 7]),
        ("tiny", [2, 65, 128]),
        ("tokens", [4, 101, 3]),
        ("many_tokens", [11, 309, 2]),
    ] {
        v.visit(MeanPoolCase { instance, shape });
    }
}

/// An empty batch.
pub fn empty_case<V: Visitor>(v: &mut V) {
    v.visit(MeanPoolCase { instance: "empty", shape: [0, 2, 3] });
}

/// A size worth timing: BEiT-B and its tokenizer.
pub fn large_cases<V: Visitor>(v: &mut V) {
    v.visit(MeanPoolCase { instance: "64x197x768", shape: [64, 197, 768] });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "mean_pool: s is [2, 1, 3], expected at least 2 tokens")]
    fn a_class_token_alone() {
        let bk = Cpu::<f32>::new();
        bk.mean_pool_forward(&Master::zeros(&bk, &[2, 1, 3]));
    }

    #[test]
    fn the_class_token_takes_no_part() {
        let bk = Cpu::<f64>::new();
        let s = Master::from_f64(&bk, &[100.0, 1.0, 3.0], &[1, 3, 1]);
        assert_eq!(bk.mean_pool_forward(&s).to_vec(&bk), [2.0]);
        let dy = Master::from_f64(&bk, &[6.0], &[1, 1]);
        assert_eq!(bk.mean_pool_backward(&dy, 3).to_vec(&bk), [0.0, 3.0, 3.0]);
    }
}
