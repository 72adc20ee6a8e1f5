//! `beit bench ops`: every case timed, forward and backward apart.

use crate::bench::Times;
use crate::cpu::Cpu;
use crate::ops::case::{Case, Io, Visitor};
use serde::Serialize;
use std::time::Instant;

/// One row.
#[derive(Clone, Debug, Serialize)]
pub struct OpTime {
    /// Name of the case.
    pub case: String,
    /// Median forward time in microseconds.
    pub forward_us: f64,
    /// Median backward time in microseconds; 0 where the case has none.
    pub backward_us: f64,
    /// Shortest and longest forward time.
    pub forward_range_us: [f64; 2],
    /// GFLOP/s forward.
    pub forward_gflops: f64,
    /// GFLOP/s backward.
    pub backward_gflops: f64,
    /// GB/s that the forward pass must at least move.
    pub forward_gbps: f64,
    /// Timed runs.
    pub count: usize,
}

/// Times cases whose name contains a filter, in f32 on the CPU.
pub struct OpBench {
    /// Only cases whose name contains this.
    pub filter: Option<String>,
    /// Seconds spent on a case.
    pub budget: f64,
    /// Called with each row.
    pub rows: Vec<OpTime>,
}

impl Visitor for OpBench {
    fn visit<C: Case>(&mut self, case: C) {
        let name = case.name();
        if self.filter.as_ref().is_some_and(|f| !name.contains(f.as_str())) {
            return;
        }
        let bk = Cpu::<f32>::new();
        let inputs = case.inputs();
        let mut io = Io::new(&bk, &inputs);
        case.run(&bk, &mut io);
        let upstream: Vec<_> = io.outputs.iter().map(|y| vec![0.5; y.len()]).collect();
        let (mut forward, mut backward) = (Vec::new(), Vec::new());
        let begin = Instant::now();
        while forward.len() < 5 || begin.elapsed().as_secs_f64() < self.budget {
            let mut io = Io::new(&bk, &inputs).with_upstream(upstream.clone()).without_results();
            let start = Instant::now();
            case.run(&bk, &mut io);
            let end = Instant::now();
            let middle = io.forward_done.unwrap_or(end);
            forward.push((middle - start).as_secs_f64());
            backward.push((end - middle).as_secs_f64());
        }
        let (f, b, cost) = (Times::new(forward), Times::new(backward), case.cost());
        self.rows.push(OpTime {
            case: name,
            forward_us: 1e6 * f.median(),
            backward_us: 1e6 * b.median(),
            forward_range_us: [1e6 * f.min(), 1e6 * f.max()],
            forward_gflops: 1e-9 * cost.flops_forward / f.median(),
            backward_gflops: 1e-9 * cost.flops_backward / b.median(),
            forward_gbps: 4e-9 * cost.elements_forward / f.median(),
            count: f.count(),
        });
    }
}

/// Times every case of ops, layers and models that matches.
pub fn run(filter: Option<&str>, budget: f64) -> Vec<OpTime> {
    let mut bench = OpBench { filter: filter.map(Into::into), budget, rows: Vec::new() };
    crate::ops::visit_cases(&mut bench);
    crate::layers::visit_cases(&mut bench);
    crate::models::visit_cases(&mut bench);
    bench.rows
}
