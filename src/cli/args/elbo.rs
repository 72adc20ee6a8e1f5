//! Arguments of `elbo`.

use super::values::{rate, word};
use crate::config::Place;
use crate::data::pixels::Normalise;
use clap::Args;
use std::path::PathBuf;

/// Arguments of `elbo`.
#[derive(Args)]
pub struct ElboArgs {
    /// The tokenizer: a run folder or file, also another project's.
    #[arg(long, value_name = "RUN|FILE")]
    pub tokenizer: PathBuf,
    /// The encoder that was pretrained on its tokens.
    #[arg(long, value_name = "RUN|FILE")]
    pub model: PathBuf,
    /// Images.
    #[arg(long, value_name = "SRC")]
    pub data: String,
    /// Images to measure on, at most, spread over the source.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    pub images: u32,
    /// Codes drawn for each image.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1 << 16))]
    pub draws: u32,
    /// Masks that each image is shown under.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1 << 16))]
    pub masks: u32,
    /// Temperature of the relaxed codes [default: the one that the tokenizer's run ended with].
    #[arg(long, value_parser = rate)]
    pub temperature: Option<f64>,
    /// Seed of codes and masks.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Mean and deviation of the encoder's view [default: those of its pretraining].
    #[arg(long, value_parser = word::<Normalise>(Normalise::WORDS))]
    pub normalise: Option<Normalise>,
    /// Threads; 0 is one per core. Never changes a figure.
    #[arg(long, default_value_t = 0)]
    pub threads: usize,
    /// Where to compute: auto, cpu, cuda or cuda:N.
    #[arg(long, default_value = "auto")]
    pub device: Place,
    /// Every figure, and the terms of each image, as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Folder for summary.json, the same, and report.html.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}
