//! Files that appear complete or not at all, whatever happens in between.
//!
//! Temporary file in the same folder, sync, rename, sync of the folder: after a crash the name
//! leads to the old content or to the new, and after the call returns it leads to the new. What is large is
//! synced while it is written, too.

mod early;
pub(crate) mod layer;
#[cfg(test)]
pub(crate) mod record;

use crate::error::{Error, Result};
use layer::{PREFIX, RANDOM, SUFFIX, Temporary};
use serde::Serialize;
use std::fs::DirEntry;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// Writes `bytes` to `path`, replacing what was there in one step.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    write_atomic_with(path, |file| file.write_all(bytes))
}

/// Writes plain numbers and names as indented JSON with a line break at the end.
pub fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value).expect("plain numbers and names");
    write_atomic(path, format!("{text}\n").as_bytes())
}

/// Like [`write_atomic`] for content that is produced while it is written.
pub fn write_atomic_with(
    path: &Path,
    content: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
) -> Result<()> {
    refuse_no_file(path)?;
    let write = || {
        let temporary = Temporary::create(layer::folder_of(path))?;
        let mut file = BufWriter::with_capacity(1 << 16, temporary);
        content(&mut file)?;
        file.into_inner().map_err(|e| e.into_error())?.rename(path)
    };
    write().map_err(Error::io("cannot write", path))?;
    layer::sync_entry(path)
}

fn refuse_no_file(path: &Path) -> Result<()> {
    if path.is_dir() {
        return Err(Error::config(format!("{} is a folder; give a file name", path.display())));
    }
    if path.file_name().is_none() {
        return Err(Error::config(format!("{} is not a file name", path.display())));
    }
    Ok(())
}

/// A file that is written piece by piece and has its name once it is finished; until then, and for ever where
/// it is dropped before, what had that name stays.
pub struct PendingFile {
    file: BufWriter<Temporary>,
    path: PathBuf,
}

impl PendingFile {
    /// Begins the file that is to be `path`.
    pub fn create(path: &Path) -> Result<Self> {
        refuse_no_file(path)?;
        let file = Temporary::create(layer::folder_of(path));
        let file = file.map_err(Error::io("cannot write", path))?;
        Ok(Self { file: BufWriter::with_capacity(1 << 16, file), path: path.to_path_buf() })
    }

    /// Adds to its end.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(Error::io("cannot write", &self.path))
    }

    /// Makes it durable and gives it its name.
    pub fn finish(self) -> Result<()> {
        self.finish_beginning_with(&[])
    }

    /// The same with its first bytes replaced by these, of which there are no more than it has.
    pub fn finish_beginning_with(self, bytes: &[u8]) -> Result<()> {
        let Self { file, path } = self;
        let write = || {
            let mut temporary = file.into_inner().map_err(|e| e.into_error())?;
            temporary.overwrite_start(bytes)?;
            temporary.rename(&path)
        };
        write().map_err(Error::io("cannot write", &path))?;
        layer::sync_entry(&path)
    }
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
    fn a_pending_file_is_there_complete_or_not_at_all() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("x");
        std::fs::write(&path, "old").unwrap();
        let mut dropped = PendingFile::create(&path).unwrap();
        dropped.append(b"half").unwrap();
        drop(dropped);
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        let mut file = PendingFile::create(&path).unwrap();
        file.append(b"??, two").unwrap();
        file.append(b", three").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        file.finish_beginning_with(b"01").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"01, two, three");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(PendingFile::create(folder.path()).is_err());
    }

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
