//! Arguments of `ablate`.

use super::values::word;
use crate::config::Place;
use crate::train::ablate::AblationMeasure;
use clap::Args;
use std::path::PathBuf;

/// Arguments of `ablate`.
#[derive(Args)]
pub struct AblateArgs {
    /// Images to pretrain on: a folder, a CIFAR-10/100 binary file or folder, or synthetic[:COUNT].
    #[arg(long, value_name = "SRC")]
    pub data: String,
    /// Labelled images to fine-tune or probe on [default: --data].
    #[arg(long, value_name = "SRC")]
    pub train: Option<String>,
    /// Labelled images to measure on.
    #[arg(long, value_name = "SRC")]
    pub test: String,
    /// The tokenizer of all rows [default: one that is trained on --data first].
    #[arg(long, value_name = "RUN|FILE")]
    pub tokenizer: Option<String>,
    /// Rows of the table, by name, in commas [default: all]; an unknown one lists them.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub rows: Vec<String>,
    /// Runs of each row, with seeds from 0.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub seeds: u64,
    /// What a row is measured by: finetune or probe.
    #[arg(long, default_value = "finetune", value_parser = word::<AblationMeasure>(AblationMeasure::WORDS))]
    pub measure: AblationMeasure,
    /// Sizes and starting values of all runs: tiny, small, base or large.
    #[arg(long, default_value = "tiny")]
    pub preset: String,
    /// Optimizer steps of each pretraining [default: the preset's].
    #[arg(long)]
    pub steps: Option<i64>,
    /// Optimizer steps of each fine-tuning [default: the preset's].
    #[arg(long)]
    pub finetune_steps: Option<i64>,
    /// A setting of every pretraining; may be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// A setting of every fine-tuning, or of every probe with --measure probe; may be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    pub measure_set: Vec<String>,
    /// Threads; 0 is one per core. Never changes a result.
    #[arg(long, default_value_t = 0)]
    pub threads: usize,
    /// Where to compute: auto, cpu, cuda or cuda:N.
    #[arg(long, default_value = "auto")]
    pub device: Place,
    /// Folder of all runs, with report.html and ablation.json. What is finished there is not run again.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
}
