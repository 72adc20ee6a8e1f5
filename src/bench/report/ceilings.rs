//! What the machine reaches on plain products and on a pass over memory.
//!
//! The fastest of all runs counts, since a ceiling is what nothing passes; the median stands beside it.
//! They are measured before everything else and once more at the end, so that a moment in which other
//! programs had the machine does not lower the roof of all that follows.
//! `benches/peers/ceilings.py` measures the same with OpenBLAS and a C++ triad.

use super::columns::{CPU, JUDGE};
use super::{Ceiling, Columns, Plan, Roof};
use crate::bench::{FEWEST, Times};
use crate::cpu::{gemm, gemm_serial, wide_dgemm};
use crate::real::Real;
use crate::run::note;
use crate::simd_fn;
use ndarray::{Array2, ArrayView2, ArrayViewMut2, Axis};
use rayon::ThreadPoolBuilder;
use rayon::prelude::*;
use std::collections::BTreeMap;

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

/// Measures all ceilings.
pub fn measure(plan: &Plan, columns: &Columns) -> Vec<Runs> {
    let mut all = Vec::new();
    let last = *plan.threads.last().expect("at least one thread");
    let counts = if last == 1 { vec![1] } else { vec![1, last] };
    for threads in counts {
        note(&format!("ceilings of the CPU on {threads} of {last} threads"));
        let pool = ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
        pool.install(|| all.extend(of_cpu(plan, threads)));
    }
    all.extend(of_gpu(columns));
    all
}

/// Sizes m, k, n of the products: what fits the caches, a flat one that writes much for what it adds up,
/// and a large one. Which is fastest depends on the machine.
const SHAPES: [[usize; 3]; 3] = [[512; 3], [2048, 256, 2048], [2048; 3]];

fn of_cpu(plan: &Plan, threads: usize) -> Vec<Runs> {
    let (shapes, seconds): (&[[usize; 3]], f64) =
        if plan.quick { (&[[192; 3]], 0.02) } else { (&SHAPES, 0.4) };
    // Every array is four times what the largest caches of servers give to two cores, as STREAM asks.
    let len = if plan.quick { 1 << 18 } else { 1 << 24 };
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

/// A product: its shape, its operations and its times.
fn product<T: Real>(
    [m, k, n]: [usize; 3],
    seconds: f64,
    multiply: impl Fn(ArrayView2<T>, ArrayView2<T>, ArrayViewMut2<T>),
) -> (String, f64, Times) {
    let fill = |rows: usize, cols: usize, step: usize| {
        let value = |(i, j)| T::from_f64(((i * step + j * 17) % 23) as f64 - 11.0);
        Array2::from_shape_fn((rows, cols), value)
    };
    let (a, b, mut c) = (fill(m, k, 31), fill(k, n, 13), Array2::from_elem((m, n), T::ZERO));
    let times = Times::measure(FEWEST, seconds, || multiply(a.view(), b.view(), c.view_mut()));
    (format!("{m} x {k} x {n}"), 2.0 * (m * k * n) as f64, times)
}

#[cfg(not(feature = "cuda"))]
fn of_gpu(_: &Columns) -> Vec<Runs> {
    Vec::new()
}

#[cfg(feature = "cuda")]
fn of_gpu(columns: &Columns) -> Vec<Runs> {
    use super::columns::CUDA;
    use crate::bench::device::{Measured, ceilings};
    use crate::error::DeviceFault;
    let Some(opened) = columns.gpu() else { return Vec::new() };
    note("ceilings of the GPU");
    let (f32, bf16) = opened.unwrap_or_else(|e| DeviceFault { text: e.to_string() }.panic());
    let mut all = Vec::new();
    for (column, [matmul, copy]) in [(CUDA[0], ceilings(&f32)), (CUDA[1], ceilings(&bf16))] {
        for (name, unit, measured) in [("matmul", "GFLOP/s", matmul), ("copy", "GB/s", copy)] {
            let Measured { shape, work, times } = measured;
            all.push(Runs { name, column: column.name, threads: None, shape, work, unit, times });
        }
    }
    all
}
