//! Batch normalisation of channels: y = xhat ⊙ w + b, xhat = (x − μ) r, r = 1/√(σ² + ε).
//!
//! Shapes: x and y `[..,C]`, w, b, μ and σ² `[C]`; a row is what all axes but the last count, N of them.
//! μ and σ² are those of the rows in training (σ² biased), else the running ones, with momentum m:
//! ```text
//! running μ  ← (1 − m) running μ  + m μ
//! running σ² ← (1 − m) running σ² + m σ² N/(N − 1)
//! ```
//! Those are parameters without gradient and decay: AdamW leaves their bits alone, and files, load plans and
//! the running average of the weights have them.
//!
//! Backward. With h = dy ⊙ w (the gradient of xhat), μ and r depending on every x of the channel:
//! * ∂xhat_s/∂x_t = r (δ_st − 1/N − xhat_s xhat_t / N) for rows s and t, because ∂r/∂x_t = −r² xhat_t / N
//! * dx = r (h − mean(h) − xhat · mean(h ⊙ xhat)) = w r (dy − Σdy/N − xhat · Σ(dy ⊙ xhat)/N)
//! * with running statistics dx = w r dy
//! * dw += Σ_rows dy ⊙ xhat, db += Σ_rows dy
//!
//! Backward is cut in two, [`BatchNormOp::batch_norm_sums`] and [`BatchNormOp::batch_norm_backward`]: the
//! place where several processes that share a batch add their sums. There N is that of them all.
//!
//! Kept for backward: x (by its owner), μ and σ². Source: Ioffe and Szegedy, arXiv 1502.03167, algorithm 1;
//! defaults of `torch.nn.BatchNorm2d`.

mod cpu;
#[cfg(feature = "cuda")]
mod cuda;

use crate::ops::Backend;
use crate::ops::case::{Case, Cost, Inputs, Io, Kind, Large, Threshold, Visitor};
use crate::params::{Ctx, Decay, Form, Grad, Init, Layout, Param, Params, Registry};
use crate::storage::Storage;
use crate::tensor::{Master, Tensor};

/// Parameters of a batch normalisation.
#[derive(Clone, Debug)]
pub struct BatchNorm {
    /// w `[C]`, starts at 1.
    pub weight: Param,
    /// b `[C]`, starts at 0.
    pub bias: Param,
    /// Running μ `[C]`, starts at 0.
    pub mean: Param,
    /// Running σ² `[C]`, starts at 1.
    pub var: Param,
    /// Batches that the running statistics have followed `[1]`.
    pub count: Param,
    /// ε, added to the variance.
    pub eps: f64,
    /// Share of a batch in the running statistics.
    pub momentum: f64,
}

impl BatchNorm {
    /// `name.weight`, `name.bias`, `name.running_mean`, `name.running_var` and `name.num_batches_tracked`.
    pub fn new(reg: &mut Registry, name: &str, width: usize) -> Self {
        let mut add = |part: &str, n, start, form| {
            let init = Init::Constant(start);
            reg.add_as(format!("{name}.{part}"), &[n], Decay::No, init, form)
        };
        Self {
            weight: add("weight", width, 1.0, Form::Plain),
            bias: add("bias", width, 0.0, Form::Plain),
            mean: add("running_mean", width, 0.0, Form::Statistic),
            var: add("running_var", width, 1.0, Form::Statistic),
            count: add("num_batches_tracked", 1, 0.0, Form::Statistic),
            eps: 1e-5,
            momentum: 0.1,
        }
    }

    /// x `[..,C]` -> y `[..,C]` and the statistics that made it: those of x where `train` and there are at least
    /// two rows, else the running ones.
    #[track_caller]
    pub fn forward<B: BatchNormOp>(
        &self,
        ctx: Ctx<B>,
        x: &Tensor<B>,
        train: bool,
    ) -> (Tensor<B>, BatchStats<B>) {
        let stats = match train && x.rows() > 1 {
            true => ctx.bk.batch_norm_statistics(x),
            false => ctx.bk.batch_norm_running(ctx.w, self),
        };
        (ctx.bk.batch_norm_forward(x, &stats, ctx.w, self), stats)
    }

