//! Every op at a size worth timing, in every column, against the roof and against f64.

use super::columns::{Column, EachColumn};
use super::errors::{distance, longest_axis, of_op, worst};
use super::{Accuracy, Columns, OpRow, Plan};
use crate::backend::Backend;
use crate::bench::{FEWEST, Times};
use crate::case::{Case, Cost, Inputs, Io, Kind, Visitor};
use crate::cpu::Cpu;
use crate::error::{DeviceFault, Result};
use crate::real::Float;
use crate::rng::{Philox, Purpose};
use crate::run::note;
use half::bf16;
use rand_distr::{Distribution, StandardNormal};
use std::time::Instant;

/// The cases in the order of the report: all large ones, or the last check case of each op.
pub fn names(quick: bool) -> Vec<String> {
    struct Names(Vec<String>);
    impl Visitor for Names {
        fn visit<C: Case>(&mut self, case: C) {
            self.0.push(case.name());
        }
    }
    let mut names = Names(Vec::new());
    if !quick {
        crate::ops::visit_large_cases(&mut names);
        return names.0;
    }
    crate::ops::visit_cases(&mut names);
    let op = |name: &str| name.split('/').next().unwrap_or_default().to_string();
    let next = names.0.iter().skip(1).map(|name| op(name)).chain([String::new()]);
    let last = names.0.iter().zip(next).filter(|(name, next)| op(name) != *next);
    last.map(|(name, _)| name.clone()).collect()
}

/// All rows.
pub fn measure(plan: &Plan, columns: &Columns) -> Vec<OpRow> {
    let mut bench = Bench { plan, columns, done: 0, rows: Vec::new() };
    if plan.quick {
        crate::ops::visit_cases(&mut bench);
    } else {
        crate::ops::visit_large_cases(&mut bench);
    }
    bench.rows
}

struct Bench<'a> {
    plan: &'a Plan,
    columns: &'a Columns,
    done: usize,
    rows: Vec<OpRow>,
}

/// Tensors by name, widened.
type Tensors = Vec<(String, Vec<f64>)>;

/// Outputs and gradients of one run.
struct Results {
    outputs: Tensors,
    gradients: Tensors,
}

/// A case with inputs and upstream gradients that every precision holds exactly, and what f64 makes of
/// them.
struct Judged<'a, C> {
    case: &'a C,
    inputs: Inputs,
    upstream: Option<Vec<Vec<f64>>>,
    want: Results,
    cost: Cost,
    longest: f64,
}

fn rounded(x: f64) -> f64 {
    bf16::from_f64(x).to_f64()
}

fn run<B: Backend, C: Case>(
    bk: &B,
    case: &C,
    inputs: &Inputs,
    upstream: &Option<Vec<Vec<f64>>>,
) -> Results {
    let mut io = Io::new(bk, inputs);
    if let Some(upstream) = upstream {
        io = io.with_upstream(upstream.clone());
    }
    case.run(bk, &mut io);
    let outputs = std::mem::take(&mut io.outputs).into_iter().enumerate();
    let mut gradients: Tensors = std::mem::take(&mut io.grads).into_iter().collect();
    if upstream.is_some() {
        let g: Vec<f64> = io.g.to_host(bk).into_iter().map(Float::to_f64).collect();
        let of = |p: &crate::params::Param| (p.name.to_string(), g[p.range.clone()].to_vec());
        gradients.extend(io.g.layout.iter().map(of));
    }
    Results { outputs: outputs.map(|(i, y)| (format!("output {i}"), y)).collect(), gradients }
}

impl<'a, C: Case> Judged<'a, C> {
    fn new(case: &'a C) -> Self {
        let mut inputs = case.inputs();
        let tensors = inputs.tensors.iter_mut().filter(|t| t.kind != Kind::Ids);
        tensors.flat_map(|t| &mut t.values).for_each(|x| *x = rounded(*x));
        inputs.values.iter_mut().for_each(|x| *x = rounded(*x));
        let upstream = (!inputs.forward_only).then(|| {
            let outputs = run(&Cpu::<f32>::new(), case, &inputs, &None).outputs;
            let mut rng = Philox::new(0, Purpose::Bench, 2, 0);
            let mut draw = |_| -> f64 { rounded(StandardNormal.sample(&mut rng)) };
            outputs.iter().map(|(_, y)| (0..y.len()).map(&mut draw).collect()).collect()
        });
        let want = run(&Cpu::<f64>::new(), case, &inputs, &upstream);
        let (cost, longest) = (case.cost(), longest_axis(&inputs));
        Self { case, inputs, upstream, want, cost, longest }
    }

