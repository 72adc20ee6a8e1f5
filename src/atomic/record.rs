//! What was done to files, for tests that lose power between two operations.

use std::cell::RefCell;
use std::path::PathBuf;

/// An operation on a file or a folder.
#[derive(Clone, Debug)]
pub(crate) enum FileOp {
    MakeFolder(PathBuf),
    /// Nothing where the file is there already.
    Create(PathBuf),
    /// At the end of the file.
    Write(PathBuf, Vec<u8>),
    Cut(PathBuf, u64),
    Sync(PathBuf),
    SyncFolder(PathBuf),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
    /// No operation: from here on the caller relies on this step being saved.
    Saved(u64),
    /// No operation: from here on the caller relies on the run being finished.
    Finished,
}

thread_local! {
    static RECORD: RefCell<Vec<FileOp>> = const { RefCell::new(Vec::new()) };
}

/// Adds to the record of this thread.
pub(crate) fn done(op: FileOp) {
    RECORD.with_borrow_mut(|record| record.push(op));
}

/// The record of this thread since the last call.
pub(crate) fn take() -> Vec<FileOp> {
    RECORD.take()
}
