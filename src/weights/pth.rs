//! Checkpoints of PyTorch, as `torch.save` writes them, read without running anything.
//!
//! Such a file is a pickle, a program for a small machine that makes objects and may call any function,
//! and beside it the numbers of the tensors. Here the machine ([`pickle`]) makes nothing but inert
//! nodes: whatever the program asks to be called is written down and not called, and only the names that
//! files of weights need may be asked for at all ([`names`]). [`walk`] finds the tensors among the nodes,
//! [`element`] holds each against the numbers that are there, and [`zip`] and [`legacy`] are the two
//! forms of the file.
//!
//! | in the file | becomes |
//! | --- | --- |
//! | a dict, or the dict under its key `model`, `module`, `state_dict` or `weights` | tensors, names joined with dots |
//! | a whole module | its parameters, buffers and children |
//! | a number that is a field of a module | metadata under its dotted path |
//! | the class of the outermost module | metadata `module` |
//! | the key that was taken, or nothing | metadata `root` |
//! | anything else | left out |
//!
//! All that a file can ask for is bounded beforehand: see [`Bounds`].

mod bounds;
mod element;
mod graph;
mod legacy;
mod names;
mod pickle;
mod walk;
mod write;
mod zip;

pub use write::{PthTensor, write_pth};

use super::file::TensorFile;
use super::stored::StoredBytes;
use crate::error::{Error, Result};
use bounds::Bounds;
use std::io::Read;
use std::path::Path;

/// Bytes that tell a checkpoint from other files.
const PREFIX: u64 = 64;

/// True for the first bytes of a file that may be a checkpoint of either form.
pub(super) fn is_checkpoint(prefix: &[u8]) -> bool {
    zip::begins(prefix) || legacy::begins(prefix)
}

/// True for a file that may be a checkpoint of either form.
pub(super) fn is_at(path: &Path) -> bool {
    let mut prefix = Vec::new();
    let file = std::fs::File::open(path).map(|file| file.take(PREFIX));
    file.is_ok_and(|mut file| file.read_to_end(&mut prefix).is_ok()) && is_checkpoint(&prefix)
}

/// Opens and checks a checkpoint of either form.
pub(super) fn read(path: &Path) -> Result<TensorFile> {
    let stored = StoredBytes::open(path)?;
    let bounds = Bounds::of(stored.length());
    let prefix = stored.part(0..stored.length().min(PREFIX as usize))?;
    let found = match legacy::begins(&prefix) {
        true => legacy::tensors(&stored, bounds),
        false => zip::tensors(&stored, bounds),
    };
    let walk::Contents { tensors, metadata } = found.map_err(|text| Error::format(path, text))?;
    Ok(TensorFile { tensors, metadata, stored, base: 0, verified: false })
}

#[cfg(test)]
mod tests;