    /// Accuracy forward and backward.
    fn accuracy<B: Backend>(&self, bk: &B, bf16: bool) -> [Option<Accuracy>; 2] {
        let got = run(bk, self.case, &self.inputs, &self.upstream);
        let compare = |got: Tensors, want: &Tensors, backward: bool| {
            worst(got.into_iter().zip(want).map(|((name, got), (_, want))| Accuracy {
                error: distance(&got, want),
                allowed: of_op(&self.cost, backward, self.longest, want.len(), bf16),
                tensor: if backward { format!("gradient of {name}") } else { name },
            }))
        };
        [
            compare(got.outputs, &self.want.outputs, false),
            compare(got.gradients, &self.want.gradients, true),
        ]
    }

    /// Times forward and backward, for about `seconds` with all that is around them.
    fn times<B: Backend>(&self, bk: &B, seconds: f64) -> [Option<Times>; 2] {
        let (mut forward, mut backward) = (Vec::new(), Vec::new());
        let mut warm = false;
        let begin = Instant::now();
        while forward.len() < FEWEST || begin.elapsed().as_secs_f64() < seconds {
            let mut io = Io::new(bk, &self.inputs).without_results();
            if let Some(upstream) = &self.upstream {
                io = io.with_upstream(upstream.clone());
            }
            bk.synchronize();
            let start = Instant::now();
            self.case.run(bk, &mut io);
            bk.synchronize();
            let end = Instant::now();
            if !std::mem::replace(&mut warm, true) {
                continue;
            }
            let middle = io.forward_done.unwrap_or(end);
            forward.push((middle - io.forward_begun.unwrap_or(start)).as_secs_f64());
            let (from, to) = (io.backward_begun.unwrap_or(middle), io.backward_done.unwrap_or(end));
            backward.push((to - from).as_secs_f64());
        }
        [Some(Times::new(forward)), self.upstream.is_some().then(|| Times::new(backward))]
    }

    /// Mean bytes of a number of the inputs.
    fn size<B: Backend>(&self) -> f64 {
        let (elem, master) = (size_of::<B::Elem>(), size_of::<B::Master>());
        let of = |kind| match kind {
            Kind::Elem => elem,
            Kind::Master => master,
            Kind::Ids => size_of::<u32>(),
        };
        let tensors = self.inputs.tensors.iter().map(|t| (t.values.len(), of(t.kind)));
        let all: Vec<_> = tensors.chain([(self.inputs.values.len(), elem)]).collect();
        let numbers = all.iter().map(|(n, _)| n).sum::<usize>();
        all.iter().map(|(n, size)| n * size).sum::<usize>() as f64 / numbers.max(1) as f64
    }
}

struct InColumn<'a, 'b, C> {
    judged: &'a Judged<'a, C>,
    bench: &'a mut Bench<'b>,
}

impl<C: Case> EachColumn for InColumn<'_, '_, C> {
    fn on<B: Backend>(&mut self, column: &Column, bk: &B) -> Result<()> {
        let (judged, cost) = (self.judged, &self.judged.cost);
        let seconds = if self.bench.plan.quick { 0.0 } else { 1.0 };
        let times = if column.timed { judged.times(bk, seconds) } else { [None, None] };
        let size = judged.size::<B>();
        let work = [
            ("forward", cost.flops_forward, cost.elements_forward),
            ("backward", cost.flops_backward, cost.elements_backward),
        ];
        let accuracy = judged.accuracy(bk, column.bf16);
        for (((direction, flops, elements), accuracy), times) in
            work.into_iter().zip(accuracy).zip(times)
        {
            let Some(accuracy) = accuracy else { continue };
            let bytes = size * elements;
            let timing = times.map(|t| t.timing());
            self.bench.rows.push(OpRow {
                case: judged.case.name(),
                direction: direction.into(),
                column: column.name.into(),
                flops,
                bytes,
                timing,
                of_roof: None,
                bound: None,
                accuracy,
            });
        }
        Ok(())
    }
}

impl Visitor for Bench<'_> {
    fn visit<C: Case>(&mut self, case: C) {
        let name = case.name();
        if !self.plan.ops.contains(&name) {
            return;
        }
        self.done += 1;
        note(&format!("op {} of {}: {name}", self.done, self.plan.ops.len()));
        let judged = Judged::new(&case);
        let columns = self.columns;
        // The devices were opened before; one that fails now fails inside an op.
        let done = columns.each(&mut InColumn { judged: &judged, bench: self });
        done.unwrap_or_else(|e| DeviceFault { text: e.to_string() }.panic());
    }
}
