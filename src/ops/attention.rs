//! Multi-head self-attention on packed qkv, with a bias added to the scores.
//!
//! Shapes: qkv `[B,N,3C]` (last axis q | k | v, each head-major), bias `[H,N,N]` for all samples,
//! out `[B,N,C]`, lse `[B,H,N]`, D = C/H. For each sample and head, with q, k, v `[N,D]`:
//! S = q kᵀ/√D + bias, P = softmax over the rows of S, out = P v.
//!
//! Backward. lse_i = ln Σ_j exp S_ij is kept, so that P_ij = exp(S_ij − lse_i) needs no row maximum:
//! * out = P v, so dv = Pᵀ dout and dP = dout vᵀ
//! * ∂P_ij/∂S_il = P_ij (δ_jl − P_il), so dS_ij = P_ij (dP_ij − Σ_l P_il dP_il)
//! * Σ_l P_il dP_il = dout_i · Σ_l P_il v_l = dout_i · out_i, a sum over D numbers instead of N
//! * S = q kᵀ/√D + bias, so dq = dS k/√D, dk = dSᵀ q/√D, dbias = Σ over samples of dS
//!
//! Every row of dS sums to 0, so a constant added to all keys (a key bias) has gradient 0; BEiT has none.
//!
//! Kept for backward: qkv, out, lse; never the scores. Source: Vaswani et al., arXiv 1706.03762,
//! eq. 1; BEiT `modeling_finetune.py`, class Attention; lse and dout · out as in Dao et al., arXiv
//! 2205.14135, algorithm 4. `Deviation:` BEiT multiplies q by 1/√D, here the product is scaled.

mod cpu;
#[cfg(feature = "cuda")]
mod cuda;

use crate::cpu::simd::LANES;
use crate::ops::Backend;
use crate::ops::case::{Case, Cost, Inputs, Io, Large, Threshold, Visitor};
use crate::real::Real;
use crate::storage::Storage;
use crate::tensor::{Master, Tensor};
use ndarray::ArrayView5;

/// Query rows whose scores are in work at one time on the CPU: few enough to stay in the level-2 cache.
const QUERIES: usize = 256;
/// Tasks of one call, about.
const TASKS: usize = 32;
/// Most partial sums of dbias...
const PARTIALS: usize = 16;
/// ... and most numbers of all of them, where one alone does not have more.
const NUMBERS: usize = 1 << 25;

/// What attention puts out, and what its backward needs of it.
pub struct Attended<B: Storage> {
    /// `[B,N,C]`.
    pub out: Tensor<B>,
    /// Logarithm of the sum over each row of exponential scores `[B,H,N]`.
    pub lse: Master<B>,
}

/// Multi-head self-attention and its gradients.
pub trait AttentionOp: Storage {
    /// qkv `[B,N,3C]`, bias `[H,N,N]` -> out `[B,N,C]` and lse `[B,H,N]`.
    fn attention_forward(
        &self,
        qkv: &Tensor<Self>,
        bias: Option<&Master<Self>>,
        heads: usize,
    ) -> Attended<Self>;

    /// dout `[B,N,C]` -> dqkv `[B,N,3C]`; adds the gradient of the bias to `dbias` `[H,N,N]`.
    fn attention_backward(
        &self,
        qkv: &Tensor<Self>,
        bias: Option<&Master<Self>>,
        attended: &Attended<Self>,
        dout: &Tensor<Self>,
        heads: usize,
        dbias: Option<&mut Master<Self>>,
    ) -> Tensor<Self>;

    /// The probabilities P `[B,H,N,N]`, for pictures and fixtures.
    fn attention_probs(
        &self,
        qkv: &Tensor<Self>,
        bias: Option<&Master<Self>>,
        heads: usize,
    ) -> Master<Self>;
}

/// Sizes of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dims {
    /// B
    pub batch: usize,
    /// N
    pub tokens: usize,
    /// H
    pub heads: usize,
    /// D
    pub head: usize,
}

