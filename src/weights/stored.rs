//! The bytes of an open file, read at their places and never all at once.

use crate::error::{Error, Result};
use std::fs::{File, Metadata};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Most bytes that are read at a time: they are still in the cache when they are summed and written.
const PIECE: usize = 1 << 18;

/// A file that was opened once. One that changes afterwards is refused from then on, so that what was checked and what
/// is read later are the same; another file under its name is none of its business.
#[derive(Debug)]
pub(super) struct StoredBytes {
    path: PathBuf,
    file: File,
    length: usize,
    modified: Option<SystemTime>,
}

impl StoredBytes {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let unread = Error::io("cannot read", path);
        let opened = File::open(path).and_then(|file| Ok((file.metadata()?, file)));
        let (about, file) = opened.map_err(unread)?;
        let too_long = |_| Error::format(path, "is too long for a machine of 32 bits");
        let (length, modified) = (about.len().try_into().map_err(too_long)?, modified(&about));
        Ok(Self { path: path.to_path_buf(), file, length, modified })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of the file.
    pub(super) fn length(&self) -> usize {
        self.length
    }

    /// The bytes of a part, which lies within the file.
    pub(super) fn part(&self, range: Range<usize>) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let too_large = |_| {
            let text = format!("{} bytes do not fit in memory", range.len());
            Error::format(&self.path, text)
        };
        bytes.try_reserve_exact(range.len()).map_err(too_large)?;
        bytes.resize(range.len(), 0);
        self.fill(range.start, &mut bytes)?;
        self.unchanged()?;
        Ok(bytes)
    }

    /// The same, for readers that say in words what is wrong with their file.
    pub(super) fn part_or_why(&self, range: Range<usize>) -> Result<Vec<u8>, String> {
        self.part(range).map_err(|e| e.to_string())
    }

    /// Gives the bytes of a part to `each`, in pieces whose lengths are multiples of 64, but for the last one.
    pub(super) fn pieces(
        &self,
        range: Range<usize>,
        each: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let mut buffer = vec![0; range.len().min(PIECE)];
        for at in range.clone().step_by(PIECE) {
            let piece = &mut buffer[..(range.end - at).min(PIECE)];
            self.fill(at, piece)?;
            each(piece)?;
        }
        self.unchanged()
    }

    fn fill(&self, at: usize, bytes: &mut [u8]) -> Result<()> {
        read_exact_at(&self.file, bytes, at as u64).map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => self.changed(),
            _ => Error::io("cannot read", &self.path)(e),
        })
    }

    /// Refuses a file that was written to since it was opened.
    fn unchanged(&self) -> Result<()> {
        let about = self.file.metadata().map_err(Error::io("cannot read", &self.path))?;
        match about.len() == self.length as u64 && modified(&about) == self.modified {
            true => Ok(()),
            false => Err(self.changed()),
        }
    }

    fn changed(&self) -> Error {
        Error::format(&self.path, "changed while it was read; try again once nobody writes to it")
    }
}

/// Nothing where the system does not know.
fn modified(about: &Metadata) -> Option<SystemTime> {
    about.modified().ok()
}

#[cfg(unix)]
fn read_exact_at(file: &File, bytes: &mut [u8], at: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, at)
}

#[cfg(windows)]
fn read_exact_at(file: &File, mut bytes: &mut [u8], mut at: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, bytes, at) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => (bytes, at) = (&mut bytes[count..], at + count as u64),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_part_comes_whole_or_in_pieces() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        let all: Vec<u8> = (0..PIECE * 2 + 7).map(|i| (i % 251) as u8).collect();
        std::fs::write(&path, &all).unwrap();
        let stored = StoredBytes::open(&path).unwrap();
        assert_eq!(stored.length(), all.len());
        for range in [0..0, 3..4, 5..PIECE + 5, 1..all.len()] {
            let (mut found, mut lengths) = (Vec::new(), Vec::new());
            let kept = stored.pieces(range.clone(), &mut |piece| {
                lengths.push(piece.len());
                found.extend_from_slice(piece);
                Ok(())
            });
            kept.unwrap();
            assert!(
                found == all[range.clone()] && stored.part(range.clone()).unwrap() == all[range]
            );
            assert!(lengths.iter().rev().skip(1).all(|length| *length == PIECE), "{lengths:?}");
        }
    }

    #[test]
    fn what_is_written_to_meanwhile_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        std::fs::write(&path, [7; 100]).unwrap();
        let stored = StoredBytes::open(&path).unwrap();
        // Another file under the name is not the one that was opened.
        std::fs::rename(&path, folder.path().join("g")).unwrap();
        std::fs::write(&path, [8; 100]).unwrap();
        assert_eq!(stored.part(90..100).unwrap(), [7; 10]);
        let file = File::options().write(true).open(folder.path().join("g")).unwrap();
        let later = stored.modified.unwrap() + std::time::Duration::from_secs(2);
        (&file).write_all(&[9]).unwrap();
        file.set_modified(later).unwrap();
        let text = |outcome: Result<Vec<u8>>| outcome.unwrap_err().to_string();
        assert!(text(stored.part(90..100)).contains("f: changed while it was read"));
        file.set_len(50).unwrap();
        assert!(text(stored.part(90..100)).contains("f: changed while it was read"));
        let outcome = stored.pieces(0..10, &mut |_| Ok(())).unwrap_err().to_string();
        assert!(outcome.contains("changed while it was read"), "{outcome}");
    }
}
