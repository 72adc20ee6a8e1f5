//! Everything that outlives the process: run folders, checkpoints, weights, metrics, progress.
//!
//! Three rules hold throughout. A file appears under its name complete or not at all
//! ([`write_atomic`]). Nothing older is removed before the newer one was read back and found good
//! ([`RunDir::save`]). Nothing non-finite is ever written as a weight. Files that come from outside
//! are read by [`TensorFile`], which believes nothing a header says before it was checked against
//! the length of the file.

mod atomic;
mod checkpoint;
mod events;
mod folder;
mod interrupt;
mod metrics;
mod model;
mod progress;
mod safetensors;

pub use atomic::{write_atomic, write_atomic_with};
pub use checkpoint::{Checkpoint, load_newest, write_checkpoint};
pub use folder::{Lock, Opened, RunDir, claim};
pub use interrupt::{install_interrupt, interrupted};
pub use metrics::{Curve, read_curves};
pub use model::{Model, ModelConfig, load_model, locate_model, save_model};
pub use progress::{Progress, note};
pub use safetensors::{Dtype, Slice, TensorFile, TensorInfo, View, encode, write_tensors};