impl Dims {
    /// Reads the sizes off the arguments. Panics where they do not fit together.
    #[track_caller]
    pub fn of<B: Storage>(
        op: &str,
        qkv: &Tensor<B>,
        bias: Option<&Master<B>>,
        heads: usize,
    ) -> Self {
        let [batch, tokens, width] = qkv.shape()[..] else {
            panic!("{op}: qkv is {:?}, expected [B,N,3C]", qkv.shape())
        };
        assert!(
            heads > 0 && width > 0 && width.is_multiple_of(3 * heads),
            "{op}: qkv is {:?}, expected a last axis divisible by 3 x {heads} heads",
            qkv.shape()
        );
        if let Some(bias) = bias {
            bias.expect_shape(op, "bias", &[heads, tokens, tokens]);
        }
        Self { batch, tokens, heads, head: width / 3 / heads }
    }

    /// `[B,N,C]`
    pub fn out(&self) -> [usize; 3] {
        [self.batch, self.tokens, self.heads * self.head]
    }

    /// `[B,H,N]`
    pub fn lse(&self) -> [usize; 3] {
        [self.batch, self.heads, self.tokens]
    }

    /// Groups of samples that have a task each, for one head, by shape alone.
    fn groups(&self) -> usize {
        let fit = NUMBERS / (self.heads * self.tokens * self.tokens).max(1);
        TASKS.div_ceil(self.heads).min(PARTIALS).min(fit).max(1)
    }

    /// Samples that one task takes, for one head.
    fn group(&self) -> usize {
        self.batch.div_ceil(self.groups()).max(1)
    }

    /// Sorts what belongs to each sample and head, given in that order, into tasks: task g H + h
    /// holds head h of the samples of group g.
    fn tasks<I>(&self, items: impl Iterator<Item = I>) -> Vec<Vec<(usize, usize, I)>> {
        let group = self.group();
        let count = self.batch.div_ceil(group) * self.heads;
        let mut tasks: Vec<_> = std::iter::repeat_with(Vec::new).take(count).collect();
        for (i, item) in items.enumerate() {
            let (b, h) = (i / self.heads, i % self.heads);
            tasks[b / group * self.heads + h].push((b, h, item));
        }
        tasks
    }

    fn scale<T: Real>(&self) -> T {
        T::from_f64((self.head as f64).powf(-0.5))
    }

    fn qkv<'a, T>(&self, qkv: &'a [T]) -> ArrayView5<'a, T> {
        let shape = (self.batch, self.tokens, 3, self.heads, self.head);
        ArrayView5::from_shape(shape, qkv).expect("checked at entry")
    }

    /// Row `i` of head `h` of sample `b` of a `[B,N,C]` buffer.
    fn row<'a, T>(&self, x: &'a [T], b: usize, i: usize, h: usize) -> &'a [T] {
        let start = ((b * self.tokens + i) * self.heads + h) * self.head;
        &x[start..start + self.head]
    }
}

/// The op at one size.
pub struct AttentionCase {
    pub(crate) instance: &'static str,
    pub(crate) dims: Dims,
    pub(crate) bias: bool,
}

impl Case for AttentionCase {
    fn name(&self) -> String {
        format!("attention/{}", self.instance)
    }

    fn inputs(&self) -> Inputs {
        let Dims { batch, tokens, heads, head } = self.dims;
        let inputs = Inputs::new(&self.name()).elem("qkv", &[batch, tokens, 3 * heads * head]);
        if self.bias { inputs.master("bias", &[heads, tokens, tokens]) } else { inputs }
    }

    fn run<B: Backend>(&self, bk: &B, io: &mut Io<B>) {
        let qkv = io.elem("qkv");
        let bias = self.bias.then(|| io.master("bias"));
        let heads = self.dims.heads;
        let attended = bk.attention_forward(&qkv, bias.as_ref(), heads);
        io.output(bk, &attended.out);
        if io.wants_backward() {
            let dout = io.upstream(bk, 0);
            let mut dbias = bias.as_ref().map(|b| Master::zeros(bk, b.shape()));
            let bias = bias.as_ref();
            let dqkv = bk.attention_backward(&qkv, bias, &attended, &dout, heads, dbias.as_mut());
            io.grad(bk, "qkv", &dqkv);
            if let Some(dbias) = dbias {
                io.grad(bk, "bias", &dbias);
            }
        }
    }

