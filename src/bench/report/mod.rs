//! `beit bench report`: one run that measures what the machine can do, then what this program makes of
//! it, op by op and step by step, and says so in JSON, Markdown and HTML.
//!
//! Ceilings come first, because every other figure is read against them: a time alone says nothing on
//! another machine. The ops are the large cases of [`crate::ops`] and the steps those of
//! [`crate::bench::step`], so that a new op is in the report without further code. Beside each time
//! stands the error against f64 on the same inputs, and a time whose error is above its bound
//! ([`errors`]) is struck out: a wrong result has no speed.
//!
//! [`measure`] fills a [`BenchReport`], which is the JSON file; [`page`] makes the other two forms of it;
//! [`against`] compares it with an earlier one.

pub mod against;
mod charts;
mod content;
pub mod errors;
pub mod memory;
mod ops;
mod page;
pub mod peer;
mod steps;
pub(crate) mod tables;

pub use content::{
    Accuracy, BenchReport, Change, ChangeVerdict, FORMAT, Machine, OpRow, Peer, Plan, ScalingRow,
    Section, StepRow, SweepRow, sizes,
};
pub use page::page;

use crate::bench::ceilings;
use crate::bench::columns::Columns;
use crate::bench::{machine_seconds, processor_seconds};
use crate::cpu::simd::{Level, level};
use crate::error::Result;
use std::time::Instant;

impl Machine {
    /// This machine.
    pub fn this(columns: &Columns) -> Self {
        let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = info.lines().find_map(|l| l.strip_prefix("model name")?.split_once(':'));
        Self {
            cpu: model.map_or("unknown processor", |(_, name)| name.trim()).into(),
            threads: rayon::current_num_threads(),
            vectors: match level() {
                Level::Avx512 => "AVX-512",
                Level::Avx2 => "AVX2",
                Level::Baseline => "those that every such processor has",
            }
            .into(),
            system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            device: columns.device(),
            emulated: columns.emulated(),
            no_device: columns.why_none().map(Into::into),
        }
    }
}

impl Plan {
    /// The usual plan, or the quick one, which shows that everything works and little more.
    pub fn new(quick: bool, columns: &Columns) -> Self {
        let pairs = |all: &[(&str, usize)]| all.iter().map(|&(p, b)| (p.into(), b)).collect();
        let all = rayon::current_num_threads();
        let mut threads: Vec<usize> =
            std::iter::successors(Some(1), |n| Some(2 * n)).take_while(|n| *n < all).collect();
        threads.push(all);
        Self {
            quick,
            columns: columns.names(),
            ops: ops::names(quick),
            steps: pairs(match quick {
                true => &[("tiny", 2)],
                false => &[("tiny", 32), ("small", 32), ("base", 2)],
            }),
            count: if quick { 3 } else { 8 },
            scaled: pairs(match quick {
                true => &[("tiny", 2)],
                false => &[("tiny", 32), ("small", 32)],
            }),
            threads,
            swept: "tiny".into(),
            batches: if quick { vec![1, 2] } else { vec![1, 2, 4, 8, 16, 32, 64] },
        }
    }
}

/// Measures everything that `plan` names and says on standard error how far it is. Peers and an earlier
/// report were checked before.
pub fn measure(
    plan: Plan,
    columns: &Columns,
    peers: Vec<Peer>,
    old: Option<&BenchReport>,
) -> Result<BenchReport> {
    let start = Instant::now();
    // What all programs used but this one.
    let others = || Some(machine_seconds()? - processor_seconds()?);
    let before = others();
    let machine = Machine::this(columns);
    let measured = || -> Result<_> {
        let mut runs = ceilings::of_all_threads(plan.quick);
        runs.extend(columns.ceilings_of_gpu()?);
        Ok(runs)
    };
    let mut runs = measured()?;
    let ops = ops::measure(&plan, columns);
    let steps = steps::measure(&plan, columns)?;
    let scaling = steps::scaling(&plan)?;
    let sweep = steps::sweep(&plan, columns)?;
    runs.extend(measured()?);
    let ceilings = ceilings::of(runs);
    let seconds = start.elapsed().as_secs_f64();
    let other_programs =
        before.zip(others()).map(|(before, after)| ((after - before) / seconds).max(0.0));
    let mut report = BenchReport {
        format: FORMAT,
        beit: env!("CARGO_PKG_VERSION").into(),
        machine,
        plan,
        ceilings,
        ops,
        steps,
        scaling,
        sweep,
        peers,
        changes: Vec::new(),
        seconds,
        other_programs,
    };
    report.under_the_roofs();
    if let Some(old) = old {
        report.changes = against::changes(old, &report);
    }
    Ok(report)
}
