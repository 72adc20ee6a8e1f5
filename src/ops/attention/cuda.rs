//! Attention on CUDA. At bf16 with a head size that is a multiple of 8 up to 128, on tensor cores
//! (`cuda/attention_mma.cu`); else the plain form (`cuda/attention.cu`), which judges the other.

use super::{Attended, AttentionOp, Dims};
use crate::cuda::{Cuda, DeviceBuffer, Grid, Precision, args};
use crate::tensor::{Master, Tensor};

/// Shared memory that a block of the tensor-core form may have: two blocks on a multiprocessor.
const SHARED: usize = 112 << 10;
/// Numbers of dS written at one time: 256 MiB of bf16.
const SCORES: usize = 1 << 27;

impl Dims {
    /// Rows of scores.
    fn rows(&self) -> usize {
        self.batch * self.heads * self.tokens
    }

    /// A block per row of scores, and the bytes of `rows` of them in type `M`.
    fn grid<M>(&self, rows: usize) -> (Grid, usize) {
        (Grid::rows(self.rows(), self.tokens), rows * self.tokens * size_of::<M>())
    }

    /// How the tensor-core form runs, where it can.
    fn tiling<T: Precision>(&self) -> Option<Tiling> {
        (T::NARROW && self.head.is_multiple_of(8) && self.head <= 128).then(|| Tiling::of(self))
    }
}

/// Sizes of the tensor-core form.
struct Tiling {
    /// The head size of the kernels, next to that of the model.
    head: usize,
    /// Warps of a block, 16 rows each.
    warps: usize,
    /// Rows in shared memory at one time.
    stage: usize,
    /// Parts that the rows of a head are cut into; 1 where all others fit in shared memory.
    parts: usize,
}

impl Tiling {
    fn of(dims: &Dims) -> Self {
        let head = dims.head.next_multiple_of(32);
        let tiles = dims.tokens.div_ceil(16);
        let rounds = tiles.div_ceil(8);
        let warps = tiles.div_ceil(rounds);
        // Two matrices of `stage` rows, two of 16 rows per warp, and two numbers per row.
        let row = 2 * (2 * (head + 8)) + 8;
        let own = warps * 32 * 2 * (head + 8);
        let most = (SHARED - own) / row / 32 * 32;
        let stage = dims.tokens.next_multiple_of(32).min(most);
        let parts = if stage < dims.tokens { rounds } else { 1 };
        Self { head, warps, stage, parts }
    }

    fn shared(&self) -> usize {
        self.stage * (4 * (self.head + 8) + 8) + self.warps * 64 * (self.head + 8)
    }

    fn grid(&self, dims: &Dims) -> Grid {
        Grid::blocks([dims.batch * dims.heads, self.parts], 32 * self.warps)
    }
}

/// What backward starts from, with delta_i = dout_i · out_i `[B,H,N]`.
struct Given<'a, T: Precision> {
    qkv: &'a Tensor<Cuda<T>>,
    bias: Option<&'a Master<Cuda<T>>>,
    lse: &'a Master<Cuda<T>>,
    dout: &'a Tensor<Cuda<T>>,
    delta: &'a Master<Cuda<T>>,
}

impl<T: Precision> Cuda<T> {
    fn launch_tiled(
        &self,
        kernel: &str,
        tiling: &Tiling,
        dims: &Dims,
        arguments: &[crate::cuda::Argument],
    ) {
        let name = format!("{kernel}{}", tiling.head);
        self.launch_shared(&name, tiling.grid(dims), tiling.shared(), arguments);
    }

