//! Settings of a run: what they are, where they come from, when two runs are the same.
//!
//! A run's settings are flat keys: some of its own, some that commands share ([`Common`], [`Recipe`]).
//! The struct, the table of keys with their legal values ([`Key`]) and the comments of `config.toml`
//! come from one declaration (`run_config!`), so that a key cannot be undocumented or unchecked.
//! Settings are laid over each other in the order
//! preset, `--config` file, `--set key=value`, dedicated flags ([`Layers`]); the outcome is what a
//! run folder stores and what `--resume` compares ([`same_run`]).

mod choice;
mod declare;
mod key;
mod layers;
mod other_names;
mod place;
mod pretrain;
mod probe;
mod resume;
mod shared;
mod tokenizer;

pub use choice::{PrecisionChoice, ProbeNormalise, Recon, RelPos};
pub use declare::RunConfig;
pub use key::{ImageSize, Key, Preset, Range};
pub use layers::{Layers, document};
pub(crate) use layers::{read_document, to_table};
pub use place::Place;
pub use pretrain::PretrainRun;
pub use probe::ProbeRun;
pub use resume::{FREE_KEYS, same_run};
pub use shared::{Common, Recipe, TrainConfig};
pub use tokenizer::TokenizerRun;

use declare::{run_config, shared_settings};
