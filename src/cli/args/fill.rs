//! Arguments of `fill`.

use crate::config::Place;
use clap::Args;
use std::path::PathBuf;

/// Arguments of `fill`.
#[derive(Args)]
pub struct FillArgs {
    /// The language model: a run folder or file.
    #[arg(long, value_name = "RUN|FILE")]
    pub model: PathBuf,
    /// The text with a mark for each hidden byte; at most as many bytes as the model sees at once. Several words are
    /// joined by spaces.
    #[arg(value_name = "TEXT", required = true)]
    pub text: Vec<String>,
    /// What stands for one hidden byte.
    #[arg(long, value_name = "MARK", default_value = "_")]
    pub mark: String,
    /// Bytes that are named for each hidden place, the most probable first.
    #[arg(long, value_name = "K", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub top: u16,
    /// Threads; 0 is one per core. Never changes a result.
    #[arg(long, default_value_t = 0)]
    pub threads: usize,
    /// Where to compute: auto, cpu, cuda or cuda:N.
    #[arg(long, default_value = "auto")]
    pub device: Place,
}
