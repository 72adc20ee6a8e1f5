//! `beit bench report`: one run that measures what the machine can do, then what this program makes of
//! it, op by op and step by step, and says so in JSON, Markdown and HTML.
//!
//! Ceilings come first, because every other figure is read against them: a time alone says nothing on
//! another machine. The ops are the large cases of [`crate::ops`] and the steps those of
//! [`crate::bench::step`], so that a new op is in the report without further code. Beside each time
//! stands the error against f64 on the same inputs, and a time whose error is above its bound
//! ([`errors`]) is struck out: a wrong result has no speed.
//!
//! [`measure`] fills a [`Report`], which is the JSON file; [`page`] makes the other two forms of it;
//! [`against`] compares it with an earlier one.

pub mod against;
mod charts;
pub mod errors;
pub mod memory;
mod ops;
mod page;
pub mod peer;
mod steps;
pub(crate) mod tables;

pub use page::page;

use crate::bench::ceilings::{self, Ceiling, Roofs};
use crate::bench::columns::Columns;
use crate::bench::ops::{OpTime, under_the_roofs};
use crate::bench::{Timing, machine_seconds, processor_seconds};
use crate::config::Preset;
use crate::cpu::simd::{Level, level};
use crate::error::Result;
use crate::models::config::{BeitConfig, DvaeConfig};
use against::Change;
use peer::Peer;
use serde::{Deserialize, Serialize};
use std::ops::Deref;
use std::time::Instant;

/// What the JSON file begins with; another number is another layout of the file.
pub const FORMAT: u32 = 1;

/// Everything that was measured: the content of `report.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// [`FORMAT`].
    pub format: u32,
    /// Version of this program.
    pub beit: String,
    /// Where it ran.
    pub machine: Machine,
    /// What was measured.
    pub plan: Plan,
    /// What the machine reaches on plain products and passes over memory.
    pub ceilings: Vec<Ceiling>,
    /// Ops, forward and backward apart.
    pub ops: Vec<OpRow>,
    /// Training steps.
    pub steps: Vec<StepRow>,
    /// The same work on other numbers of threads.
    pub scaling: Vec<ScalingRow>,
    /// Steps at other batch sizes.
    pub sweep: Vec<SweepRow>,
    /// PyTorch's steps, where a file was given.
    pub peers: Vec<Peer>,
    /// Differences from an earlier report, where one was given.
    pub changes: Vec<Change>,
    /// How long it all took.
    pub seconds: f64,
    /// Cores that other programs used meanwhile, on average, where the system tells it.
    pub other_programs: Option<f64>,
}

impl Report {
    /// Sets what follows from the ceilings: shares of the roof, what binds, and MFU.
    fn under_the_roofs(&mut self) {
        under_the_roofs(self.ops.iter_mut().map(|row| &mut row.time), &self.ceilings);
        let roofs = Roofs::of(&self.ceilings);
        for row in &mut self.steps {
            let peak = roofs.get(&row.column).map(|roof| 1e9 * roof.compute);
            let timing = row.timing.as_ref().zip(peak);
            row.mfu = timing.map(|(t, peak)| row.flops / t.median_s / peak);
        }
    }
}

/// A machine, as far as times depend on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Model of the processor.
    pub cpu: String,
    /// Threads that worked.
    pub threads: usize,
    /// Widest vector instructions that are used.
    pub vectors: String,
    /// Operating system and architecture.
    pub system: String,
    /// The GPU, where there is one.
    pub device: Option<String>,
    /// Whether the GPU is the stand-in of the tests, whose times mean nothing and are left out.
    pub emulated: bool,
    /// Why there is no GPU.
    pub no_device: Option<String>,
}

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

