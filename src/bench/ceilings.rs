//! What the machine reaches on plain products and on a pass over memory.
//!
//! The fastest of all runs counts, since a ceiling is what nothing passes; the median stands beside it.
//! `beit bench report` measures them before everything else and once more at the end, so that a moment in
//! which other programs had the machine does not lower the roof of all that follows.
//! `benches/peers/ceilings.py` measures the same with OpenBLAS and a C++ triad.

use super::columns::{CPU, Columns, JUDGE};
use super::{FEWEST, Times, Timing};
use crate::cpu::{gemm, gemm_serial, wide_dgemm};
use crate::error::Result;
use crate::models::config::BeitConfig;
use crate::real::Real;
use crate::run::note;
use crate::simd_fn;
use ndarray::{Array2, ArrayView2, ArrayViewMut2, Axis};
use rayon::ThreadPoolBuilder;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A rate that nothing on this machine is expected to pass.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ceiling {
    /// `sgemm`, `dgemm`, `triad`, `matmul` or `copy`.
    pub name: String,
    /// Column whose roof it is; `dgemm` is that of the judge.
    pub column: String,
    /// Threads of the CPU.
    pub threads: Option<usize>,
    /// Sizes.
    pub shape: String,
    /// Operations of a run, or bytes.
    pub work: f64,
    /// `GFLOP/s` or `GB/s`.
    pub unit: String,
    /// Rate of the fastest run.
    pub best: f64,
    /// All runs.
    pub timing: Timing,
}

/// The two ceilings over one column: work of i operations per byte reaches min(compute, memory · i).
#[derive(Clone, Copy, Debug)]
pub struct Roof {
    /// GFLOP/s of a matrix product.
    pub compute: f64,
    /// GB/s of a pass over memory.
    pub memory: f64,
}

/// Roofs by column.
pub struct Roofs(BTreeMap<String, Roof>);

impl Roofs {
    /// From the ceilings on all threads.
    pub fn of(ceilings: &[Ceiling]) -> Self {
        let best = |column: &str, unit: &str| {
            let all = ceilings.iter().filter(|c| c.column == column && c.unit == unit);
            all.map(|c| c.best).reduce(f64::max)
        };
        let columns = ceilings.iter().map(|c| c.column.clone());
        Self(
            columns
                .filter_map(|c| {
                    let compute = best(&c, "GFLOP/s")?;
                    let memory = best(&c, "GB/s")?;
                    Some((c, Roof { compute, memory }))
                })
                .collect(),
        )
    }

    /// Over this column; none where its times mean nothing.
    pub fn get(&self, column: &str) -> Option<Roof> {
        self.0.get(column).copied()
    }
}

/// Runs of one ceiling.
pub struct Runs {
    name: &'static str,
    column: &'static str,
    threads: Option<usize>,
    shape: String,
    work: f64,
    unit: &'static str,
    times: Times,
}

/// The ceilings from all their runs.
pub fn of(runs: Vec<Runs>) -> Vec<Ceiling> {
    let mut all: Vec<Runs> = Vec::new();
    for run in runs {
        let key = |r: &Runs| (r.name, r.column, r.threads, r.shape.clone());
        let same = |r: &Runs| key(r) == key(&run);
        match all.iter().position(same) {
            Some(i) => {
                let earlier = all.remove(i);
                all.insert(i, Runs { times: earlier.times.and(run.times), ..earlier });
            }
            None => all.push(run),
        }
    }
    let ceiling = |Runs { name, column, threads, shape, work, unit, times }| Ceiling {
        name: str::to_string(name),
        column: str::to_string(column),
        threads,
        shape,
        work,
        unit: str::to_string(unit),
        best: 1e-9 * work / times.min(),
        timing: times.timing(),
    };
    all.into_iter().map(ceiling).collect()
}

/// Those of the CPU on one and on all threads.
pub fn of_all_threads(quick: bool) -> Vec<Runs> {
    let last = rayon::current_num_threads();
    let counts = if last == 1 { vec![1] } else { vec![1, last] };
    let on = |threads| {
        note(&format!("ceilings of the CPU on {threads} of {last} threads"));
        let pool = ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
        pool.install(|| of_cpu(quick))
    };
    counts.into_iter().flat_map(on).collect()
}

/// Sizes m, k, n of the products: what fits the caches, a flat one that writes much for what it adds up,
/// and a large one. Which is fastest depends on the machine.
const SHAPES: [[usize; 3]; 3] = [[512; 3], [2048, 256, 2048], [2048; 3]];

