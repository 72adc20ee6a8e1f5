//! Arguments of `bench`.

use super::values::{cpu_or_gpu, rate, word};
use crate::config::{Place, PrecisionChoice};
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// The kinds of timing.
#[derive(Subcommand)]
pub enum BenchCommand {
    /// Every case of ops, layers and models, or the ops at the sizes of an encoder, forward and backward
    /// apart, against a matrix product and a pass over memory.
    #[command(
        after_help = "Examples:\n  beit bench ops attention\n  beit bench ops --device cuda --preset \
                            base --batch 256"
    )]
    Ops(OpsArgs),
    /// Whole pretraining steps on data in memory.
    #[command(after_help = "Example:\n  beit bench step --preset base --batch 8")]
    Step(StepArgs),
    /// Ceilings, ops, training steps, scaling and batch sizes as JSON, Markdown and HTML. About 4 minutes.
    #[command(
        after_help = "Examples:\n  beit bench report --out runs/report\n  beit bench report --out \
                            runs/new --against runs/report/report.json\n\nDIR gets report.json, report.md \
                            and report.html, which opens in any browser and needs no network. With \
                            --against the status is 1 where a figure's new interval lies wholly above \
                            its old one, or where an error is above its bound that was not."
    )]
    Report(ReportArgs),
    /// Images per second of each stage of the data pipeline, and how many cores a device needs.
    #[command(after_help = "Example:\n  beit bench data --data photos/ --rate 2500")]
    Data {
        /// Images.
        #[arg(long, value_name = "SRC")]
        data: String,
        /// Views of this preset.
        #[arg(long, default_value = "base")]
        preset: String,
        /// Images per second that a device trains on (`beit bench step` measures it).
        #[arg(long, value_name = "IMAGES/S", value_parser = rate)]
        rate: Option<f64>,
        /// Results as JSON.
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
    },
}

/// Arguments of `bench ops`.
#[derive(Args)]
pub struct OpsArgs {
    /// Only cases whose name contains this.
    pub filter: Option<String>,
    /// The ops at the sizes of this encoder: tiny, small, base or large.
    #[arg(long, requires = "batch")]
    pub preset: Option<String>,
    /// Images, with --preset.
    #[arg(long, requires = "preset", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub batch: Option<u32>,
    /// Where to compute: cpu, cuda or cuda:N.
    #[arg(long, default_value = "cpu", value_parser = cpu_or_gpu)]
    pub device: Place,
    /// On a GPU: bf16 or f32.
    #[arg(long, default_value = "auto", value_parser = word::<PrecisionChoice>(PrecisionChoice::WORDS))]
    pub precision: PrecisionChoice,
    /// Results as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// Arguments of `bench step`.
#[derive(Args)]
pub struct StepArgs {
    /// tiny, small, base or large.
    #[arg(long, default_value = "tiny")]
    pub preset: String,
    /// Images of a step.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub batch: u32,
    /// Timed steps; two more warm up.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub steps: u32,
    /// Threads; 0 is one per core.
    #[arg(long, default_value_t = 0)]
    pub threads: usize,
    /// Compute each block again in backward, for less memory.
    #[arg(long)]
    pub recompute: bool,
    /// Also turn the images into tokens in every step, with the preset's tokenizer.
    #[arg(long)]
    pub tokenizer: bool,
    /// Where to compute: cpu, cuda or cuda:N.
    #[arg(long, default_value = "cpu", value_parser = cpu_or_gpu)]
    pub device: Place,
    /// On a GPU: bf16 or f32.
    #[arg(long, default_value = "auto", value_parser = word::<PrecisionChoice>(PrecisionChoice::WORDS))]
    pub precision: PrecisionChoice,
    /// Results as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// Arguments of `bench report`.
#[derive(Args)]
pub struct ReportArgs {
    /// A new or empty folder.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// An earlier report.json of this machine: show what changed, and fail where something is slower.
    #[arg(long, value_name = "OLD.json")]
    pub against: Option<PathBuf>,
    /// Lines that benches/peers/torch_step.py printed on this machine, to be shown beside our steps.
    #[arg(long, value_name = "FILE")]
    pub peer: Option<PathBuf>,
    /// Small shapes and few runs: seconds instead of minutes, to see that everything works.
    #[arg(long)]
    pub quick: bool,
    /// Whether to measure a GPU too, and which: auto, cpu, cuda or cuda:N. auto does where one can be used.
    #[arg(long, default_value = "auto")]
    pub device: Place,
}
