//! The one way in which an op is timed: a [`Case`] on a backend, forward and backward apart, from the
//! moment its inputs lie there to the moment the device has done its work. `beit bench ops` prints the
//! times against the ceilings of [`super::ceilings`]; `beit bench report` sets the errors beside them.
//!
//! One launch and one wait are part of every time on a GPU.

use super::ceilings::{Ceiling, Roof, Roofs};
use super::columns::Column;
use super::{FEWEST, Times, Timing, encoder};
use crate::models::config::BeitConfig;
use crate::ops::Backend;
use crate::ops::case::{Case, Cost, Inputs, Io, Kind, Traffic, Visitor};
use crate::rng::{Philox, Purpose};
use half::bf16;
use rand_distr::{Distribution, StandardNormal};
use serde::{Deserialize, Serialize};
use std::time::Instant;

/// An op in one direction in one column.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OpTime {
    /// Name of the case: op and sizes.
    pub case: String,
    /// `forward` or `backward`.
    pub direction: String,
    /// Where and in which precision.
    pub column: String,
    /// Floating-point operations.
    pub flops: f64,
    /// Bytes that must at least be moved.
    pub bytes: f64,
    /// Runs; none where it was not timed.
    pub timing: Option<Timing>,
    /// Of the roof over this many operations per byte, in the median run.
    pub of_roof: Option<f64>,
    /// `compute` or `memory`, whichever of the two would take longer at its ceiling.
    pub bound: Option<String>,
}

impl OpTime {
    /// Operations per byte.
    pub fn intensity(&self) -> f64 {
        self.flops / self.bytes
    }

    /// GFLOP/s of the median run.
    pub fn gflops(&self) -> Option<f64> {
        self.timing.as_ref().map(|t| 1e-9 * self.flops / t.median_s)
    }

    /// GB/s of the median run.
    pub fn gbps(&self) -> Option<f64> {
        self.timing.as_ref().map(|t| 1e-9 * self.bytes / t.median_s)
    }

    /// Sets what follows from the roof over its column.
    pub fn under(&mut self, roof: &Roof) {
        let (compute, memory) = (self.flops / roof.compute, self.bytes / roof.memory);
        self.bound = Some(if compute > memory { "compute" } else { "memory" }.into());
        let least = 1e-9 * compute.max(memory);
        self.of_roof = self.timing.as_ref().map(|t| least / t.median_s);
    }
}

/// How often a case runs after one run that warms up.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Fewest timed runs; without any there is no time.
    pub runs: usize,
    /// Seconds that are used up by runs and what is around them.
    pub seconds: f64,
}

/// What a case is timed on: inputs and upstream gradients that every precision holds exactly.
pub struct OpBench {
    /// Name of the case.
    pub name: String,
    /// Its work.
    pub cost: Cost,
    /// Its inputs.
    pub inputs: Inputs,
    /// One gradient for each output; none without a backward pass.
    pub upstream: Option<Vec<Vec<f64>>>,
}

fn rounded(x: f64) -> f64 {
    bf16::from_f64(x).to_f64()
}

impl OpBench {
    /// Makes the numbers of a case; a run on `bk` tells how many its outputs have.
    pub fn new<B: Backend, C: Case>(bk: &B, case: &C) -> Self {
        let mut inputs = case.inputs();
        let tensors = inputs.tensors.iter_mut().filter(|t| t.kind != Kind::Ids);
        tensors.flat_map(|t| &mut t.values).for_each(|x| *x = rounded(*x));
        inputs.values.iter_mut().for_each(|x| *x = rounded(*x));
        let upstream = (!inputs.forward_only).then(|| {
            let mut io = Io::new(bk, &inputs).without_results();
            case.run(bk, &mut io);
            let mut rng = Philox::new(0, Purpose::Bench, 2, 0);
            let mut draw = |_| -> f64 { rounded(StandardNormal.sample(&mut rng)) };
            io.output_lengths().map(|len| (0..len).map(&mut draw).collect()).collect()
        });
        Self { name: case.name(), cost: case.cost(), inputs, upstream }
    }

    /// The inputs on a backend, and the gradients where there is a backward pass.
    pub fn io<B: Backend>(&self, bk: &B) -> Io<B> {
        let io = Io::new(bk, &self.inputs);
        match &self.upstream {
            Some(upstream) => io.with_upstream(upstream.clone()),
            None => io,
        }
    }