/// What is measured; known before anything is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Small shapes and few runs.
    pub quick: bool,
    /// Columns, `CPU f32` first.
    pub columns: Vec<String>,
    /// Names of the cases, which hold their sizes.
    pub ops: Vec<String>,
    /// Preset and batch of the training steps.
    pub steps: Vec<(String, usize)>,
    /// Timed steps of each.
    pub count: usize,
    /// Preset and batch of the steps on several numbers of threads.
    pub scaled: Vec<(String, usize)>,
    /// Numbers of threads.
    pub threads: Vec<usize>,
    /// Preset of the steps at several batch sizes.
    pub swept: String,
    /// Batch sizes.
    pub batches: Vec<usize>,
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

/// How far results are from f64 on the same inputs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Accuracy {
    /// Largest error of the tensor that uses most of its bound, relative to its largest number.
    pub error: f64,
    /// What it may be.
    pub allowed: f64,
    /// The tensor.
    pub tensor: String,
}

impl Accuracy {
    /// Whether times may be shown. NaN is no result.
    pub fn holds(&self) -> bool {
        self.error <= self.allowed
    }
}

/// A row of the ops: a time, as which it can be read, and how good the result was.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OpRow {
    /// The op, its work and its time.
    #[serde(flatten)]
    pub time: OpTime,
    /// Distance from f64.
    pub accuracy: Accuracy,
}

impl Deref for OpRow {
    type Target = OpTime;

    fn deref(&self) -> &OpTime {
        &self.time
    }
}

/// Part of a step.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Section {
    /// Its name.
    pub name: String,
    /// Runs.
    pub timing: Timing,
}

/// A training step in one column.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StepRow {
    /// Sizes.
    pub preset: String,
    /// Images.
    pub batch: usize,
    /// Where and in which precision.
    pub column: String,
    /// Trainable numbers.
    pub params: usize,
    /// Operations of the matrix products of forward and backward.
    pub flops: f64,
    /// From images on the host to updated weights; without data and tokenizer.
    pub timing: Option<Timing>,
    /// Data, tokenizer, and the parts of the step.
    pub sections: Vec<Section>,
    /// Share of the best matrix-product rate in the median step (model FLOPs utilisation).
    pub mfu: Option<f64>,
    /// Bytes of tensors, from the sizes alone.
    pub predicted_bytes: f64,
    /// The most bytes that tensors held.
    pub measured_bytes: Option<f64>,
    /// Loss of the first step.
    pub loss: f64,
    /// The loss and all gradients of the first step against f64.
    pub accuracy: Accuracy,
}

impl StepRow {
    /// Preset, batch and column in words.
    pub fn label(&self) -> String {
        format!("{} at {}, {}", self.preset, self.batch, self.column)
    }
}

/// The same work on a number of threads of the CPU.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ScalingRow {
    /// Preset.
    pub preset: String,
    /// Images.
    pub batch: usize,
    /// Threads.
    pub threads: usize,
    /// Runs.
    pub timing: Timing,
}

/// Steps at one batch size.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SweepRow {
    /// Preset.
    pub preset: String,
    /// Images.
    pub batch: usize,
    /// Where and in which precision.
    pub column: String,
    /// Runs.
    pub timing: Timing,
}

/// Encoder, tokenizer and hidden patches of an image of a preset.
pub fn sizes(preset: &str) -> Result<(BeitConfig, DvaeConfig, usize)> {
    Ok(match preset.parse::<Preset>()? {
        Preset::Tiny => (BeitConfig::tiny(), DvaeConfig::tiny(), 25),
        Preset::Small => (BeitConfig::small(), DvaeConfig::small(), 25),
        Preset::Base => (BeitConfig::base_patch16_224(), DvaeConfig::dalle(), 75),
        Preset::Large => (BeitConfig::large_patch16_224(), DvaeConfig::dalle(), 75),
    })
}

/// Measures everything that `plan` names and says on standard error how far it is. Peers and an earlier
/// report were checked before.
pub fn measure(
    plan: Plan,
    columns: &Columns,
    peers: Vec<Peer>,
    old: Option<&Report>,
) -> Result<Report> {
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
    let mut report = Report {
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