impl Columns {
    /// The ceilings of a GPU in both precisions, where its times mean anything.
    pub fn ceilings_of_gpu(&self) -> Result<Vec<Runs>> {
        #[cfg(feature = "cuda")]
        if let Some(device) = self.device.as_ref().filter(|d| !d.is_emulated()) {
            use super::columns::CUDA;
            note("ceilings of the GPU");
            let mut all = of_gpu(&crate::cuda::Cuda::<f32>::on(device)?, &CUDA[0]);
            all.extend(of_gpu(&crate::cuda::Cuda::<half::bf16>::on(device)?, &CUDA[1]));
            return Ok(all);
        }
        Ok(Vec::new())
    }
}

/// Those of the CPU on the threads of this pool.
pub fn of_cpu(quick: bool) -> Vec<Runs> {
    let threads = rayon::current_num_threads();
    let (shapes, seconds): (&[[usize; 3]], f64) =
        if quick { (&[[192; 3]], 0.02) } else { (&SHAPES, 0.4) };
    // Every array is four times what the largest caches of servers give to two cores, as STREAM asks.
    let len = if quick { 1 << 18 } else { 1 << 24 };
    let mut all = Vec::new();
    for &shape in shapes {
        let sgemm = product::<f32>(shape, seconds, |a, b, c| match threads {
            1 => gemm_serial(1.0, a, b, 0.0, c),
            _ => gemm(1.0, a, b, 0.0, c),
        });
        all.push(("sgemm", CPU.name, sgemm, "GFLOP/s"));
    }
    for &shape in shapes {
        let dgemm = product::<f64>(shape, seconds, |a, b, mut c| {
            let rows = c.nrows().div_ceil(if threads == 1 { 1 } else { 4 * threads }).max(1);
            let pieces: Vec<_> = c.axis_chunks_iter_mut(Axis(0), rows).enumerate().collect();
            pieces.into_par_iter().with_max_len(1).for_each(|(i, c)| {
                let a = a.slice_axis(Axis(0), (i * rows..i * rows + c.nrows()).into());
                wide_dgemm(a, b, c);
            });
        });
        all.push(("dgemm", JUDGE, dgemm, "GFLOP/s"));
    }
    let mut arrays = [vec![0.0f64; len], vec![1.0; len], vec![2.0; len]];
    let piece = len.div_ceil(threads);
    let times = Times::measure(FEWEST, seconds, || {
        let [a, b, c] = &mut arrays;
        let sources = b.par_chunks(piece).zip(c.par_chunks(piece));
        a.par_chunks_mut(piece).zip(sources).for_each(|(a, (b, c))| triad(a, b, c, 3.0));
    });
    // Two arrays are read and one is written; what the cache reads of the third before it is written is
    // not counted, nor is it in the bytes of the ops.
    let triad = (format!("3 x {len} f64"), 24.0 * len as f64, times);
    all.push(("triad", CPU.name, triad, "GB/s"));
    let runs = |(name, column, (shape, work, times), unit)| {
        let threads = Some(threads);
        Runs { name, column, threads, shape, work, unit, times }
    };
    all.into_iter().map(runs).collect()
}

simd_fn! {
    /// a = b + s c
    fn triad<T>(a: &mut [T], b: &[T], c: &[T], s: T) {
        for ((a, &b), &c) in a.iter_mut().zip(b).zip(c) {
            *a = b + s * c;
        }
    }
}

/// Shape, operations or bytes, and times.
type CeilingTimes = (String, f64, Times);

/// A product of the CPU.
fn product<T: Real>(
    [m, k, n]: [usize; 3],
    seconds: f64,
    multiply: impl Fn(ArrayView2<T>, ArrayView2<T>, ArrayViewMut2<T>),
) -> CeilingTimes {
    let fill = |rows: usize, cols: usize, step: usize| {
        let value = |(i, j)| T::from_f64(((i * step + j * 17) % 23) as f64 - 11.0);
        Array2::from_shape_fn((rows, cols), value)
    };
    let (a, b, mut c) = (fill(m, k, 31), fill(k, n, 13), Array2::from_elem((m, n), T::ZERO));
    let times = Times::measure(FEWEST, seconds, || multiply(a.view(), b.view(), c.view_mut()));
    (format!("{m} x {k} x {n}"), 2.0 * (m * k * n) as f64, times)
}

