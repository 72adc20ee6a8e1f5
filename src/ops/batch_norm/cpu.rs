//! Batch normalisation on the CPU: sums over rows in a fixed order, then row by row.

use super::{BatchNorm, BatchNormOp, BatchStats, FEW_ROWS, expect_rows, unbias};
use crate::cpu::pieces::{Cut, Pieces};
use crate::cpu::scalar::Scalar;
use crate::cpu::{Cpu, add_column_sums, fold_rows, rows_per_task, simd};
use crate::params::{Param, Params};
use crate::real::{Float, Real};
use crate::simd_fn;
use crate::tensor::{Master, Tensor};

simd_fn! {
    /// sums += (x − mean)² of one row.
    fn add_squares<T>(x: &[T], mean: &[T], sums: &mut [T]) {
        for ((sum, &x), &mean) in sums.iter_mut().zip(x).zip(mean) {
            *sum += (x - mean) * (x - mean);
        }
    }
}

simd_fn! {
    /// y = (x − mean) r w + b of one row.
    fn normalise<T>(x: &[T], mean: &[T], rstd: &[T], weight: &[T], bias: &[T], y: &mut [T]) {
        let (channels, affine) = (x.iter().zip(mean).zip(rstd), weight.iter().zip(bias));
        for ((y, ((&x, &mean), &rstd)), (&w, &b)) in y.iter_mut().zip(channels).zip(affine) {
            *y = (x - mean) * rstd * w + b;
        }
    }
}

simd_fn! {
    /// One row of Σ dy ⊙ (x − μ) and Σ dy.
    fn add_sums<T>(x: &[T], mean: &[T], dy: &[T], products: &mut [T], plain: &mut [T]) {
        let (numbers, sums) = (x.iter().zip(mean).zip(dy), products.iter_mut().zip(plain));
        for (((&x, &mean), &dy), (product, sum)) in numbers.zip(sums) {
            *product += dy * (x - mean);
            *sum += dy;
        }
    }
}

/// μ and σ² `[C]` of rows, in two passes: E[x²] − μ² would cancel for a channel whose mean is far from 0.
fn moments<T: Real>(x: &[T], c: usize) -> (Vec<T>, Vec<T>) {
    let rows = x.len() / c.max(1);
    let (mut mean, n) = (vec![T::ZERO; c], T::from_f64(rows as f64));
    add_column_sums(x, &mut mean);
    mean.iter_mut().for_each(|sum| *sum /= n);
    let mut var = fold_rows(rows, c, |rows, sums| {
        let numbers = &x[rows.start * c..rows.end * c];
        numbers.chunks_exact(c.max(1)).for_each(|x| add_squares(x, &mean, sums));
    });
    var.iter_mut().for_each(|sum| *sum /= n);
    (mean, var)
}

/// Σ dy ⊙ xhat and Σ dy `[2,C]` over rows.
fn sums<T: Real>(x: &[T], mean: &[T], var: &[T], dy: &[T], eps: f64) -> Vec<T> {
    let c = mean.len();
    let mut sums = fold_rows(x.len() / c.max(1), 2 * c, |rows, sums| {
        let (products, plain) = sums.split_at_mut(c);
        for r in rows {
            let row = r * c..(r + 1) * c;
            add_sums(&x[row.clone()], mean, &dy[row], products, plain);
        }
    });
    let rstd = reciprocal_deviations(var, eps);
    sums.iter_mut().zip(&rstd).for_each(|(product, &r)| *product *= r);
    sums
}

/// What dx = scale (dy − mean of dy − (x − μ) · slope) needs of the channels.
struct Channels<T> {
    mean: Vec<T>,
    scale: Vec<T>,
    slope: Vec<T>,
    mean_dy: Vec<T>,
}

