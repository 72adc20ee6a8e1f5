//! Settings of a run: what they are, where they come from, when two runs are the same.
//!
//! A run's settings are flat keys: some of its own, some that commands share ([`Common`], [`Recipe`]).
//! The struct, the table of keys with their legal values ([`Key`]) and the comments of `config.toml`
//! come from one declaration (`run_config!`), so that a key cannot be undocumented or unchecked.
//! Settings are laid over each other in the order
//! preset, `--config` file, `--set key=value`, dedicated flags ([`Layers`]); the outcome is what a
//! run folder stores and what `--resume` compares ([`same_run`]).

mod bert;
mod choice;
mod declare;
mod dino;
mod finetune;
mod key;
mod layers;
mod moco;
mod other_names;
mod place;
mod pretrain;
mod probe;
mod resume;
mod segment;
mod shared;
mod tokenizer;
mod vae;

pub use bert::BertRun;
pub use choice::{
    DiskFull, Freeze, LossDivisor, LossOver, PrecisionChoice, PretrainTarget, Recon, RelPos,
    Replace, TokenizerKind, ViewNormalise,
};
pub use declare::RunConfig;
pub use dino::DinoRun;
pub use finetune::FinetuneRun;
pub use key::{ImageSize, Key, Preset, Range};
pub(crate) use layers::to_table;
pub use layers::{Layers, document};
pub use moco::MocoRun;
pub use place::Place;
pub use pretrain::PretrainRun;
pub use probe::ProbeRun;
pub use resume::{Changed, FREE_KEYS, same_run};
pub(crate) use resume::{saved_settings, words};
pub use segment::SegmentRun;
pub use shared::{Coding, Common, Crops, Downstream, EncoderSizes, Recipe, TrainConfig};
pub use tokenizer::TokenizerRun;
pub use vae::VaeRun;

/// Version of the format of run folders: of their settings, of the state in their checkpoints and of their
/// summaries. Files that say none are of version 1.
pub const FORMAT: i64 = 2;

use declare::{run_config, shared_settings};
