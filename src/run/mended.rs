//! Logs that somebody or something has damaged: what is whole in them stays.

use crate::atomic::layer::Growing;
use crate::atomic::write_atomic;
use crate::error::Result;
use std::path::PathBuf;

/// What of a log is whole and belongs to a run's steps so far.
pub(super) struct Whole {
    /// The bytes that stay.
    pub(super) bytes: Vec<u8>,
    /// Lines or records that cannot be read.
    pub(super) damaged: usize,
}

/// Opens a log that was `length` bytes long, and leaves in it what `keep` keeps.
pub(super) fn mended(
    path: PathBuf,
    length: u64,
    keep: impl Fn(&[u8]) -> Whole,
    note: &mut impl FnMut(String),
) -> Result<Growing> {
    let mut log = Growing::open(path)?;
    let found = log.content()?;
    let kept = keep(&found);
    let rest = kept.bytes.len() as u64;
    if rest < length || kept.damaged > 0 {
        note(format!(
            "{}: damaged or shortened since the checkpoint ({rest} of {length} bytes are kept, {} damaged \
             entries); what is missing is missing in curves alone, the run goes on",
            log.path().display(),
            kept.damaged
        ));
    }
    if found.starts_with(&kept.bytes) {
        log.cut(rest)?;
        return Ok(log);
    }
    write_atomic(log.path(), &kept.bytes)?;
    Growing::open(log.path().to_path_buf())
}
