//! Every op at a size worth timing, in every column, against the roof and against f64.

use super::content::{Accuracy, OpRow, Plan};
use super::errors::{distance, longest_axis, of_op, worst};
use crate::bench::FEWEST;
use crate::bench::columns::{Column, Columns, EachColumn};
use crate::bench::ops::{Effort, OpBench};
use crate::cpu::Cpu;
use crate::error::{DeviceFault, Result};
use crate::ops::Backend;
use crate::ops::case::{Case, Visitor};
use crate::real::Float;
use crate::run::note;

/// The cases in the order of the report: all large ones, or the last check case of each op.
pub fn names(quick: bool) -> Vec<String> {
    struct Names(Vec<String>);
    impl Visitor for Names {
        fn visit<C: Case>(&mut self, case: C) {
            // What lies far beyond a constant is for the checks.
            if !case.large() {
                self.0.push(case.name());
            }
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
    let mut bench = OpRows { plan, columns, done: 0, rows: Vec::new() };
    if plan.quick {
        crate::ops::visit_cases(&mut bench);
    } else {
        crate::ops::visit_large_cases(&mut bench);
    }
    bench.rows
}

struct OpRows<'a> {
    plan: &'a Plan,
    columns: &'a Columns,
    done: usize,
    rows: Vec<OpRow>,
}

/// Tensors by name, widened.
type Tensors = Vec<(String, Vec<f64>)>;

/// A case with what f64 makes of its numbers: outputs and gradients.
struct JudgedCase<'a, C> {
    case: &'a C,
    op: OpBench,
    want: [Tensors; 2],
    longest: f64,
}

impl<'a, C: Case> JudgedCase<'a, C> {
    fn new(case: &'a C) -> Self {
        let op = OpBench::new(&Cpu::<f32>::new(), case);
        let longest = longest_axis(&op.inputs);
        let mut judged = Self { case, op, want: [Vec::new(), Vec::new()], longest };
        judged.want = judged.results(&Cpu::<f64>::new());
        judged
    }

    /// Outputs and gradients of one run.
    fn results<B: Backend>(&self, bk: &B) -> [Tensors; 2] {
        let mut io = self.op.io(bk);
        self.case.run(bk, &mut io);
        let outputs = std::mem::take(&mut io.outputs).into_iter().enumerate();
        let mut gradients: Tensors = std::mem::take(&mut io.grads).into_iter().collect();
        if self.op.upstream.is_some() {
            let g: Vec<f64> = io.g.to_host(bk).into_iter().map(Float::to_f64).collect();
            let of = |p: &crate::params::Param| (p.name.to_string(), g[p.range.clone()].to_vec());
            gradients.extend(io.g.layout.iter().map(of));
        }
        [outputs.map(|(i, y)| (format!("output {i}"), y)).collect(), gradients]
    }

    /// Accuracy forward and backward.
    fn accuracy<B: Backend>(&self, bk: &B, bf16: bool) -> [Option<Accuracy>; 2] {
        let [outputs, gradients] = self.results(bk);
        let compare = |got: Tensors, want: &Tensors, backward: bool| {
            worst(got.into_iter().zip(want).map(|((name, got), (_, want))| Accuracy {
                error: distance(&got, want),
                allowed: of_op(&self.op.cost, backward, self.longest, want.len(), bf16),
                tensor: if backward { format!("gradient of {name}") } else { name },
            }))
        };
        [compare(outputs, &self.want[0], false), compare(gradients, &self.want[1], true)]
    }
}

struct OpInColumn<'a, 'b, C> {
    judged: &'a JudgedCase<'a, C>,
    bench: &'a mut OpRows<'b>,
}

impl<C: Case> EachColumn for OpInColumn<'_, '_, C> {
    fn on<B: Backend>(&mut self, column: &Column, bk: &B) -> Result<()> {
        let JudgedCase { case, op, .. } = self.judged;
        let runs = if column.timed { FEWEST } else { 0 };
        let seconds = if column.timed && !self.bench.plan.quick { 1.0 } else { 0.0 };
        let times = op.measure(bk, column, Effort { runs, seconds }, |io| case.run(bk, io));
        let accuracy = self.judged.accuracy(bk, column.bf16);
        let rows = times.into_iter().zip(accuracy);
        self.bench.rows.extend(rows.filter_map(|(time, a)| Some(OpRow { time, accuracy: a? })));
        Ok(())
    }
}

impl Visitor for OpRows<'_> {
    fn visit<C: Case>(&mut self, case: C) {
        let name = case.name();
        if !self.plan.ops.contains(&name) {
            return;
        }
        self.done += 1;
        note(&format!("op {} of {}: {name}", self.done, self.plan.ops.len()));
        let judged = JudgedCase::new(&case);
        let columns = self.columns;
        // The devices were opened before; one that fails now fails inside an op.
        let done = columns.each(&mut OpInColumn { judged: &judged, bench: self });
        done.unwrap_or_else(|e| DeviceFault { text: e.to_string() }.panic());
    }
}