    /// dy `[..,C]` -> dx `[..,C]`.
    pub fn backward<B: BatchNormOp>(
        &self,
        grad: &mut Grad<B>,
        x: &Tensor<B>,
        stats: &BatchStats<B>,
        dy: &Tensor<B>,
    ) -> Tensor<B> {
        let Ctx { bk, w } = grad.ctx;
        let sums = bk.batch_norm_sums(x, stats, dy, self, grad.g);
        bk.batch_norm_backward(x, stats, &sums, dy, w, self)
    }

    /// Lets the running statistics follow those of a batch, once per batch, after its forward pass; running ones
    /// change nothing.
    pub fn follow<B: BatchNormOp>(&self, bk: &B, stats: &BatchStats<B>, w: &mut Params<B>) {
        if stats.batch {
            bk.batch_norm_follow(stats, w, self);
        }
    }

    /// Panics unless there is a number for each column.
    #[track_caller]
    fn expect_width(&self, op: &str, c: usize) {
        for param in [&self.weight, &self.bias, &self.mean, &self.var] {
            param.expect_shape(op, &[c]);
        }
        self.count.expect_shape(op, &[1]);
    }
}

/// What a channel's numbers are normalised by.
pub struct BatchStats<B: Storage> {
    /// μ `[C]`.
    pub mean: Master<B>,
    /// σ² `[C]`, biased.
    pub var: Master<B>,
    /// Rows they were taken of; 0 for running ones.
    pub rows: usize,
    /// Whether they are those of the batch, through which gradients flow, or running ones.
    pub batch: bool,
}

impl<B: Storage> BatchStats<B> {
    /// Panics unless there is a number for each column.
    #[track_caller]
    fn expect_width(&self, op: &str, c: usize) {
        self.mean.expect_shape(op, "mean", &[c]);
        self.var.expect_shape(op, "var", &[c]);
    }
}

/// What the batch norms of a model saw of a batch, each with its statistics.
pub type Statistics<B> = Vec<(BatchNorm, BatchStats<B>)>;

/// Batch normalisation and its gradients.
pub trait BatchNormOp: Storage {
    /// μ and σ² of the rows of x `[..,C]`, in two passes: the mean, then squares about it. Panics where x has
    /// fewer than two rows, as 1×1 pixels of one image: the variance of one number says nothing, and
    /// training on it would teach b alone. Running statistics take any number of rows.
    fn batch_norm_statistics(&self, x: &Tensor<Self>) -> BatchStats<Self>;

    /// The running statistics as they are now.
    fn batch_norm_running(&self, w: &Params<Self>, p: &BatchNorm) -> BatchStats<Self>;

    /// x `[..,C]` -> y `[..,C]`.
    fn batch_norm_forward(
        &self,
        x: &Tensor<Self>,
        stats: &BatchStats<Self>,
        w: &Params<Self>,
        p: &BatchNorm,
    ) -> Tensor<Self>;

    /// Σ dy ⊙ xhat and Σ dy over these rows, `[2,C]`; adds them to dw and db in `g`. Where several processes
    /// share a batch, the sums of all of them go to [`BatchNormOp::batch_norm_backward`].
    fn batch_norm_sums(
        &self,
        x: &Tensor<Self>,
        stats: &BatchStats<Self>,
        dy: &Tensor<Self>,
        p: &BatchNorm,
        g: &mut Params<Self>,
    ) -> Master<Self>;

    /// dy `[..,C]` -> dx `[..,C]`, with the sums over all of the `stats.rows` rows.
    fn batch_norm_backward(
        &self,
        x: &Tensor<Self>,
        stats: &BatchStats<Self>,
        sums: &Master<Self>,
        dy: &Tensor<Self>,
        w: &Params<Self>,
        p: &BatchNorm,
    ) -> Tensor<Self>;

