//! Attention on the CPU: the scores of a block of queries at a time, so that they stay in cache.

use super::{Attended, AttentionOp, Dims, QUERIES};
use crate::cpu::pieces::{Cut, Pieces, Tasks};
use crate::cpu::scalar::Scalar;
use crate::cpu::{Cpu, gemm_serial, simd};
use crate::real::Real;
use crate::simd_fn;
use crate::tensor::{Master, Tensor};
use ndarray::{ArrayView2, ArrayViewMut2, ArrayViewMut4, ArrayViewMut5, Axis};
use ndarray::{ShapeBuilder, s};
use simd::LANES;

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

impl<T: Scalar> AttentionOp for Cpu<T> {
    #[track_caller]
    fn attention_forward(
        &self,
        qkv: &Tensor<Self>,
        bias: Option<&Master<Self>>,
        heads: usize,
    ) -> Attended<Self> {
        let dims = Dims::of("attention", qkv, bias, heads);
        let Dims { batch, tokens: n, heads, head: d } = dims;
        let (qkv, bias) = (qkv.wide(), bias.map(|b| b.slice()));
        let qkv = dims.qkv(&qkv);
        let (zero, one) = (T::Master::ZERO, T::Master::ONE);
        let mut out: Master<Self> = self.unset(&dims.out());
        let mut lse = Master::zeros(self, &dims.lse());
        let shape = (batch, n, heads, d);
        let mut outs = ArrayViewMut4::from_shape(shape, out.slice_mut()).expect("contiguous");
        let parts = outs.exact_chunks_mut((1, n, 1, d)).into_iter();
        let tasks = dims.tasks(parts.zip(lse.slice_mut().chunks_exact_mut(n)));
        Tasks::new(tasks).for_each_alone(|task| {
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
                    gemm_serial(dims.scale(), q, part(1).t(), zero, view);
                    // 2. rows become exp(S + bias − max); lse is what backward needs of max and sum
                    let mut inverse = [zero; QUERIES];
                    for ((i, s), inverse) in rows.clone().zip(scores.rows()).zip(&mut inverse) {
                        let (max, sum) = softmax_row(s, bias_row(bias, n, h, i), n);
                        lse[i] = max + sum.ln();
                        *inverse = one / sum;
                    }
                    // 3. out = P v; dividing D sums is cheaper than dividing N exponentials
                    let mut out = out.slice_mut(s![rows.clone(), ..]);
                    let view = scores.view(rows.len());
                    gemm_serial(one, view.view(), part(2), zero, out.view_mut());
                    for (mut row, &inverse) in out.rows_mut().into_iter().zip(&inverse) {
                        row.map_inplace(|x| *x *= inverse);
                    }
                }
            }
        });
        Attended { out: self.narrow(out), lse }
    }

    #[track_caller]
    fn attention_backward(
        &self,
        qkv: &Tensor<Self>,
        bias: Option<&Master<Self>>,
        attended: &Attended<Self>,
        dout: &Tensor<Self>,
        heads: usize,
        dbias: Option<&mut Master<Self>>,
    ) -> Tensor<Self> {
        let op = "attention_backward";
        let dims = Dims::of(op, qkv, bias, heads);
        let Dims { batch, tokens: n, heads, head: d } = dims;
        let Attended { out, lse } = attended;
        out.expect_shape(op, "out", &dims.out());
        dout.expect_shape(op, "dout", &dims.out());
        lse.expect_shape(op, "lse", &dims.lse());
        if let Some(dbias) = &dbias {
            dbias.expect_shape(op, "dbias", &[heads, n, n]);
        }
        let mut dqkv: Master<Self> = self.unset(qkv.shape());
        let (qkv, bias) = (qkv.wide(), bias.map(|b| b.slice()));
        let qkv = dims.qkv(&qkv);
        let (zero, one) = (T::Master::ZERO, T::Master::ONE);
        let (out, lse, dout) = (out.wide(), lse.slice(), dout.wide());
        let (out, dout_all) = (&*out, &*dout);
        let shape = (batch, n, 3, heads, d);
        let mut grads = ArrayViewMut5::from_shape(shape, dqkv.slice_mut()).expect("contiguous");
        let tasks = dims.tasks(grads.exact_chunks_mut((1, n, 3, 1, d)).into_iter());
        let dout_shape = (batch, n, heads, d);
        let douts = ndarray::ArrayView4::from_shape(dout_shape, dout_all).expect("checked");
        let wanted = dbias.is_some();
        let partial: Vec<Vec<T::Master>> = Tasks::new(tasks).collect_alone(|task| {
            let mut sums = vec![T::Master::ZERO; if wanted { n * n } else { 0 }]; // [N,N]
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
                    let beta = if from == 0 { zero } else { one };
                    let q = part(0);
                    let q = q.slice(s![rows.clone(), ..]);
                    let dout = dout.slice(s![rows.clone(), ..]);
                    // 1. S = q kᵀ/√D again, and out = P v   =>   dP = dout vᵀ
                    let view = scores.view(rows.len());
                    gemm_serial(dims.scale(), q, part(1).t(), zero, view);
                    let view = dscores.view(rows.len());
                    gemm_serial(one, dout, part(2).t(), zero, view);
                    // 2. P = exp(S + bias − lse)   =>   dS = P (dP − dout · out), dbias += dS
                    let pairs = scores.rows().zip(dscores.rows());
                    for (i, (s, dp)) in rows.clone().zip(pairs) {
                        let delta = simd::dot(dims.row(out, b, i, h), dims.row(dout_all, b, i, h));
                        let bias = bias_row(bias, n, h, i);
                        let sums = wanted.then(|| &mut sums[i * n..(i + 1) * n]);
                        softmax_row_backward(s, bias, n, lse[i], delta, dp, sums);
                    }
                    let (p, ds) = (scores.view(rows.len()), dscores.view(rows.len()));
                    let (p, ds): (ArrayView2<T::Master>, _) = (p.view(), ds.view());
                    // 3. out = P v   =>   dv = Pᵀ dout
                    gemm_serial(one, p.t(), dout, beta, dv.view_mut());
                    // 1. S = q kᵀ/√D   =>   dq = dS k/√D, dk = dSᵀ q/√D
                    let dq = dq.slice_mut(s![rows.clone(), ..]);
                    gemm_serial(dims.scale(), ds, part(1), zero, dq);
                    gemm_serial(dims.scale(), ds.t(), q, beta, dk.view_mut());
                }
            }
            sums
        });
        if let Some(dbias) = dbias {
            // Groups in order, whatever thread made them.
            dbias.slice_mut().par_chunks_exact_mut(n * n).enumerate().for_each(|(h, dbias)| {
                for sums in partial.iter().skip(h).step_by(heads) {
                    simd::add_assign(dbias, sums);
                }
            });
        }
        self.narrow(dqkv)
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
        let (qkv, bias) = (qkv.wide(), bias.map(|b| b.slice()));
        let qkv = dims.qkv(&qkv);
        let mut probs = Master::zeros(self, &[dims.batch, heads, n, n]);
        probs.slice_mut().par_chunks_exact_mut(n * n).enumerate().for_each(|(i, probs)| {
            let (b, h) = (i / heads, i % heads);
            let (q, k) = (qkv.slice(s![b, .., 0, h, ..]), qkv.slice(s![b, .., 1, h, ..]));
            let view = ArrayViewMut2::from_shape((n, n), &mut *probs).expect("contiguous");
            gemm_serial(dims.scale(), q, k.t(), T::Master::ZERO, view);
            let mut padded = vec![T::Master::ZERO; n.next_multiple_of(LANES)];
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