impl<T: Real> Channels<T> {
    /// Of `sums` `[2,C]`, of which a row has `share`.
    fn new(mean: &[T], var: &[T], sums: &[T], weight: &[T], (share, eps): (f64, f64)) -> Self {
        let (rstd, share) = (reciprocal_deviations(var, eps), T::from_f64(share));
        let (products, plain) = sums.split_at(mean.len());
        // y = xhat ⊙ w + b, xhat = (x − μ) r   =>   dx = w r (dy − Σdy/N − (x − μ) r · Σ(dy ⊙ xhat)/N)
        Self {
            mean: mean.to_vec(),
            scale: rstd.iter().zip(weight).map(|(&r, &w)| w * r).collect(),
            slope: products.iter().zip(&rstd).map(|(&product, &r)| share * product * r).collect(),
            mean_dy: plain.iter().map(|&sum| share * sum).collect(),
        }
    }

    /// dx of all rows; it holds dy.
    fn pull_back(&self, x: &[T], dx: &mut [T]) {
        let c = self.mean.len();
        let step = (rows_per_task(c) * c).max(1);
        dx.par_chunks_mut(step).zip(x.par_chunks(step)).for_each(|(dx, x)| {
            for (dx, x) in dx.chunks_exact_mut(c).zip(x.chunks_exact(c)) {
                pull_back_row(x, &self.mean, &self.scale, &self.slope, &self.mean_dy, dx);
            }
        });
    }
}

simd_fn! {
    /// One row of dx through the statistics of the batch; dx holds dy.
    fn pull_back_row<T>(x: &[T], mean: &[T], scale: &[T], slope: &[T], mean_dy: &[T], dx: &mut [T]) {
        let n = x.len();
        let (mean, scale, slope) = (&mean[..n], &scale[..n], &slope[..n]);
        let (mean_dy, dx) = (&mean_dy[..n], &mut dx[..n]);
        for c in 0..n {
            dx[c] = scale[c] * (dx[c] - mean_dy[c] - (x[c] - mean[c]) * slope[c]);
        }
    }
}

/// Whether a pass over so many rows is to be made in f64.
fn in_f64<T: Real>(rows: usize) -> bool {
    rows <= FEW_ROWS && size_of::<T>() < size_of::<f64>()
}

fn widened<T: Float>(x: &[T]) -> Vec<f64> {
    x.iter().map(|&x| x.to_f64()).collect()
}

fn narrowed<T: Float>(x: Vec<f64>) -> Vec<T> {
    x.into_iter().map(T::from_f64).collect()
}

/// 1/√(σ² + ε) of each channel.
fn reciprocal_deviations<T: Real>(var: &[T], eps: f64) -> Vec<T> {
    let eps = T::from_f64(eps);
    var.iter().map(|&var| (var + eps).recip_sqrt()).collect()
}

/// number ← (1 − m) number + m statistic, unless the statistic is not finite.
fn follow<T: Real>(running: &mut [T], statistics: &[T], momentum: f64, factor: f64) {
    let keep = T::from_f64(1.0 - momentum);
    let (momentum, factor) = (T::from_f64(momentum), T::from_f64(factor));
    for (running, &new) in running.iter_mut().zip(statistics) {
        let new = factor * new;
        if new.is_finite() {
            *running = keep * *running + momentum * new;
        }
    }
}

impl<T: Scalar> BatchNormOp for Cpu<T> {
    #[track_caller]
    fn batch_norm_statistics(&self, x: &Tensor<Self>) -> BatchStats<Self> {
        let (rows, c) = (x.rows(), x.cols());
        expect_rows(rows);
        let (mean, var) = moments(&x.wide(), c);
        let of = |numbers| Master::from_vec(self, numbers, &[c]);
        BatchStats { mean: of(mean), var: of(var), rows, batch: true }
    }

    #[track_caller]
    fn batch_norm_running(&self, w: &Params<Self>, p: &BatchNorm) -> BatchStats<Self> {
        let of = |param: &Param| Master::from_vec(self, w.get(param).to_vec(), &param.shape);
        BatchStats { mean: of(&p.mean), var: of(&p.var), rows: 0, batch: false }
    }