    /// Takes `stats` of a batch into the running ones, and counts it. A statistic that is not finite leaves
    /// its number as it was. Panics where `stats` are running ones.
    fn batch_norm_follow(&self, stats: &BatchStats<Self>, w: &mut Params<Self>, p: &BatchNorm);
}

/// Rows of a channel of which little of dy may be left after its mean and its part along x are taken off: of two rows
/// the share ε/(σ² + ε). Where there are no more, the CPU takes that difference in f64 if its numbers are f32.
const FEW_ROWS: usize = 64;

/// Panics unless a variance of so many rows says something.
#[track_caller]
fn expect_rows(rows: usize) {
    assert!(
        rows > 1,
        "batch_norm: {rows} row(s) per channel: in training the variance needs two, so more images or \
         pixels; or use the running statistics"
    );
}

/// N/(N − 1), of statistics to follow.
#[track_caller]
fn unbias<B: Storage>(stats: &BatchStats<B>, p: &BatchNorm) -> f64 {
    assert!(stats.batch, "batch_norm_follow: running statistics cannot follow themselves");
    expect_rows(stats.rows);
    let c = p.weight.len();
    p.expect_width("batch_norm_follow", c);
    stats.expect_width("batch_norm_follow", c);
    stats.rows as f64 / (stats.rows - 1) as f64
}

/// What a case does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BatchNormRun {
    /// With the statistics of x.
    Train,
    /// With given ones.
    Eval,
    /// The running statistics after one batch.
    Follow,
    /// The same where a channel has an infinite number.
    FollowInfinite,
}

/// The op at one size.
pub struct BatchNormCase {
    instance: &'static str,
    shape: &'static [usize],
    eps: f64,
    run: BatchNormRun,
}

impl BatchNormCase {
    fn width(&self) -> usize {
        self.shape[self.shape.len() - 1]
    }

    fn layer(&self) -> (BatchNorm, Layout) {
        let mut reg = Registry::new();
        let norm = BatchNorm { eps: self.eps, ..BatchNorm::new(&mut reg, "norm", self.width()) };
        (norm, reg.finish())
    }
}

impl Case for BatchNormCase {
    fn name(&self) -> String {
        format!("batch_norm/{}", self.instance)
    }

    fn inputs(&self) -> Inputs {
        let c = self.width();
        let mut inputs =
            Inputs::new(&self.name()).elem("x", self.shape).params(&self.layer().1, 1.0);
        match self.run {
            BatchNormRun::Train if self.shape[0] == 0 => inputs.refused("0 row(s) per channel"),
            BatchNormRun::Train => inputs,
            BatchNormRun::Eval => {
                let (mean, var) = (inputs.normal(c), inputs.normal(c));
                let var = var.iter().map(|v| 0.2 + v * v).collect();
                let inputs = inputs.push("mean", &[c], mean, Kind::Master, false);
                inputs.push("var", &[c], var, Kind::Master, false)
            }
            BatchNormRun::Follow => inputs.without_backward(),
            BatchNormRun::FollowInfinite => {
                inputs.tensors[0].values[1] = f64::INFINITY;
                inputs.without_backward()
            }
        }
    }

    fn run<B: Backend>(&self, bk: &B, io: &mut Io<B>) {
        let ((norm, _), x) = (self.layer(), io.elem("x"));
        let stats = match self.run {
            BatchNormRun::Eval => {
                let (mean, var) = (io.master("mean"), io.master("var"));
                BatchStats { mean, var, rows: 0, batch: false }
            }
            BatchNormRun::Train | BatchNormRun::Follow | BatchNormRun::FollowInfinite => {
                bk.batch_norm_statistics(&x)
            }
        };
        if matches!(self.run, BatchNormRun::Follow | BatchNormRun::FollowInfinite) {
            norm.follow(bk, &stats, &mut io.w);
            let all = bk.copy(&io.w.master);
            let n = bk.len(&all);
            io.output(bk, &Master::new(bk, all, &[n]));
            return;
        }
        let y = bk.batch_norm_forward(&x, &stats, &io.w, &norm);
        io.output(bk, &y);
        if io.wants_backward() {
            let dy = io.upstream(bk, 0);
            let dx = norm.backward(&mut io.grad_of(bk), &x, &stats, &dy);
            io.grad(bk, "x", &dx);
        }
    }