    fn thresholds(&self) -> Vec<Threshold> {
        let Dims { batch, tokens, heads, head } = self.dims;
        vec![
            Threshold::new("QUERIES", QUERIES, tokens),
            Threshold::new("TASKS", self.dims.groups(), batch),
            Threshold::new("heads", 8, heads),
            Threshold::lanes(tokens),
            // Of the product of two rows of a head.
            Threshold::new("LANES of a head", LANES, head),
        ]
    }

    fn cost(&self) -> Cost {
        let Dims { batch, tokens, heads, head } = self.dims;
        let [b, n, h, d] = [batch, tokens, heads, head].map(|n| n as f64);
        let (x, s) = (b * n * h * d, b * h * n * n);
        let bias = if self.bias { h * n * n } else { 0.0 };
        Cost {
            flops_forward: s * (4.0 * d + 8.0),
            flops_backward: s * (10.0 * d + 10.0),
            elements_forward: 4.0 * x + bias,
            elements_backward: 8.0 * x + 2.0 * bias,
        }
    }
}

/// Smallest, odd, without bias, several samples per task, more queries than one block holds, a
/// block of the tiny preset, and other sizes of heads: on tensor cores, tiles that are filled up, more
/// than one round of rows, more keys than are on chip at one time. Then batches of several blocks.
pub fn cases<V: Visitor>(v: &mut V) {
    for (instance, [batch, tokens, heads, head], bias) in [
        ("one", [1, 1, 1, 1], true),
        ("odd", [2, 5, 3, 7], true),
        ("no_bias", [1, 17, 2, 4], false),
        ("groups", [19, 2, 8, 2], true),
        ("blocks", [1, QUERIES + 3, 1, 3], true),
        ("tiny", [2, 65, 4, 32], true),
        ("head_8", [1, 18, 2, 8], true),
        ("head_64", [2, 150, 1, 64], true),
        ("head_80", [1, 37, 1, 80], true),
        ("head_128", [1, 141, 1, 128], false),
        ("head_17", [4, 3, 2, 17], true),
        ("head_63", [2, 5, 1, 63], true),
        ("two_in_a_group", [5, 3, 9, 2], true),
        ("sixteen_groups", [48, 5, 1, 2], true),
        ("many_heads", [2, 3, 25, 1], false),
    ] {
        v.visit(AttentionCase { instance, dims: Dims { batch, tokens, heads, head }, bias });
    }
    for (instance, [batch, tokens, heads, head], bias) in
        [("block_and_one", [4, QUERIES + 1, 1, 2], true), ("many_blocks", [1, 773, 1, 1], false)]
    {
        let dims = Dims { batch, tokens, heads, head };
        v.visit(Large(AttentionCase { instance, dims, bias }));
    }
}

/// An empty batch.
pub fn empty_case<V: Visitor>(v: &mut V) {
    v.visit(AttentionCase {
        instance: "empty",
        dims: Dims { batch: 0, tokens: 3, heads: 2, head: 2 },
        bias: true,
    });
}

/// A size worth timing: BEiT-B and its tokenizer.
pub fn large_cases<V: Visitor>(v: &mut V) {
    let dims = Dims { batch: 32, tokens: 197, heads: 12, head: 64 };
    v.visit(AttentionCase { instance: "32x197x12x64", dims, bias: true });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_by_hand() {
        let dims = |batch, heads, tokens| Dims { batch, tokens, heads, head: 1 };
        // 32 tasks of one head are too many partial sums, those of 12 heads are 3 groups.
        assert_eq!((dims(40, 1, 5).groups(), dims(40, 1, 5).group()), (16, 3));
        assert_eq!((dims(32, 12, 197).groups(), dims(32, 12, 197).group()), (3, 11));
        // 2^25 numbers are two of 2^24, and at least one of whatever size.
        assert_eq!((dims(9, 1, 4096).groups(), dims(9, 1, 4096).group()), (2, 5));
        assert_eq!((dims(9, 4, 4096).groups(), dims(9, 4, 4096).group()), (1, 9));
        assert_eq!(dims(0, 3, 2).group(), 1);
    }

    #[test]
    fn scores_are_divided_by_the_root_of_the_width_of_a_head() {
        let dims = |head| Dims { batch: 1, tokens: 2, heads: 3, head };
        assert_eq!([1, 4, 64].map(|head| dims(head).scale::<f64>()), [1.0, 0.5, 0.125]);
    }
}