    #[track_caller]
    fn batch_norm_forward(
        &self,
        x: &Tensor<Self>,
        stats: &BatchStats<Self>,
        w: &Params<Self>,
        p: &BatchNorm,
    ) -> Tensor<Self> {
        let c = x.cols();
        p.expect_width("batch_norm", c);
        stats.expect_width("batch_norm", c);
        let mut y: Master<Self> = self.unset(x.shape());
        let (mean, rstd) = (stats.mean.slice(), reciprocal_deviations(stats.var.slice(), p.eps));
        let (weight, bias) = (w.get(&p.weight), w.get(&p.bias));
        let (x, step) = (x.wide(), (rows_per_task(c) * c).max(1));
        y.slice_mut().par_chunks_mut(step).zip(x.par_chunks(step)).for_each(|(y, x)| {
            for (y, x) in y.chunks_exact_mut(c).zip(x.chunks_exact(c)) {
                normalise(x, mean, &rstd, weight, bias, y);
            }
        });
        self.narrow(y)
    }

    #[track_caller]
    fn batch_norm_sums(
        &self,
        x: &Tensor<Self>,
        stats: &BatchStats<Self>,
        dy: &Tensor<Self>,
        p: &BatchNorm,
        g: &mut Params<Self>,
    ) -> Master<Self> {
        let (rows, c) = (x.rows(), x.cols());
        dy.expect_shape("batch_norm_sums", "dy", x.shape());
        p.expect_width("batch_norm_sums", c);
        stats.expect_width("batch_norm_sums", c);
        let (mean, var) = (stats.mean.slice(), stats.var.slice());
        let (x, dy) = (x.wide(), dy.wide());
        let sums = if in_f64::<T::Master>(rows) {
            narrowed(sums::<f64>(&widened(&x), &widened(mean), &widened(var), &widened(&dy), p.eps))
        } else {
            sums(&x, mean, var, &dy, p.eps)
        };
        simd::add_assign(g.get_mut(&p.weight), &sums[..c]);
        simd::add_assign(g.get_mut(&p.bias), &sums[c..]);
        Master::from_vec(self, sums, &[2, c])
    }

    #[track_caller]
    fn batch_norm_backward(
        &self,
        x: &Tensor<Self>,
        stats: &BatchStats<Self>,
        sums: &Master<Self>,
        dy: &Tensor<Self>,
        w: &Params<Self>,
        p: &BatchNorm,
    ) -> Tensor<Self> {
        let (rows, c) = (x.rows(), x.cols());
        dy.expect_shape("batch_norm_backward", "dy", x.shape());
        sums.expect_shape("batch_norm_backward", "sums", &[2, c]);
        stats.expect_width("batch_norm_backward", c);
        // Running statistics do not depend on x: nothing is taken off dy.
        let share = if stats.batch { 1.0 / stats.rows as f64 } else { 0.0 };
        let (mean, var, weight) = (stats.mean.slice(), stats.var.slice(), w.get(&p.weight));
        let (x, mut dx) = (x.wide(), self.wide(dy.duplicate(self)));
        if in_f64::<T::Master>(rows) {
            let (wide_x, mut wide) = (widened(&x), widened(dx.slice()));
            let weight = widened(weight);
            // Of the whole batch the statistics and sums are taken again: f32 has rounded them.
            let whole = stats.batch && stats.rows == rows;
            let (mean, var) =
                if whole { moments(&wide_x, c) } else { (widened(mean), widened(var)) };
            let sums = if whole {
                self::sums(&wide_x, &mean, &var, &wide, p.eps)
            } else {
                widened(sums.slice())
            };
            let channels = Channels::<f64>::new(&mean, &var, &sums, &weight, (share, p.eps));
            channels.pull_back(&wide_x, &mut wide);
            dx.slice_mut().copy_from_slice(&narrowed(wide));
        } else {
            let channels = Channels::new(mean, var, sums.slice(), weight, (share, p.eps));
            channels.pull_back(&x, dx.slice_mut());
        }
        self.narrow(dx)
    }

    #[track_caller]
    fn batch_norm_follow(&self, stats: &BatchStats<Self>, w: &mut Params<Self>, p: &BatchNorm) {
        let factor = unbias(stats, p);
        follow(w.get_mut(&p.mean), stats.mean.slice(), p.momentum, 1.0);
        follow(w.get_mut(&p.var), stats.var.slice(), p.momentum, factor);
        w.get_mut(&p.count)[0] += T::Master::ONE;
    }
}