    /// dqkv and the gradient of the bias by the tensor-core form, some samples at a time where dS is
    /// needed.
    fn attention_backward_tiled(
        &self,
        (dims, tiling): (&Dims, &Tiling),
        given: &Given<T>,
        dqkv: &Tensor<Self>,
        dbias: Option<&mut Master<Self>>,
    ) {
        let Given { qkv, bias, lse, dout, delta } = *given;
        let Dims { batch, tokens: n, heads, head: d } = *dims;
        let (scale, stage, stride) = (dims.scale::<f64>(), tiling.stage, n.next_multiple_of(16));
        let sample = heads * n * stride;
        let step = if dbias.is_some() { (SCORES / sample).clamp(1, batch) } else { batch };
        let scores: Option<DeviceBuffer<T::Elem>> =
            dbias.is_some().then(|| self.scratch(step * sample));
        for first in (0..batch).step_by(step) {
            let dims = Dims { batch: step.min(batch - first), ..*dims };
            let wide = first * n * heads * d;
            let (qkv, dqkv) = (qkv.start().plus(3 * wide), dqkv.start().plus(3 * wide));
            let (dout, rows) = (dout.start().plus(wide), first * heads * n);
            let (lse, delta) = (lse.start().plus(rows), delta.start().plus(rows));
            let scores = scores.as_ref();
            let arguments = args![
                qkv, bias, lse, dout, delta, dqkv, scores, n, heads, d, scale, stage, stride,
            ];
            self.launch_tiled("attention_mma_backward_q_", tiling, &dims, arguments);
            let arguments = args![qkv, bias, lse, dout, delta, dqkv, n, heads, d, scale, stage];
            self.launch_tiled("attention_mma_backward_kv_", tiling, &dims, arguments);
            if let (Some(scores), Some(dbias)) = (scores, &dbias) {
                let arguments = args![scores, &**dbias, dims.batch, heads, n, stride];
                self.launch("attention_mma_bias", Grid::each(heads * n * n), arguments);
            }
        }
    }

    /// The same by the plain form.
    fn attention_backward_plain(
        &self,
        dims: &Dims,
        given: &Given<T>,
        dqkv: &Tensor<Self>,
        dbias: Option<&mut Master<Self>>,
    ) {
        let Given { qkv, bias, lse, dout, delta } = *given;
        let Dims { batch, tokens: n, heads, head: d } = *dims;
        let scale = dims.scale::<f64>();
        let arguments = args![qkv, bias, lse, dout, delta, dqkv, n, heads, d, scale];
        let (grid, shared) = dims.grid::<T::Master>(1);
        self.launch_shared("attention_backward_q", grid, shared, arguments);
        let (grid, shared) = dims.grid::<T::Master>(2);
        self.launch_shared("attention_backward_kv", grid, shared, arguments);
        if let Some(dbias) = dbias {
            let arguments = args![qkv, bias, lse, dout, delta, dbias, batch, n, heads, d, scale];
            self.launch("attention_backward_bias", Grid::each(heads * n * n), arguments);
        }
    }
}

impl<T: Precision> AttentionOp for Cuda<T> {
    #[track_caller]
    fn attention_forward(
        &self,
        qkv: &Tensor<Self>,
        bias: Option<&Master<Self>>,
        heads: usize,
    ) -> Attended<Self> {
        let dims = Dims::of("attention", qkv, bias, heads);
        let (out, lse) = (self.unset(&dims.out()), self.unset(&dims.lse()));
        let (n, d, scale) = (dims.tokens, dims.head, dims.scale::<f64>());
        if let Some(tiling) = dims.tiling::<T>() {
            let arguments = args![qkv, bias, &out, &lse, n, heads, d, scale, tiling.stage];
            self.launch_tiled("attention_mma_forward_", &tiling, &dims, arguments);
        } else {
            let (grid, shared) = dims.grid::<T::Master>(1);
            let arguments = args![qkv, bias, &out, &lse, n, heads, d, scale];
            self.launch_shared("attention_forward", grid, shared, arguments);
        }
        Attended { out, lse }
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
        let Attended { out, lse } = attended;
        out.expect_shape(op, "out", &dims.out());
        dout.expect_shape(op, "dout", &dims.out());
        lse.expect_shape(op, "lse", &dims.lse());
        if let Some(dbias) = &dbias {
            dbias.expect_shape(op, "dbias", &[heads, dims.tokens, dims.tokens]);
        }
        let (dqkv, rows) = (self.unset(qkv.shape()), dims.rows());
        // Σ_j P_ij dP_ij = dout_i · out_i
        let delta: Master<Self> = self.unset(&dims.lse());
        let arguments = args![out, dout, &delta, rows, dims.tokens, heads, dims.head];
        self.launch("attention_delta", Grid::each(rows), arguments);
        let given = Given { qkv, bias, lse, dout, delta: &delta };
        match dims.tiling::<T>() {
            Some(tiling) => self.attention_backward_tiled((&dims, &tiling), &given, &dqkv, dbias),
            None => self.attention_backward_plain(&dims, &given, &dqkv, dbias),
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
        let (n, d, scale) = (dims.tokens, dims.head, dims.scale::<f64>());
        let probs = self.unset(&[dims.batch, heads, n, n]);
        let (grid, shared) = dims.grid::<T::Master>(1);
        let arguments = args![qkv, bias, &probs, n, heads, d, scale];
        self.launch_shared("attention_probs", grid, shared, arguments);
        probs
    }
}