    /// Times `run`, which is that of the case. One row per direction, not yet under a roof.
    pub fn measure<B: Backend>(
        &self,
        bk: &B,
        column: &Column,
        effort: Effort,
        run: impl Fn(&mut Io<B>),
    ) -> Vec<OpTime> {
        let (mut seconds, mut traffic) = ([Vec::new(), Vec::new()], [Traffic::default(); 2]);
        let begin = Instant::now();
        let mut warm = false;
        while !warm
            || seconds[0].len() < effort.runs
            || begin.elapsed().as_secs_f64() < effort.seconds
        {
            let mut io = self.io(bk).without_results();
            bk.synchronize();
            let start = Instant::now();
            run(&mut io);
            bk.synchronize();
            let end = Instant::now();
            traffic = [io.forward_traffic, io.backward_traffic];
            if !std::mem::replace(&mut warm, true) {
                continue;
            }
            let middle = io.forward_done.unwrap_or(end);
            seconds[0].push((middle - io.forward_begun.unwrap_or(start)).as_secs_f64());
            let (from, to) = (io.backward_begun.unwrap_or(middle), io.backward_done.unwrap_or(end));
            seconds[1].push((to - from).as_secs_f64());
        }
        let Cost { flops_forward, flops_backward, elements_forward, elements_backward } = self.cost;
        let work = [
            ("forward", flops_forward, elements_forward),
            ("backward", flops_backward, elements_backward),
        ];
        let row = |(((direction, flops, elements), seconds), traffic): (_, Traffic)| OpTime {
            case: self.name.clone(),
            direction: str::to_string(direction),
            column: column.name.into(),
            flops,
            bytes: elements * traffic.bytes_per_number(),
            timing: (effort.runs > 0).then(|| Times::new(seconds).timing()),
            of_roof: None,
            bound: None,
        };
        let directions = if self.upstream.is_some() { 2 } else { 1 };
        work.into_iter().zip(seconds).zip(traffic).take(directions).map(row).collect()
    }
}

/// Which cases `beit bench ops` times.
#[derive(Clone, Copy)]
pub struct Selection<'a> {
    /// Only those whose name contains this.
    pub filter: Option<&'a str>,
    /// The ops at the sizes of an encoder and a batch, and not every case of ops, layers and models at
    /// the sizes of the checks.
    pub at: Option<(&'a BeitConfig, usize)>,
}

impl Selection<'_> {
    fn holds(&self, name: &str) -> bool {
        self.filter.is_none_or(|filter| name.contains(filter))
    }
}

struct Bencher<'a, B> {
    bk: &'a B,
    column: &'a Column,
    selection: Selection<'a>,
    effort: Effort,
    rows: Vec<OpTime>,
}

impl<B: Backend> Visitor for Bencher<'_, B> {
    fn visit<C: Case>(&mut self, case: C) {
        if self.selection.holds(&case.name()) {
            let (bk, op) = (self.bk, OpBench::new(self.bk, &case));
            let rows = op.measure(bk, self.column, self.effort, |io| case.run(bk, io));
            self.rows.extend(rows);
        }
    }
}

/// Times the selected cases in one column, for a fifth of a second each where its times mean anything.
pub fn run<B: Backend>(bk: &B, column: &Column, selection: Selection) -> Vec<OpTime> {
    let mut bench = Bencher { bk, column, selection, effort: effort(column), rows: Vec::new() };
    match selection.at {
        Some((config, batch)) => encoder::visit_cases(&mut bench, config, batch),
        None => {
            crate::ops::visit_cases(&mut bench);
            crate::layers::visit_cases(&mut bench);
            crate::models::visit_cases(&mut bench);
        }
    }
    bench.rows
}

fn effort(column: &Column) -> Effort {
    match column.timed {
        true => Effort { runs: FEWEST, seconds: 0.2 },
        false => Effort { runs: 1, seconds: 0.0 },
    }
}

/// The first layer of the MLP by cuBLASLt, which fuses the tanh form of GELU only: another function, timed
/// to show what the exact one costs. Nothing where it is not selected or cuBLASLt does not do it.
#[cfg(feature = "cuda")]
pub fn tanh_gelu(
    bk: &crate::cuda::Cuda<bf16>,
    column: &Column,
    selection: Selection,
) -> Vec<OpTime> {
    let Some((config, batch)) = selection.at else { return Vec::new() };
    let case = encoder::first_of_mlp(config, batch);
    let name = format!("{}_tanh_by_cublaslt", case.name());
    if !selection.holds(&name) {
        return Vec::new();
    }
    let (rows, input, output) = (case.rows, case.input, case.output);
    let op = OpBench { name, inputs: case.inputs(), cost: case.cost(), upstream: None };
    let done = std::cell::Cell::new(true);
    let rows = op.measure(bk, column, effort(column), |io| {
        let (x, weight, bias) = (io.elem("x"), io.param("weight"), io.param("bias"));
        let [a, y] = [0, 1].map(|_| bk.unset::<bf16>(&[rows, output]));
        let (sizes, to) = ((rows, input, output), (a.start(), y.start()));
        done.set(bk.gemm_tanh_gelu(sizes, x.start(), &io.w, (&weight, &bias), to));
        io.output(bk, &y);
    });
    if done.get() { rows } else { Vec::new() }
}

/// What `beit bench ops` writes as JSON.
#[derive(Serialize)]
pub struct OpsResult<'a> {
    /// The machine in words.
    pub device: String,
    /// Whether it was the emulator, whose times mean nothing.
    pub emulated: bool,
    /// Sizes, where they are an encoder's.
    pub preset: Option<&'a str>,
    /// Images, where sizes are an encoder's.
    pub batch: Option<usize>,
    /// What binds.
    pub ceilings: Vec<Ceiling>,
    /// The ops.
    pub rows: Vec<OpTime>,
}

/// Sets the rows under the roofs of these ceilings.
pub fn under_the_roofs<'a>(rows: impl Iterator<Item = &'a mut OpTime>, ceilings: &[Ceiling]) {
    let roofs = Roofs::of(ceilings);
    for row in rows {
        if let Some(roof) = roofs.get(&row.column) {
            row.under(&roof);
        }
    }
}
