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

use crate::backend::{Backend, Storage};
use crate::case::{Case, Cost, Inputs, Io, Visitor};
use crate::cpu::{Cpu, gemm_serial, simd};
use crate::real::Real;
use crate::simd_fn;
use crate::tensor::{Master, Tensor};
use ndarray::{ArrayView2, ArrayView5, ArrayViewMut2, ArrayViewMut4, ArrayViewMut5, Axis};
use ndarray::{ShapeBuilder, s};
use rayon::prelude::*;
use simd::LANES;

/// Multi-head self-attention and its gradients.
pub trait AttentionOp: Storage {
    /// qkv `[B,N,3C]`, bias `[H,N,N]` -> (out `[B,N,C]`, lse `[B,H,N]`).
    fn attention_forward(
        &self,
        qkv: &Tensor<Self>,
        bias: Option<&Master<Self>>,
        heads: usize,
    ) -> (Tensor<Self>, Master<Self>);

    /// dout `[B,N,C]` -> dqkv `[B,N,3C]`; adds the gradient of the bias to `dbias` `[H,N,N]`.
    #[allow(clippy::too_many_arguments)]
    fn attention_backward(
        &self,
        qkv: &Tensor<Self>,
        bias: Option<&Master<Self>>,
        out: &Tensor<Self>,
        lse: &Master<Self>,
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

    /// Samples that one task takes, for one head. By shape alone: about 32 tasks, and no more than
    /// 16 partial sums of dbias, which together stay below 2^25 numbers where one alone does.
    fn group(&self) -> usize {
        let fit = (1 << 25) / (self.heads * self.tokens * self.tokens).max(1);
        let groups = 32usize.div_ceil(self.heads).min(16).min(fit).max(1);
        self.batch.div_ceil(groups).max(1)
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

/// Query rows whose scores are in work at one time: few enough to stay in the level-2 cache.
const QUERIES: usize = 256;

/// A stand-in for −∞ that survives a subtraction.
const LOWEST: f64 = -1e30;

/// Scores `[up to QUERIES, N]`, rows padded to whole vectors.
struct Scores<T> {
    numbers: Vec<T>,
    tokens: usize,
    stride: usize,
}

impl<T: Real> Scores<T> {
    fn new(tokens: usize) -> Self {
        let stride = tokens.next_multiple_of(LANES);
        Self { numbers: vec![T::ZERO; tokens.min(QUERIES) * stride], tokens, stride }
    }

    fn view(&mut self, rows: usize) -> ArrayViewMut2<'_, T> {
        let shape = (rows, self.tokens).strides((self.stride, 1));
        ArrayViewMut2::from_shape(shape, &mut self.numbers).expect("fits")
    }

    fn rows(&mut self) -> impl Iterator<Item = &mut [T]> {
        self.numbers.chunks_exact_mut(self.stride)
    }
}

simd_fn! {
    /// One padded row of scores S without bias becomes exp(S + bias − max); returns (max, sum).
    fn softmax_row<T>(s: &mut [T], bias: Option<&[T]>, tokens: usize) -> (T, T) {
        if let Some(bias) = bias {
            for (s, &b) in s[..tokens].iter_mut().zip(bias) {
                *s += b;
            }
        }
        s[tokens..].fill(T::from_f64(LOWEST));
        let (blocks, _) = s.as_chunks_mut::<LANES>();
        let mut highest = blocks[0];
        for block in &blocks[1..] {
            for i in 0..LANES {
                highest[i] = highest[i].maximum(block[i]);
            }
        }
        let max = highest[1..].iter().fold(highest[0], |m, &x| m.maximum(x));
        let mut sums = [T::ZERO; LANES];
        for block in blocks {
            for i in 0..LANES {
                block[i] = (block[i] - max).exp();
                sums[i] += block[i];
            }
        }
        (max, simd::fold(sums))
    }
}

simd_fn! {
    /// One padded row: scores S without bias become P, dP becomes dS, which is added to dbias.
    fn softmax_row_backward<T>(s: &mut [T], bias: Option<&[T]>, tokens: usize, lse: T, delta: T, dp: &mut [T], dbias: Option<&mut [T]>) {
        if let Some(bias) = bias {
            for (s, &b) in s[..tokens].iter_mut().zip(bias) {
                *s += b;
            }
        }
        s[tokens..].fill(T::from_f64(LOWEST));
        let ((ps, _), (ds, _)) = (s.as_chunks_mut::<LANES>(), dp.as_chunks_mut::<LANES>());
        for (p, d) in ps.iter_mut().zip(ds) {
            for i in 0..LANES {
                p[i] = (p[i] - lse).exp();
                d[i] = p[i] * (d[i] - delta);
            }
        }
        if let Some(dbias) = dbias {
            for (db, &d) in dbias.iter_mut().zip(&dp[..tokens]) {
                *db += d;
            }
        }
    }
}

/// Row `i` of head `h` of an `[H,N,N]` bias.
fn bias_row<T>(bias: Option<&[T]>, tokens: usize, h: usize, i: usize) -> Option<&[T]> {
    bias.map(|bias| &bias[(h * tokens + i) * tokens..][..tokens])
}

impl<T: Real> AttentionOp for Cpu<T> {
    #[track_caller]
    fn attention_forward(
        &self,
        qkv: &Tensor<Self>,
        bias: Option<&Master<Self>>,
        heads: usize,
    ) -> (Tensor<Self>, Master<Self>) {
        let dims = Dims::of("attention", qkv, bias, heads);
        let Dims { batch, tokens: n, heads, head: d } = dims;
        let (qkv, bias) = (dims.qkv(qkv.slice()), bias.map(|b| b.slice()));
        let mut out = self.unset(&dims.out());
        let mut lse = Master::zeros(self, &dims.lse());
        let shape = (batch, n, heads, d);
        let mut outs = ArrayViewMut4::from_shape(shape, out.slice_mut()).expect("contiguous");
        let parts = outs.exact_chunks_mut((1, n, 1, d)).into_iter();
        let tasks = dims.tasks(parts.zip(lse.slice_mut().chunks_exact_mut(n)));
        tasks.into_par_iter().for_each(|task| {
            let mut scores = Scores::new(n);
            for (b, h, (out, lse)) in task {
                let mut out = out.index_axis_move(Axis(2), 0).index_axis_move(Axis(0), 0); // [N,D]
                let part = |p: usize| qkv.slice(s![b, .., p, h, ..]); // [N,D]
                for from in (0..n).step_by(QUERIES) {
                    let rows = from..(from + QUERIES).min(n);
                    let q = part(0);
                    let q = q.slice(s![rows.clone(), ..]);
                    // 1. S = q kᵀ/√D
                    let view = scores.view(rows.len());
                    gemm_serial(dims.scale(), q, part(1).t(), T::ZERO, view);
                    // 2. rows become exp(S + bias − max); lse is what backward needs of max and sum
                    let mut inverse = [T::ZERO; QUERIES];
                    for ((i, s), inverse) in rows.clone().zip(scores.rows()).zip(&mut inverse) {
                        let (max, sum) = softmax_row(s, bias_row(bias, n, h, i), n);
                        lse[i] = max + sum.ln();
                        *inverse = T::ONE / sum;
                    }
                    // 3. out = P v; dividing D sums is cheaper than dividing N exponentials
                    let mut out = out.slice_mut(s![rows.clone(), ..]);
                    let view = scores.view(rows.len());
                    gemm_serial(T::ONE, view.view(), part(2), T::ZERO, out.view_mut());
                    for (mut row, &inverse) in out.rows_mut().into_iter().zip(&inverse) {
                        row.map_inplace(|x| *x *= inverse);
                    }
                }
            }
        });
        (out, lse)
    }

    #[track_caller]
    fn attention_backward(
        &self,
        qkv: &Tensor<Self>,
        bias: Option<&Master<Self>>,
        out: &Tensor<Self>,
        lse: &Master<Self>,
        dout: &Tensor<Self>,
        heads: usize,
        dbias: Option<&mut Master<Self>>,
    ) -> Tensor<Self> {
        let op = "attention_backward";
        let dims = Dims::of(op, qkv, bias, heads);
        let Dims { batch, tokens: n, heads, head: d } = dims;
        out.expect_shape(op, "out", &dims.out());
        dout.expect_shape(op, "dout", &dims.out());
        lse.expect_shape(op, "lse", &dims.lse());
        if let Some(dbias) = &dbias {
            dbias.expect_shape(op, "dbias", &[heads, n, n]);
        }
        let mut dqkv = self.unset(qkv.shape());
        let (qkv, bias) = (dims.qkv(qkv.slice()), bias.map(|b| b.slice()));
        let (out, lse) = (out.slice(), lse.slice());
        let dout_all = dout.slice();
        let shape = (batch, n, 3, heads, d);
        let mut grads = ArrayViewMut5::from_shape(shape, dqkv.slice_mut()).expect("contiguous");
        let tasks = dims.tasks(grads.exact_chunks_mut((1, n, 3, 1, d)).into_iter());
        let dout_shape = (batch, n, heads, d);
        let douts = ndarray::ArrayView4::from_shape(dout_shape, dout_all).expect("checked");
        let wanted = dbias.is_some();
        let partial: Vec<Vec<T>> = tasks
            .into_par_iter()
            .map(|task| {
                let mut sums = vec![T::ZERO; if wanted { n * n } else { 0 }]; // [N,N]
                let (mut scores, mut dscores) = (Scores::new(n), Scores::new(n));
                for (b, h, grads) in task {
                    let mut grads = grads.index_axis_move(Axis(3), 0).index_axis_move(Axis(0), 0);
                    let (mut dq, mut dk, mut dv) =
                        grads.multi_slice_mut((s![.., 0, ..], s![.., 1, ..], s![.., 2, ..]));
                    let part = |p: usize| qkv.slice(s![b, .., p, h, ..]); // [N,D]
                    let dout = douts.slice(s![b, .., h, ..]); // [N,D]
                    let lse = &lse[(b * heads + h) * n..][..n];
                    for from in (0..n).step_by(QUERIES) {
                        let rows = from..(from + QUERIES).min(n);
                        let beta = if from == 0 { T::ZERO } else { T::ONE };
                        let q = part(0);
                        let q = q.slice(s![rows.clone(), ..]);
                        let dout = dout.slice(s![rows.clone(), ..]);
                        // 1. S = q kᵀ/√D again, and out = P v   =>   dP = dout vᵀ
                        let view = scores.view(rows.len());
                        gemm_serial(dims.scale(), q, part(1).t(), T::ZERO, view);
                        let view = dscores.view(rows.len());
                        gemm_serial(T::ONE, dout, part(2).t(), T::ZERO, view);
                        // 2. P = exp(S + bias − lse)   =>   dS = P (dP − dout · out), dbias += dS
                        let pairs = scores.rows().zip(dscores.rows());
                        for (i, (s, dp)) in rows.clone().zip(pairs) {
                            let delta =
                                simd::dot(dims.row(out, b, i, h), dims.row(dout_all, b, i, h));
                            let bias = bias_row(bias, n, h, i);
                            let sums = wanted.then(|| &mut sums[i * n..(i + 1) * n]);
                            softmax_row_backward(s, bias, n, lse[i], delta, dp, sums);
                        }
                        let (p, ds) = (scores.view(rows.len()), dscores.view(rows.len()));
                        let (p, ds): (ArrayView2<T>, _) = (p.view(), ds.view());
                        // 3. out = P v   =>   dv = Pᵀ dout
                        gemm_serial(T::ONE, p.t(), dout, beta, dv.view_mut());
                        // 1. S = q kᵀ/√D   =>   dq = dS k/√D, dk = dSᵀ q/√D
                        let dq = dq.slice_mut(s![rows.clone(), ..]);
                        gemm_serial(dims.scale(), ds, part(1), T::ZERO, dq);
                        gemm_serial(dims.scale(), ds.t(), q, beta, dk.view_mut());
                    }
                }
                sums
            })
            .collect();
        if let Some(dbias) = dbias {
            // Groups in order, whatever thread made them.
            dbias.slice_mut().par_chunks_exact_mut(n * n).enumerate().for_each(|(h, dbias)| {
                for sums in partial[h..].iter().step_by(heads) {
                    simd::add_assign(dbias, sums);
                }
            });
        }
        dqkv
    }

    #[track_caller]
    fn attention_probs(
        &self,
        qkv: &Tensor<Self>,
        bias: Option<&Master<Self>>,
        heads: usize,
    ) -> Master<Self> {
        let dims = Dims::of("attention_probs", qkv, bias, heads);
        let n = dims.tokens;
        let (qkv, bias) = (dims.qkv(qkv.slice()), bias.map(|b| b.slice()));
        let mut probs = Master::zeros(self, &[dims.batch, heads, n, n]);
        probs.slice_mut().par_chunks_exact_mut(n * n).enumerate().for_each(|(i, probs)| {
            let (b, h) = (i / heads, i % heads);
            let (q, k) = (qkv.slice(s![b, .., 0, h, ..]), qkv.slice(s![b, .., 1, h, ..]));
            let view = ArrayViewMut2::from_shape((n, n), &mut *probs).expect("contiguous");
            gemm_serial(dims.scale(), q, k.t(), T::ZERO, view);
            let mut padded = vec![T::ZERO; n.next_multiple_of(LANES)];
            for (i, row) in probs.chunks_exact_mut(n).enumerate() {
                padded[..n].copy_from_slice(row);
                let (_, sum) = softmax_row(&mut padded, bias_row(bias, n, h, i), n);
                for (row, &weight) in row.iter_mut().zip(&padded) {
                    *row = weight / sum;
                }
            }
        });
        probs
    }
}

/// The op at one size.
pub struct AttentionCase {
    instance: &'static str,
    dims: Dims,
    bias: bool,
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
        let (out, lse) = bk.attention_forward(&qkv, bias.as_ref(), heads);
        io.output(bk, &out);
        if io.wants_backward() {
            let dout = io.upstream(bk, 0);
            let mut dbias = bias.as_ref().map(|b| Master::zeros(bk, b.shape()));
            let bias = bias.as_ref();
            let dqkv = bk.attention_backward(&qkv, bias, &out, &lse, &dout, heads, dbias.as_mut());
            io.grad(bk, "qkv", &dqkv);
            if let Some(dbias) = dbias {
                io.grad(bk, "bias", &dbias);
            }
        }
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
/// block of the tiny preset.
pub fn cases<V: Visitor>(v: &mut V) {
    for (instance, [batch, tokens, heads, head], bias) in [
        ("one", [1, 1, 1, 1], true),
        ("odd", [2, 5, 3, 7], true),
        ("no_bias", [1, 17, 2, 4], false),
        ("groups", [19, 2, 8, 2], true),
        ("blocks", [1, QUERIES + 3, 1, 3], true),
        ("tiny", [2, 65, 4, 32], true),
    ] {
        v.visit(AttentionCase { instance, dims: Dims { batch, tokens, heads, head }, bias });
    }
}
