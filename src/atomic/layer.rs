//! The operations on files by which a run folder changes: nothing is created over something else, no link
//! leads out of the folder, and what was created is synced. Tests have a record of them all.

use super::early::EarlySync;
#[cfg(test)]
use super::record::{FileOp, done};
use crate::error::{Error, Result};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// Beginning of the names of temporary files.
pub(super) const PREFIX: &str = ".beit-";
/// End of the names of temporary files.
pub(super) const SUFFIX: &str = ".tmp";
/// Random letters and digits between them.
pub(super) const RANDOM: usize = 16;

/// A new file under a name that nobody can foresee; it is removed unless it gets another.
pub(super) struct Temporary {
    /// Ends before the file is removed.
    early: EarlySync,
    file: NamedTempFile,
}

impl Temporary {
    pub(super) fn create(folder: &Path) -> io::Result<Self> {
        let mut builder = tempfile::Builder::new();
        builder.prefix(PREFIX).suffix(SUFFIX).rand_bytes(RANDOM);
        // As any other file, not for the owner alone.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let file = builder.tempfile_in(folder)?;
        #[cfg(test)]
        done(FileOp::Create(file.path().into()));
        Ok(Self { early: EarlySync::default(), file })
    }

    /// Writes over its first bytes; nothing of a run folder is written so, and no record is made of it.
    pub(super) fn overwrite_start(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(bytes)
    }

    /// Makes the content durable and gives it the name `path`, replacing what had that name.
    pub(super) fn rename(mut self, path: &Path) -> io::Result<()> {
        self.early.finish()?;
        self.file.as_file().sync_all()?;
        #[cfg(test)]
        let own = self.file.path().to_path_buf();
        self.file.persist(path).map_err(|e| e.error)?;
        #[cfg(test)]
        {
            done(FileOp::Sync(own.clone()));
            done(FileOp::Rename(own, path.into()));
        }
        Ok(())
    }
}

impl Write for Temporary {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        #[cfg(test)]
        done(FileOp::Write(self.file.path().into(), bytes[..count].into()));
        self.early.written(self.file.as_file(), count)?;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// A file of a run folder to which lines or records are appended.
#[derive(Debug)]
pub(crate) struct Growing {
    path: PathBuf,
    file: File,
}

impl Growing {
    /// Opens the file, and creates it where there is none.
    pub(crate) fn open(path: PathBuf) -> Result<Self> {
        let mut options = OpenOptions::new();
        let file = open_own(options.create(true).read(true).append(true), &path)?;
        #[cfg(test)]
        done(FileOp::Create(path.clone()));
        Ok(Self { path, file })
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Everything in it; for a file that was just opened.
    pub(crate) fn content(&mut self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.file.read_to_end(&mut bytes).map_err(Error::io("cannot read", &self.path))?;
        Ok(bytes)
    }

    /// Length in bytes.
    pub(crate) fn length(&self) -> Result<u64> {
        Ok(self.file.metadata().map_err(Error::io("cannot read", &self.path))?.len())
    }

    /// Cuts it to this length.
    pub(crate) fn cut(&mut self, length: u64) -> Result<()> {
        self.file.set_len(length).map_err(Error::io("cannot write", &self.path))?;
        #[cfg(test)]
        done(FileOp::Cut(self.path.clone(), length));
        Ok(())
    }

    /// Adds to its end.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(Error::io("cannot write", &self.path))?;
        #[cfg(test)]
        done(FileOp::Write(self.path.clone(), bytes.into()));
        Ok(())
    }

    /// Makes its content durable.
    pub(crate) fn sync(&mut self) -> Result<()> {
        self.file.sync_data().map_err(Error::io("cannot write", &self.path))?;
        #[cfg(test)]
        done(FileOp::Sync(self.path.clone()));
        Ok(())
    }
}

/// Opens a plain file of a run folder for writing. A link is never followed: Unix refuses it while it
/// opens; elsewhere it is looked for just before, which somebody quick may get past.
pub(crate) fn open_own(options: &mut OpenOptions, path: &Path) -> Result<File> {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(options, libc::O_NOFOLLOW);
    match std::fs::symlink_metadata(path) {
        Ok(about) if !about.is_file() => Err(Error::format(
            path,
            "a link, a folder or a device where a run keeps a file of its own; move it away",
        )),
        _ => options.open(path).map_err(Error::io("cannot write", path)),
    }
}

/// Creates a folder inside a run folder, where it must not be a link.
pub(crate) fn make_own_folder(path: &Path) -> Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(about) if !about.is_dir() => {
            let text = "a link or a file where a run keeps a folder of its own; move it away";
            Err(Error::format(path, text))
        }
        _ => make_folders(path),
    }
}

/// Creates a folder with all that it lies in, each entry durable.
pub(crate) fn make_folders(path: &Path) -> Result<()> {
    if path.as_os_str().is_empty() || path.is_dir() {
        return Ok(());
    }
    if let Some(above) = path.parent() {
        make_folders(above)?;
    }
    match std::fs::create_dir(path) {
        // Somebody else was quicker.
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
        made => made.map_err(Error::io("cannot create", path))?,
    }
    #[cfg(test)]
    done(FileOp::MakeFolder(path.into()));
    sync_entry(path)
}

/// Removes a file.
pub(crate) fn remove(path: &Path) -> Result<()> {
    std::fs::remove_file(path).map_err(Error::io("cannot remove", path))?;
    #[cfg(test)]
    done(FileOp::Remove(path.into()));
    Ok(())
}

/// Gives a file another name in its folder.
pub(crate) fn rename(path: &Path, to: &Path) -> Result<()> {
    std::fs::rename(path, to).map_err(Error::io("cannot rename", path))?;
    #[cfg(test)]
    done(FileOp::Rename(path.into(), to.into()));
    sync_entry(to)
}

/// Makes the name `path` durable in the folder that holds it.
pub(crate) fn sync_entry(path: &Path) -> Result<()> {
    sync_folder(folder_of(path))
}

/// The folder that `path` is an entry of.
pub(super) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(above) if !above.as_os_str().is_empty() => above,
        _ => Path::new("."),
    }
}

/// Makes the entries of a folder durable. Only Unix can open a folder for this, and only one that may be
/// read.
pub(crate) fn sync_folder(folder: &Path) -> Result<()> {
    if !cfg!(unix) {
        return Ok(());
    }
    match File::open(folder) {
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        opened => {
            opened.and_then(|f| f.sync_all()).map_err(Error::io("cannot sync", folder))?;
            #[cfg(test)]
            done(FileOp::SyncFolder(folder.into()));
            Ok(())
        }
    }
}
