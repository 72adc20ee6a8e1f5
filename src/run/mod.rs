//! Everything of a run that outlives its process: run folders, checkpoints, metrics, progress.
//!
//! Three rules hold throughout. A file appears under its name complete or not at all
//! ([`write_atomic`]). Nothing older is removed before the newer one was read back and found good
//! ([`RunDir::save`]). Nothing non-finite is ever written as a weight. Files that come from outside
//! are read by [`TensorFile`](crate::weights::TensorFile), which believes nothing a header says before it was checked against
//! the length of the file.

mod changes;
mod checkpoint;
mod events;
mod folder;
mod interrupt;
mod mended;
mod metrics;
#[cfg(test)]
mod powerloss;

pub use crate::atomic::{PendingFile, write_atomic, write_atomic_with, write_json};
pub use crate::progress::{Progress, is_news, note, note_with_work, work_begins};
pub use checkpoint::{Checkpoint, load_newest, write_checkpoint};
pub use folder::{Begin, Lock, Opened, RunDir, claim, vacant};
pub use interrupt::{
    install_interrupt, interrupt_status, interrupted, not_interrupted, survive_file_limit,
};
pub use metrics::{Curve, read_curves};
