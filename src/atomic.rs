//! Files that appear complete or not at all, whatever happens in between.
//!
//! Temporary file in the same folder, sync, rename, sync of the folder: after a crash the name
//! leads to the old content or to the new, and after the call returns it leads to the new.

pub(crate) mod layer;
#[cfg(test)]
pub(crate) mod record;

use crate::error::{Error, Result};
use layer::{PREFIX, RANDOM, SUFFIX, Temporary};
use std::fs::DirEntry;
use std::io::{BufWriter, Write};
use std::path::Path;

/// Writes `bytes` to `path`, replacing what was there in one step.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    write_atomic_with(path, |file| file.write_all(bytes))
}

/// Like [`write_atomic`] for content that is produced while it is written.
pub fn write_atomic_with(
    path: &Path,
    content: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
) -> Result<()> {
    if path.is_dir() {
        return Err(Error::config(format!("{} is a folder; give a file name", path.display())));
    }
    if path.file_name().is_none() {
        return Err(Error::config(format!("{} is not a file name", path.display())));
    }
    let write = || {
        let temporary = Temporary::create(layer::folder_of(path))?;
        let mut file = BufWriter::with_capacity(1 << 16, temporary);
        content(&mut file)?;
        file.into_inner().map_err(|e| e.into_error())?.rename(path)
    };
    write().map_err(Error::io("cannot write", path))?;
    layer::sync_entry(path)
}

/// True for what a killed process left half written, and for nothing that anybody else has made.
pub(super) fn is_leftover(entry: &DirEntry) -> bool {
    let plain = entry.file_type().is_ok_and(|kind| kind.is_file());
    plain
        && entry.file_name().to_str().is_some_and(|name| is_temporary(name) || was_temporary(name))
}

fn is_temporary(name: &str) -> bool {
    let random = name.strip_prefix(PREFIX).and_then(|rest| rest.strip_suffix(SUFFIX));
    random.is_some_and(|r| r.len() == RANDOM && r.bytes().all(|b| b.is_ascii_alphanumeric()))
}

/// Files of a run that version 1 wrote through `.NAME.PID.tmp`.
const WRITTEN: [&str; 5] =
    ["config.toml", "config.json", "model.safetensors", "report.html", "summary.json"];

fn was_temporary(name: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let inner = name.strip_prefix('.').and_then(|rest| rest.strip_suffix(SUFFIX));
    let Some((file, process)) = inner.and_then(|inner| inner.rsplit_once('.')) else {
        return false;
    };
    let step = file.strip_prefix("step-").and_then(|rest| rest.strip_suffix(".safetensors"));
    digits(process) && (WRITTEN.contains(&file) || step.is_some_and(digits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_names_are_leftovers() {
        for name in [".beit-0123456789abcdEF.tmp", ".step-0000000012.safetensors.4711.tmp"] {
            assert!(is_temporary(name) || was_temporary(name), "{name}");
        }
        assert!(WRITTEN.iter().all(|name| was_temporary(&format!(".{name}.1.tmp"))));
        for name in [
            ".notes.tmp",
            ".tmp",
            ".beit-.tmp",
            ".beit-notes.tmp",
            ".beit-0123456789abcd_F.tmp",
            ".x.png.17.tmp",
            ".config.toml.tmp",
            ".config.toml.old.tmp",
            ".step-old.safetensors.17.tmp",
            "config.toml.17.tmp",
        ] {
            assert!(!is_temporary(name) && !was_temporary(name), "{name}");
        }
    }
}
