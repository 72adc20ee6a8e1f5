//! The tensors of files under the original's names, of which only the shapes say how large a model is.

use super::names;
use crate::error::{Error, Result};
use crate::weights::TensorFile;
use std::path::Path;

/// What wrappers for several devices put before every name.
pub(super) const WRAPPED: &str = "module.";

/// The tensors of a model by name, those of a segmenter's encoder by their names in other models.
pub(super) struct TheirShapes<'a> {
    pub(super) path: &'a Path,
    pub(super) files: &'a [TensorFile],
}

impl TheirShapes<'_> {
    pub(super) fn get(&self, name: &str) -> Option<&[usize]> {
        let find = |file: &'_ TensorFile| {
            let names = ["", names::BACKBONE].map(|inside| format!("{inside}{name}"));
            let wrapped = names.clone().map(|name| format!("{WRAPPED}{name}"));
            names.into_iter().chain(wrapped).find(|name| file.tensors().contains_key(name))
        };
        self.files.iter().find_map(|file| Some(&file.tensors()[&find(file)?].shape[..]))
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    pub(super) fn axis(&self, name: &str, axis: usize) -> Result<usize> {
        let shape =
            self.get(name).ok_or_else(|| self.wrong(format!("tensor {name} is missing")))?;
        let text = || format!("tensor {name} has shape {shape:?}: too few axes");
        shape.get(axis).copied().ok_or_else(|| self.wrong(text()))
    }

    pub(super) fn wrong(&self, text: impl Into<String>) -> Error {
        Error::format(self.path, text)
    }
}
