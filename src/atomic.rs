//! Files that appear complete or not at all, whatever happens in between.
//!
//! Temporary file in the same folder, sync, rename, sync of the folder: after a crash the name
//! leads to the old content or to the new, and after the call returns it leads to the new.

use crate::error::{Error, Result};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

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
    let temporary = temporary(path)?;
    let written =
        write_synced(&temporary, content).and_then(|()| std::fs::rename(&temporary, path));
    if let Err(e) = written {
        // Best effort: the error of the write is what matters.
        let _ = std::fs::remove_file(&temporary);
        return Err(Error::io("cannot write", path)(e));
    }
    sync_folder(path)
}

/// True for names that [`write_atomic`] uses while it writes; after a kill they may be left over.
pub(super) fn is_temporary(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(".tmp")
}

fn temporary(path: &Path) -> Result<PathBuf> {
    let Some(name) = path.file_name() else {
        return Err(Error::config(format!("{} is not a file name", path.display())));
    };
    let name = format!(".{}.{}.tmp", name.to_string_lossy(), std::process::id());
    Ok(path.with_file_name(name))
}

fn write_synced(
    path: &Path,
    content: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
) -> std::io::Result<()> {
    let mut file = BufWriter::with_capacity(1 << 16, File::create(path)?);
    content(&mut file)?;
    file.into_inner().map_err(|e| e.into_error())?.sync_all()
}

/// Makes a rename in the folder of `path` durable. Only Unix can open a folder for this.
fn sync_folder(path: &Path) -> Result<()> {
    if !cfg!(unix) {
        return Ok(());
    }
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(folder).and_then(|f| f.sync_all()).map_err(Error::io("cannot sync", folder))
}
