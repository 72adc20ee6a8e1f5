//! What a report holds: the layout of `report.json`.

use crate::bench::Timing;
use crate::bench::ceilings::{Ceiling, Roofs};
use crate::bench::ops::{OpTime, under_the_roofs};
use crate::config::Preset;
use crate::error::Result;
use crate::models::config::{BeitConfig, DvaeConfig};
use serde::{Deserialize, Serialize};
use std::ops::Deref;

/// What the JSON file begins with; another number is another layout of the file.
pub const FORMAT: u32 = 1;

/// Everything that was measured: the content of `report.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BenchReport {
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

impl BenchReport {
    /// Sets what follows from the ceilings: shares of the roof, what binds, and MFU.
    pub(super) fn under_the_roofs(&mut self) {
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
    let preset = preset.parse::<Preset>()?;
    let (dvae, masked) = match preset {
        Preset::Tiny => (DvaeConfig::tiny(), 25),
        Preset::Small => (DvaeConfig::small(), 25),
        Preset::Base | Preset::Large => (DvaeConfig::dalle(), 75),
    };
    Ok((preset.beit(), dvae, masked))
}

/// A step of PyTorch.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Peer {
    /// Its version.
    pub version: String,
    /// Whether the model was compiled.
    pub compiled: bool,
    /// Preset.
    pub preset: String,
    /// Images.
    pub batch: usize,
    /// The column it is to be compared with.
    pub column: String,
    /// Runs.
    pub timing: Timing,
    /// The most memory: of the process on a CPU, of tensors on a GPU.
    pub peak_mib: f64,
}

/// What became of one figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeVerdict {
    /// The new interval lies below the old one.
    Faster,
    /// The intervals overlap.
    Same,
    /// The new interval lies above the old one.
    Slower,
    /// The error is above its bound and was not.
    Broken,
}

/// One figure in both reports.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Change {
    /// Which.
    pub what: String,
    /// Before.
    pub old: Timing,
    /// Now.
    pub new: Timing,
    /// What that means.
    pub verdict: ChangeVerdict,
}

impl Change {
    /// New time over old time.
    pub fn ratio(&self) -> f64 {
        self.new.median_s / self.old.median_s
    }

    /// Whether the report fails for it.
    pub fn fails(&self) -> bool {
        matches!(self.verdict, ChangeVerdict::Slower | ChangeVerdict::Broken)
    }
}