/// Best GFLOP/s of plain products of the sizes of this model's layers, on all threads.
pub fn best_sgemm(config: &BeitConfig, batch: usize, masked: usize) -> f64 {
    let (rows, c, h) =
        (batch * config.encoder.tokens(), config.encoder.width, config.encoder.mlp_width);
    let shapes = [
        [rows, c, 3 * c],
        [rows, c, c],
        [rows, c, h],
        [rows, h, c],
        [3 * c, rows, c],
        [h, rows, c],
        [batch * masked, c, config.outputs()],
    ];
    let rate = |shape| {
        let (_, flops, times) = product::<f32>(shape, 0.15, |a, b, c| gemm(1.0, a, b, 0.0, c));
        1e-9 * flops / times.min()
    };
    shapes.into_iter().map(rate).fold(0.0, f64::max)
}

#[cfg(feature = "cuda")]
pub use gpu::{matmul_gflops, of_gpu};

#[cfg(feature = "cuda")]
mod gpu {
    use super::{CeilingTimes, FEWEST, Runs, Times};
    use crate::bench::columns::Column;
    use crate::cuda::{Cuda, Precision, plain};
    use crate::real::Float;
    use crate::rng::{Philox, Purpose};
    use crate::storage::Storage;
    use crate::tensor::{Master, Tensor};

    /// Calls before the device is waited for, so that the wait does not lower a ceiling; a time is their
    /// mean.
    const CALLS: usize = 8;

    fn repeated<T: Precision>(bk: &Cuda<T>, seconds: f64, mut f: impl FnMut()) -> Times {
        let times = Times::measure(FEWEST, seconds, || {
            (0..CALLS).for_each(|_| f());
            bk.synchronize();
        });
        times.per_call(CALLS)
    }

    /// The sum of two uniform numbers, centred, from a short table: a product of few different numbers
    /// takes less power, and so less time, than those of a model.
    fn random<T: Precision, E: Float>(bk: &Cuda<T>, shape: &[usize]) -> Tensor<Cuda<T>, E> {
        let mut rng = Philox::new(0, Purpose::Bench, 6, 0);
        let table: Vec<E> =
            (0..65_537).map(|_| E::from_f64(rng.unit() + rng.unit() - 1.0)).collect();
        let n = shape.iter().product();
        Tensor::from_vec(bk, table.into_iter().cycle().take(n).collect(), shape)
    }

    /// A large square product.
    fn matmul<T: Precision>(bk: &Cuda<T>, seconds: f64) -> CeilingTimes {
        let side = if bk.device().is_emulated() { 64 } else { 8192 };
        let (a, b) = (random::<T, T::Elem>(bk, &[side, side]), random(bk, &[side, side]));
        let c: Tensor<Cuda<T>> = bk.unset(&[side, side]);
        let times = repeated(bk, seconds, || {
            bk.gemm((side, side, side), 1.0, plain(a.start()), plain(b.start()), 0.0, c.start());
        });
        (format!("{side} x {side} x {side}"), 2.0 * (side as f64).powi(3), times)
    }

    /// A large copy, read and written.
    fn copy<T: Precision>(bk: &Cuda<T>, seconds: f64) -> CeilingTimes {
        let len = if bk.device().is_emulated() { 1 << 16 } else { 1 << 28 };
        let x: Master<Cuda<T>> = random(bk, &[len]);
        let times = repeated(bk, seconds, || drop(x.duplicate(bk)));
        (format!("{len} numbers"), 2.0 * (size_of::<T::Master>() * len) as f64, times)
    }

    /// Those of a GPU in one precision.
    pub fn of_gpu<T: Precision>(bk: &Cuda<T>, column: &Column) -> Vec<Runs> {
        let seconds = if bk.device().is_emulated() { 0.0 } else { 0.5 };
        let both =
            [("matmul", matmul(bk, seconds), "GFLOP/s"), ("copy", copy(bk, seconds), "GB/s")];
        let runs = |(name, (shape, work, times), unit)| {
            let (column, threads) = (column.name, None);
            Runs { name, column, threads, shape, work, unit, times }
        };
        both.into_iter().map(runs).collect()
    }

    /// Best GFLOP/s of a large square product.
    pub fn matmul_gflops<T: Precision>(bk: &Cuda<T>) -> f64 {
        let (_, work, times) = matmul(bk, if bk.device().is_emulated() { 0.0 } else { 0.2 });
        1e-9 * work / times.min()
    }
}