    fn thresholds(&self) -> Vec<Threshold> {
        let rows = self.shape.iter().product::<usize>() / self.width().max(1);
        let [first, second] = Threshold::fold_rows(rows);
        let few = Threshold::new("FEW_ROWS", FEW_ROWS, rows);
        vec![Threshold::rows_per_task(rows, self.width()), few, first, second]
    }

    fn amplifies(&self) -> bool {
        let rows = self.shape.iter().product::<usize>() / self.width().max(1);
        self.run == BatchNormRun::Train && rows <= FEW_ROWS
    }

    fn cost(&self) -> Cost {
        let n = self.shape.iter().product::<usize>() as f64;
        Cost {
            flops_forward: 8.0 * n,
            flops_backward: 12.0 * n,
            elements_forward: 2.0 * n,
            elements_backward: 3.0 * n,
        }
    }
}

/// Two rows, odd sizes, a large eps, both kinds of statistics and of grids, a batch, what is followed; pieces.
pub fn cases<V: Visitor>(v: &mut V) {
    for (instance, shape, eps, run) in [
        ("two_rows", &[2, 3][..], 1e-5, BatchNormRun::Train),
        ("tall", &[2, 5, 3, 4], 1e-5, BatchNormRun::Train),
        ("wide_large_eps", &[1, 3, 7, 5], 0.5, BatchNormRun::Train),
        ("batch", &[5, 3, 2, 3], 1e-5, BatchNormRun::Train),
        ("pieces", &[3, 11, 17], 1e-5, BatchNormRun::Train),
        ("few_and_one", &[5, 13, 2], 1e-5, BatchNormRun::Train),
        ("eval_one_row", &[1, 1, 1, 6], 1e-5, BatchNormRun::Eval),
        ("eval", &[4, 2, 3, 5], 0.25, BatchNormRun::Eval),
        ("follow", &[3, 2, 2, 5], 1e-5, BatchNormRun::Follow),
        ("follow_infinite", &[2, 3, 2, 4], 1e-5, BatchNormRun::FollowInfinite),
    ] {
        v.visit(BatchNormCase { instance, shape, eps, run });
    }
    // 42 rows of 385 channels are a task.
    for (instance, shape, run) in [
        ("task_and_one", &[43, 385][..], BatchNormRun::Train),
        ("many_tasks", &[4, 32, 385], BatchNormRun::Train),
        ("sum_and_one", &[27, 19, 2], BatchNormRun::Train),
        ("many_sums", &[31, 52, 2], BatchNormRun::Train),
        ("eval_many_tasks", &[4, 33, 385], BatchNormRun::Eval),
    ] {
        v.visit(Large(BatchNormCase { instance, shape, eps: 1e-5, run }));
    }
}

/// An empty batch.
pub fn empty_case<V: Visitor>(v: &mut V) {
    v.visit(BatchNormCase {
        instance: "empty",
        shape: &[0, 3],
        eps: 1e-5,
        run: BatchNormRun::Train,
    });
}

/// A size worth timing: a head over a quarter of the sides of two images of 512 pixels.
pub fn large_cases<V: Visitor>(v: &mut V) {
    let shape = &[2, 128, 128, 512];
    v.visit(BatchNormCase {
        instance: "2x128x128x512",
        shape,
        eps: 1e-5,
        run: BatchNormRun::Train,
    });
}
